"""What FrugalGPT divides before it learns, what its encoder reads, and under what an answer is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter
from septet.core.method import Rng
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query
from septet.parts.learning.adam import sigmoid
from septet.parts.routing.records import answered, unit_cost

_PER_TOKEN = 4
"""Characters of a token, roughly: the encoder's share of a text is cut by it."""


@dataclass(frozen=True)
class Divided:
    """The answers that are learned from, one of each member to each question: `rows` (r) with their `cost` (r,) in
    `unit`; `for_scorer` (r,) is true for those that teach the scorer, the others set list and thresholds."""

    rows: Table
    cost: Floats
    unit: str
    for_scorer: NDArray[np.bool_]

    @classmethod
    def of(cls, table: Table, share: float, budget_usd: float | None, rng: Rng) -> Divided:
        """Whole questions are on one side or the other; `share` of them teach the scorer."""
        rows = answered(table)
        unit, cost = unit_cost(rows)
        if budget_usd is not None and unit != "usd":
            raise BadParameter("budget_usd", budget_usd, "needs outcomes that give cost_usd for every answer")
        shuffled = rng.permutation(len(table.queries))
        return cls(rows, cost, unit, np.isin(rows.query, shuffled[: round(share * len(shuffled))]))

    @property
    def right(self) -> NDArray[np.bool_]:
        """(r,) whether an answer counts as right."""
        found: NDArray[np.bool_] = self.rows.score >= 0.5
        return found

    def texts(self, n_tokens: int) -> list[str]:
        """What an encoder reads of each row."""
        return [
            read_by_encoder(self.rows.questions[q], str(text), n_tokens)
            for q, text in zip(self.rows.query, self.rows.text, strict=True)
        ]


def read_by_encoder(question: str, answer: str, n_tokens: int) -> str:
    """Question and answer as one text of about `n_tokens`, of which the question has half at most.

    >>> read_by_encoder("How long is this question?", "It is short.", 8)
    'How long is this\\nIt is short.'
    """
    most = n_tokens * _PER_TOKEN
    asked = question[: most // 2]
    return f"{asked}\n{answer[: most - len(asked)]}"


def trusted(logits: Floats) -> Floats:
    """The probabilities of an encoder's logits, to six digits.

    An encoder says the same of a text to seven digits only, as batches have other shapes; a threshold that a repeated
    text has set would otherwise refuse that very text.

    >>> float(trusted(np.array(3.0)))
    0.952574
    """
    found: Floats = np.round(sigmoid(logits), 6)
    return found


@dataclass(frozen=True)
class Completed:
    """An answer to be kept: the question, its embedding `row` (d,), d = 0 without an embedder, the text, and whose it
    is under which settings."""

    question: str
    row: Floats
    text: str
    setting: str


def setting_of(query: Query) -> str | None:
    """Whose question it is and what else an answer depends on, as one string; None: nothing is kept of such.

    That is a raw prompt, an answer to be continued, a question within a conversation, and what comes with tools,
    formats or images. Temperature and seed are left out: the kept answer is one of those that might be drawn.

    >>> setting_of(Query.of("2+3?", tenant="ada", max_tokens=9))
    '["ada", [], 9, [], [], ""]'
    >>> setting_of(Query(raw="2+3=")) is None
    True
    """
    questions = [m for m in query.messages if m.role == "user"]
    instructions = [m.content for m in query.messages if m.role == "system"]
    plain = len(questions) == 1 and len(questions) + len(instructions) == len(query.messages)
    extra = query.extra or any(m.extra for m in query.messages)
    if query.raw is not None or query.prefix or extra or not plain:
        return None
    task = query.task or ""
    held = [query.tenant, instructions, query.max_tokens, list(query.stop), list(query.until), task]
    return json.dumps(held, ensure_ascii=False)


def worth_keeping(completion: Completion) -> bool:
    """Whether an answer came to its end and says something."""
    return completion.finish == "stop" and bool(completion.text.strip())
