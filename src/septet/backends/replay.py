"""Recorded answers in place of a model: what a member of an outcome table said, with what it took and cost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import numpy as np

from septet.backends._unable import Unable
from septet.core.backend import Backend, BackendCard, MemberSpec, Place, backend
from septet.core.caps import Caps
from septet.core.errors import BackendError, BadParameter, ConfigError, UnknownName
from septet.core.method import param
from septet.core.money import Price, Usage
from septet.core.session import Session, Vocab
from septet.core.table import Table
from septet.core.types import Completion, Metered, Piece, Query, Tokens

OFFERS = Caps(text=True, samples=True, seed=True, stream=True)


@backend(
    BackendCard(
        title="Replayed outcomes",
        offers="text and streams of the questions in a table, drawn among the recorded samples by seed",
        tested=("tables written in its tests",),
    )
)
class Replay(Backend):
    """Which table, and whose answers in it. Prompt template and sampling options of a member have no effect,
    since the answers are given; only `seed` has."""

    table: Annotated[
        str,
        param(
            "A JSONL file of outcomes; a relative path starts at the configuration's folder.", min_length=1
        ),
    ]
    model: Annotated[str, param("The name in the table; empty: the member's own name.")] = ""
    split: Annotated[str, param("Only the questions of this split; empty: all.")] = ""

    def connect(self, place: Place) -> ReplayEndpoint:
        """Finds the table, so that a wrong path is an error now; it is read at the first question."""
        path = Path(place.folder, self.table)
        if not path.is_file():
            raise ConfigError(f"replay.table: there is no file {path}")
        return ReplayEndpoint(path, self.model, self.split)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A table and where each question stands in it: {member: {question: rows}}, questions in plain words."""

    table: Table
    rows: dict[str, dict[str, list[int]]]


class ReplayEndpoint:
    """One table, read once for all its members."""

    def __init__(self, path: Path, model: str, split: str) -> None:
        self.path, self.model, self.split = path, model, split
        self._recorded: Recorded | None = None

    def caps(self) -> Caps:
        """Text only: nothing can be asked that was not recorded."""
        return OFFERS

    def member(self, spec: MemberSpec) -> ReplayActor:
        """A member; the table is not read yet."""
        return ReplayActor(self, spec, self.model or spec.name)

    @property
    def recorded(self) -> Recorded:
        """The table, read at the first use."""
        if self._recorded is None:
            self._recorded = _read(self.path, self.split)
        return self._recorded

    def rows(self, model: str, question: str) -> list[int]:
        """The rows of a question with a text, by sample; the errors name the question and the table."""
        rows = self.recorded.rows
        if model not in rows:
            raise UnknownName("model in the table", model, rows, str(self.path))
        found = rows[model].get(plain_words(question))
        if not found:
            place = f" (split {self.split!r})" if self.split else ""
            raise BackendError(
                f"{self.path}{place} has no answer of {model!r} to {_short(question)!r}", status=404
            )
        return found

    async def aclose(self) -> None:
        """Forgets the table."""
        self._recorded = None


class ReplayActor(Unable):
    """A member of a table. Sample j of a query is drawn with rng([seed, crc32(query id), j])."""

    def __init__(self, endpoint: ReplayEndpoint, spec: MemberSpec, model: str) -> None:
        self._endpoint, self._spec, self._model = endpoint, spec, model

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def caps(self) -> Caps:
        return OFFERS

    @property
    def price(self) -> Price | None:
        return self._spec.price

    @property
    def vocab(self) -> Vocab | None:
        return None

    @property
    def stop(self) -> tuple[str, ...]:
        return ()

    async def complete(self, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
        """n recorded answers, drawn with replacement. Where one was recorded, every sample is it."""
        if query.prefix or logprobs or query.extra:
            asked = "continues" if query.prefix else "logprobs" if logprobs else "tools"
            raise self._lacks(asked)
        rows = self._endpoint.rows(self._model, query.text)
        table = self._endpoint.recorded.table
        seed = self._spec.defaults.seed if query.seed is None else query.seed
        key = crc32(table.queries[table.query[rows[0]]].encode())
        drawn = [rows[int(np.random.default_rng([seed, key, j]).integers(len(rows)))] for j in range(n)]
        return [self._completion(table, row, j) for j, row in enumerate(drawn)]

    async def stream(self, query: Query) -> AsyncIterator[Piece | Completion]:
        """The whole text as one piece."""
        found = (await self.complete(query))[0]
        if found.text:
            yield Piece(found.text, {self.name: 1.0})
        yield found

    def _completion(self, table: Table, row: int, sample: int) -> Completion:
        """A row as a completion; what was not recorded (NaN) counts as nothing, and is named in `extra`."""
        known = {name: float(column[row]) for name, column in table.numbers.items()}
        given = {name: value for name, value in known.items() if not np.isnan(value)}
        prompt, own = int(given.get("prompt_tokens", 0)), int(given.get("completion_tokens", 0))
        extra: dict[str, Any] = {
            "query_id": table.queries[table.query[row]],
            "sample_id": int(table.sample[row]),
        }
        extra |= {name: given[name] for name in ("usd", "score", "logp") if name in given}
        missing = [n for n in ("usd", "prompt_tokens", "completion_tokens", "seconds") if n not in given]
        return Completion(
            member=self.name,
            text=str(table.text[row]),
            usage=Usage(prompt, own, 0, prompt + own),
            usd=given.get("usd", 0.0),
            seconds=given.get("seconds", 0.0),
            confidence=given.get("confidence"),
            sample=sample,
            extra=extra | ({"notes": [f"not recorded: {', '.join(missing)}"]} if missing else {}),
        )

    async def open(self, query: Query, *, scored: bool = False) -> Session:
        """Not offered: only whole answers were recorded."""
        raise self._lacks("topk")

    async def score(self, query: Query, texts: Sequence[str]) -> Metered[list[Tokens]]:
        """Not offered."""
        raise self._lacks("score")

    async def aclose(self) -> None:
        """Forgets the table, for all members of the endpoint."""
        await self._endpoint.aclose()

    def _lacks(self, ability: str, detail: str = "") -> BackendError:
        return BackendError(f"{self.name} replays recorded answers and does not offer {ability}", status=400)


def plain_words(text: str) -> str:
    """A question without differences in white space.

    >>> plain_words(" What is\\n2 + 3? ")
    'What is 2 + 3?'
    """
    return " ".join(text.split())


def _read(path: Path, split: str) -> Recorded:
    """The table of a file, and its rows with a text by member and question, in the order of the samples."""
    try:
        with path.open(encoding="utf-8") as lines:
            table = Table.of_lines(lines, path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"replay.table: {path} cannot be read: {error}") from None
    if split and split not in table.splits:
        raise BadParameter("replay.split", split, f"must be among {sorted(set(table.splits))} of {path.name}")
    rows: dict[str, dict[str, list[int]]] = {member: {} for member in table.members}
    for row in np.argsort(table.sample, kind="stable").tolist():
        query = int(table.query[row])
        if table.text[row] is None or (split and table.splits[query] != split):
            continue
        question = plain_words(table.questions[query] or table.queries[query])
        rows[table.members[table.member[row]]].setdefault(question, []).append(row)
    return Recorded(table, rows)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
