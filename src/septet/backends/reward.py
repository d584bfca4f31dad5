"""A reward model or process reward model in this process: a sequence classifier from a local folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np

from septet.backends._one_thread import OneThread
from septet.backends._reward_model import RewardModel, RewardSource, ratings
from septet.backends._silent import Silent
from septet.core.backend import Backend, BackendCard, MemberSpec, Place, backend
from septet.core.caps import Caps
from septet.core.errors import BadParameter, ConfigError
from septet.core.method import param
from septet.core.money import Usage
from septet.core.types import Floats, Metered, Query
from septet.parts.decoding.tree import OverSteps, over_steps

T = TypeVar("T")


@backend(
    BackendCard(
        title="a reward model in this process",
        offers="ratings in 0..1 of texts as answers, whole or step by step",
        extra="hf",
        tested=(
            "transformers 5.24 with torch 2.13 on CPU",
            "a BERT of two labels and a Llama of one, of two layers with random weights",
        ),
    )
)
class Reward(Backend):
    """Where the classifier is, and how its outputs become one rating.

    A folder holds `config.json` of an architecture `…ForSequenceClassification`, `tokenizer.json` and the weights
    as safetensors; nothing is downloaded. It reads the question and the text: as a conversation where its
    tokenizer has a chat template, else as a pair. A sole output becomes its sigmoid; of several labels one has
    its softmax share. A step is a line: with a rule other than `last` each step is rated with all before it, in
    as many forwards, and the rule makes one rating of them. What is too long for the model is an error, not cut.
    A special token that stands in a text is read as that token. Models that rate every step at a mark of its own
    in one forward (token classifiers, language models that say + or -) are not of this kind.
    """

    model: Annotated[str, param("The model's folder; a relative path starts at the configuration's.")] = ""
    over: Annotated[
        OverSteps,
        param("What a text of several steps is rated: its last step, its worst, or their product or mean."),
    ] = "last"
    label: Annotated[
        int | None, param("Which label's probability is the rating; the last one unless given.", ge=0)
    ] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda"], param("Where it runs; auto: on the GPU where torch sees one.")
    ] = "auto"
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], param("The precision of its weights.")] = (
        "float32"
    )
    threads: Annotated[int, param("Threads of torch in this process, on the CPU.", ge=1, le=256)] = 1
    max_length: Annotated[
        int | None, param("Tokens of question and text at most; unless given, as its files say.", ge=8)
    ] = None
    batch: Annotated[int, param("Texts that are read at once.", ge=1, le=1024)] = 8

    def connect(self, place: Place) -> RewardEndpoint:
        """Finds the files and reads their facts; loads nothing."""
        if not self.model:
            raise BadParameter("reward.model", self.model, "must be a model's folder")
        source = source_of(self.model, Path(place.folder, Path(self.model).expanduser()))
        if self.label is not None and self.label >= source.labels:
            raise BadParameter(
                "reward.label",
                self.label,
                f"must be one of the model's {source.labels} labels, counted from 0",
            )
        if self.max_length and source.positions and self.max_length > source.positions:
            raise BadParameter(
                "reward.max_length",
                self.max_length,
                f"must be at most {source.positions} tokens, its own number",
            )
        return RewardEndpoint(self, source)


class RewardEndpoint(OneThread[RewardModel]):
    """One classifier, loaded at the first request, on one worker thread."""

    def __init__(self, options: Reward, source: RewardSource) -> None:
        super().__init__("reward model")
        self.options, self.source = options, source

    def caps(self) -> Caps:
        """Ratings, and nothing else."""
        return Caps(rate=True)

    def member(self, spec: MemberSpec) -> RewardActor:
        """A member; nothing is loaded."""
        return RewardActor(self, spec)

    async def rated(self, query: Query, texts: Sequence[str]) -> Metered[Floats]:
        """(n, 1) ratings in 0..1. A text is read once where only its last step counts, else once per step."""
        options = self.options
        steps = [[text] if options.over == "last" else prefixes(text) for text in texts]
        flat = [prefix for some in steps for prefix in some]
        limit = options.max_length or self.source.positions

        def work() -> tuple[Floats, int]:
            return self._loaded().logits(query, flat, limit, options.batch)

        logits, n_tokens = await self._call(work)
        values = iter(ratings(logits, options.label))
        each = [np.array([next(values) for _ in some]) for some in steps]
        found = np.array([over_steps(some, options.over) for some in each]).reshape(-1, 1)
        return Metered(found, Usage(prompt_tokens=n_tokens, fed_tokens=n_tokens))

    async def ready(self) -> None:
        """Loads the classifier, if it is not yet."""
        await self._call(self._loaded)

    def _loaded(self) -> RewardModel:
        if self._model is None:
            own = self.options
            self._model = RewardModel(self.source, device=own.device, dtype=own.dtype, threads=own.threads)
        return self._model


class RewardActor(Silent):
    """A member of a reward endpoint: it rates, and writes nothing."""

    def __init__(self, endpoint: RewardEndpoint, spec: MemberSpec) -> None:
        super().__init__(spec)
        self._endpoint = endpoint

    @property
    def caps(self) -> Caps:
        return self._endpoint.caps()

    async def ready(self) -> None:
        """Loads the classifier, if it is not yet."""
        await self._endpoint.ready()

    async def rate(self, query: Query, texts: Sequence[str]) -> Metered[Floats]:
        """(n, 1) in 0..1: each text as the answer to the query."""
        return await self._endpoint.rated(query, texts)

    async def aclose(self) -> None:
        """Frees the classifier, for all members of the endpoint."""
        await self._endpoint.aclose()


def prefixes(text: str) -> list[str]:
    r"""The text up to the end of each of its steps, which are its lines that are not empty; at least one.

    >>> prefixes("a\n\nb\n"), prefixes("")
    (['a\n', 'a\n\nb\n'], [''])
    """
    lines = text.splitlines(keepends=True)
    found = ["".join(lines[: i + 1]) for i, line in enumerate(lines) if line.strip()]
    return found or [text]


def source_of(name: str, folder: Path) -> RewardSource:
    """The facts of a folder; one that holds no such classifier is an error now."""
    if not folder.is_dir():
        raise ConfigError(f"reward: there is no model folder {folder}")
    config = _config(folder)
    kinds = [str(kind) for kind in config.get("architectures") or ()]
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ConfigError(
            f"reward: the model in {folder} is no sequence classifier (its architecture is"
            f" {', '.join(kinds) or 'not named'}); name a folder of a …ForSequenceClassification"
        )
    if not (folder / "tokenizer.json").is_file():
        raise ConfigError(f"reward: the model folder {folder} has no tokenizer.json")
    if not any(folder.glob("model*.safetensors")):
        raise ConfigError(f"reward: the model folder {folder} has no weights (model.safetensors)")
    facts = config.get("text_config", config)
    return RewardSource(
        name=name,
        folder=folder,
        positions=int(facts.get("max_position_embeddings") or 0),
        # transformers writes the names of the labels, but not that there are two where nothing else was said
        labels=len(config["id2label"]) if config.get("id2label") else int(config.get("num_labels") or 2),
    )


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"reward: the model folder {folder} has no config.json") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"reward: cannot read {file}: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"reward: cannot read {file}: it is no JSON object")
    return found
