"""A transformers model in this process: a folder, a downloaded hub model, or a GGUF file, on CPU or GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from septet.backends._gguf_package import file_in_package
from septet.backends._hf_model import Tokenizer, Wanted, load_model
from septet.backends._hf_runtime import HfRuntime
from septet.backends._hf_source import Source, folder_source, gguf_source
from septet.backends._local import LocalActor, LocalEndpoint, whole_model
from septet.backends._unable import refuse_chat
from septet.core.backend import Backend, BackendCard, MemberSpec, Place, backend
from septet.core.errors import BackendError, BadParameter
from septet.core.method import param

_CONTEXT = 4096


@backend(
    BackendCard(
        title="transformers in this process",
        offers="text, sessions with the whole next-token distribution, scores, hidden states, matrices",
        extra="hf",
        tested=(
            "transformers 5.24 with torch 2.13 on CPU",
            "SmolLM2-135M-Instruct from its GGUF file (byte-level BPE, ChatML)",
            "sliding-window attention: a Gemma 3 of two layers with random weights",
        ),
    )
)
class Hf(Backend):
    """Where the model is, and on what it runs.

    Nothing is downloaded: a name on the hub is looked up in the hub's cache. `layers` makes a weaker member
    of the same vocabulary out of a model. A GGUF file takes transformers half a minute and more to read, and
    its weights are held in `dtype`, not quantised. `deterministic`: feeding tokens one by one or several at once is
    the same, to the bit; it sets torch's deterministic algorithms for the whole process.
    """

    model: Annotated[
        str,
        param("A model's folder (a relative path starts at the configuration's), or a downloaded hub name."),
    ] = ""
    package: Annotated[str, param("An installed package that carries one GGUF file.")] = ""
    gguf: Annotated[str, param("A GGUF file; a relative path starts at the configuration's folder.")] = ""
    device: Annotated[
        Literal["auto", "cpu", "cuda"], param("Where it runs; auto: on the GPU where torch sees one.")
    ] = "auto"
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], param("The type that the weights are held in.")
    ] = "float32"
    threads: Annotated[int, param("Threads of torch in this process, on the CPU.", ge=1, le=256)] = 1
    context: Annotated[
        int | None, param("Tokens of prompt and answer together; 4096, or the model's own if less.", ge=64)
    ] = None
    layers: Annotated[int | None, param("How many of its layers are used; all unless given.", ge=1)] = None
    deterministic: Annotated[bool, param("Equal tokens give equal bits, however they are fed.")] = False

    def __post_init__(self) -> None:
        given = {"model": self.model, "package": self.package, "gguf": self.gguf}
        if sum(map(bool, given.values())) != 1:
            raise BadParameter("hf", given, "must have exactly one of model, package and gguf")

    def prompt(self, place: Place) -> str:
        """ "chat" where the model has a chat template, "qa" for a base model."""
        return "chat" if self._source(place).template else "qa"

    def connect(self, place: Place) -> HfEndpoint:
        """Finds the files and reads their facts, so that a wrong one is an error now; loads nothing."""
        source = self._source(place)
        for option, value, limit in (
            ("context", self.context, source.context),
            ("layers", self.layers, source.layers),
        ):
            if value and limit and value > limit:
                rule = f"must be at most {limit}, which {source.name} has"
                raise BadParameter(f"hf.{option}", value, rule)
        return HfEndpoint(self, source)

    def _source(self, place: Place) -> Source:
        if self.model:
            return folder_source(self.model, place)
        if self.package:
            return gguf_source(file_in_package(self.package, place, backend="hf"))
        return gguf_source(Path(place.folder, self.gguf))


class HfActor(LocalActor):
    """A member that also shows the model's matrices."""

    def __init__(self, endpoint: HfEndpoint, spec: MemberSpec) -> None:
        super().__init__(endpoint, spec)
        self._hf = endpoint

    def matrix(self, side: Literal["input", "output"]) -> NDArray[np.float32]:
        """(V, d) the embeddings of the model's tokens; the model has to be loaded (`ready`)."""
        if not isinstance(self._hf.loaded, HfRuntime):
            raise BackendError(f"{self.name} is not loaded yet, so its matrices are not known")
        return self._hf.loaded.matrix(side)


class HfEndpoint(LocalEndpoint):
    """One model of transformers, loaded at the first request."""

    def __init__(self, options: Hf, source: Source) -> None:
        self._options, self._model_source = options, source
        self._context = options.context or min(_CONTEXT, source.context or _CONTEXT)
        super().__init__(whole_model(source.vocabulary, self._context, hidden=True, matrices=True))

    @property
    def vocabulary(self) -> str:
        """A hash of how the files describe the tokenizer."""
        return self._model_source.tokenizer

    def member(self, spec: MemberSpec) -> HfActor:
        """A member; one that asks a base model for a chat is refused here."""
        refuse_chat(spec, self._model_source.name, self._model_source.template)
        return HfActor(self, spec)

    def load(self) -> HfRuntime:
        """Loads the tokenizer, then the weights: what is wrong with the first is said within seconds."""
        options, source = self._options, self._model_source
        wanted = Wanted(
            device=options.device,
            dtype=options.dtype,
            threads=options.threads,
            layers=options.layers,
            deterministic=options.deterministic,
        )
        tokenizer = Tokenizer(source)
        model = load_model(source, wanted)
        return HfRuntime(model, tokenizer, source, context=self._context, deterministic=options.deterministic)
