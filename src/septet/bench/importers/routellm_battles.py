"""Battles as Chatbot Arena and RouteLLM (arXiv 2406.18665) publish them: two models, one prompt, who won."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from septet.bench.importers._rows import Record, first_of_list, records
from septet.core.errors import BadParameter
from septet.core.types import Battle

SENTENCE = (
    "Battles of RouteLLM and Chatbot Arena: model_a, model_b, prompt, and winner or winner_model_a/_b/_tie."
)

ONE_HOT = ("winner_model_a", "winner_model_b", "winner_tie")
TIES = ("tie", "tie (bothbad)")


def read(path: Path) -> list[Battle]:
    """The battles. Of a conversation, written as a list of turns, the first turn is the query."""
    return list(_battles(path))


def _battles(path: Path) -> Iterator[Battle]:
    for record in records(path):
        a, b = str(record.need("model_a")), str(record.need("model_b"))
        if a == b:
            raise BadParameter(f"{record.place}.model_b", b, "must be another model than model_a")
        prompt = record.need("prompt", "query")
        first = prompt[0] if isinstance(prompt, list) and prompt else first_of_list(str(prompt))
        yield Battle(str(first), a, b, {"model_a": a, "model_b": b, "tie": "tie"}[_winner(record)])


def _winner(record: Record) -> str:
    """model_a, model_b or tie."""
    said = record.get("winner")
    if said is None:
        marks = [record.number(name) for name in ONE_HOT]
        if marks.count(1.0) != 1 or marks.count(0.0) != 2:
            raise BadParameter(
                record.place, marks, f"must have winner, or exactly one 1 in {', '.join(ONE_HOT)}"
            )
        return ("model_a", "model_b", "tie")[marks.index(1.0)]
    if said in TIES:
        return "tie"
    for side in ("model_a", "model_b"):
        if said in (side, record.values[side]):
            return side
    raise BadParameter(f"{record.place}.winner", said, "must be model_a, model_b or tie")
