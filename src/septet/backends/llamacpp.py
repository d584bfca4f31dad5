"""A GGUF model in this process through llama.cpp, from a file or from an installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from septet.backends._gguf import Header, read_header
from septet.backends._gguf_layers import first_layers
from septet.backends._gguf_matrices import matrix
from septet.backends._gguf_package import file_in_package
from septet.backends._llama import Model
from septet.backends._llama_cache import vocabulary_of
from septet.backends._llama_runtime import LlamaRuntime
from septet.backends._local import LocalActor, LocalEndpoint, whole_model
from septet.backends._readings import gguf_reading
from septet.backends._unable import refuse_chat
from septet.core.backend import Backend, BackendCard, MemberSpec, Place, backend
from septet.core.errors import BadParameter
from septet.core.method import param

_CONTEXT = 4096
_SEQUENCES, _SEQUENCES_DETERMINISTIC = 16, 8


@backend(
    BackendCard(
        title="llama.cpp in this process",
        offers="text, sessions with the whole next-token distribution and hidden states, scores, matrices; chat",
        extra="llamacpp",
        tested=(
            "llama-cpp-python 0.3.36 on CPU",
            "SmolLM2-135M-Instruct Q4_1 (byte-level BPE, ChatML)",
            "Gemma 3 270M Q4_K_M (SentencePiece with byte fallback, no template, sliding window)",
        ),
    )
)
class Llamacpp(Backend):
    """Where the file is, and how much memory and how many threads its answers get.

    `deterministic`: the same query gives the same bits whatever else the model does meanwhile, and feeding
    tokens one by one or in small groups is the same. It keeps the weights on the CPU as they are in the
    file and gives each sequence a cache of its own, so it needs `sequences` × `context` tokens of memory
    (else 2 × `context`), and a fork copies its cache. `layers` makes a weaker member of the same vocabulary
    out of a model: a file with its first layers is written into the cache once. A prompt that is kept takes one of
    the `sequences` until another answer wants it, and is reused in whole
    decode calls only, so that when `deterministic` it changes no bit of an answer.
    """

    path: Annotated[str, param("A GGUF file; a relative path starts at the configuration's folder.")] = ""
    package: Annotated[str, param("An installed package that carries one GGUF file.")] = ""
    context: Annotated[
        int | None, param("Tokens of prompt and answer together; 4096, or the model's own if less.", ge=64)
    ] = None
    sequences: Annotated[
        int | None, param("Answers and forks at once; 16, or 8 when deterministic.", ge=1, le=256)
    ] = None
    threads: Annotated[
        int, param("Threads per model; more than idle cores makes it slower.", ge=1, le=256)
    ] = 1
    layers: Annotated[int | None, param("How many of its layers are used; all unless given.", ge=1)] = None
    prompts: Annotated[
        int,
        param(
            "Fed prompts that are kept: a later one with the same beginning feeds the rest only.", ge=0, le=64
        ),
    ] = 0
    deterministic: Annotated[bool, param("Answers do not depend on what else the model does.")] = False

    def __post_init__(self) -> None:
        if bool(self.path) == bool(self.package):
            given = {"path": self.path, "package": self.package}
            raise BadParameter("llamacpp", given, "must have exactly one of path and package")

    def prompt(self, place: Place) -> str:
        """ "chat" where the file has a chat template, "qa" for a base model."""
        return "chat" if self._header(place).template else "qa"

    def connect(self, place: Place) -> LlamaEndpoint:
        """Finds the file and reads its header, so that a wrong one is an error now; loads nothing."""
        header = self._header(place)
        if self.layers and header.layers and self.layers > header.layers:
            rule = f"must be at most {header.layers}, which {header.name} has"
            raise BadParameter("llamacpp.layers", self.layers, rule)
        return LlamaEndpoint(self, header, place.cache)

    def _header(self, place: Place) -> Header:
        return read_header(
            file_in_package(self.package, place) if self.package else Path(place.folder, self.path)
        )

    def tokens_of_context(self, header: Header) -> int:
        """How many tokens of prompt and answer its members hold."""
        if self.context and header.context and self.context > self.context_limit(header):
            rule = f"must be at most {header.context}, the context of {header.name}"
            raise BadParameter("llamacpp.context", self.context, rule)
        return self.context or min(_CONTEXT, self.context_limit(header))

    @staticmethod
    def context_limit(header: Header) -> int:
        """The context the model was made for; a file that does not say is taken at the default."""
        return header.context or _CONTEXT

    def sequence_count(self) -> int:
        """How many sequences may be open at once."""
        return self.sequences or (_SEQUENCES_DETERMINISTIC if self.deterministic else _SEQUENCES)


class LlamaActor(LocalActor):
    """A member that also shows the embeddings in its file."""

    def __init__(self, endpoint: LlamaEndpoint, spec: MemberSpec, header: Header) -> None:
        super().__init__(endpoint, spec)
        self._header = header

    def matrix(self, side: Literal["input", "output"]) -> NDArray[np.float32]:
        """(V, d) the embeddings of the tokens, dequantised: two seconds for 262,144 of them."""
        return matrix(self._header, side)


class LlamaEndpoint(LocalEndpoint):
    """One GGUF file, loaded at the first request."""

    def __init__(self, options: Llamacpp, header: Header, cache: Path) -> None:
        self._options, self._header, self._cache = options, header, cache
        self._context = options.tokens_of_context(header)
        super().__init__(whole_model(header.vocabulary, self._context, hidden=True, matrices=True))

    @property
    def vocabulary(self) -> str:
        """A hash of how the file describes its tokenizer."""
        return f"gguf:{self._header.tokenizer}" if self._header.tokenizer else ""

    def member(self, spec: MemberSpec) -> LlamaActor:
        """A member; one that asks a base model for a chat is refused here."""
        refuse_chat(spec, self._header.name, self._header.template)
        return LlamaActor(self, spec, self._header)

    def _file(self) -> Header:
        """The file as it is loaded: the model's own, or one with its first layers."""
        n_layers = self._options.layers
        if n_layers is None or n_layers == self._header.layers:
            return self._header
        return read_header(first_layers(self._header, n_layers, self._cache / "models"))

    def load(self) -> LlamaRuntime:
        """Loads the weights, and the vocabulary from the cache where it was read before."""
        model = Model(self._file(), deterministic=self._options.deterministic)
        try:
            vocab, template = vocabulary_of(model, self._cache)
            vocab.reading = gguf_reading(model)
            return LlamaRuntime(
                model,
                vocab,
                template,
                context=self._context,
                sequences=self._options.sequence_count(),
                threads=self._options.threads,
                deterministic=self._options.deterministic,
                prompts=self._options.prompts,
            )
        except BaseException:
            model.free()
            raise
