"""What a table of outcomes says about samples: per question and member, the final answers of all its samples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from septet.core.table import Table
from septet.core.types import Completion
from septet.parts.answers.extract import canonical
from septet.parts.answers.vote import NO_ANSWER, outcome


@dataclass
class Cell:
    """The samples of one member for one question, in the order of their numbers; a score is NaN where unknown."""

    outcomes: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


def cells_of(table: Table) -> list[list[Cell]]:
    """Per question, one cell per member in the table's order.

    An outcome is the recorded answer, written as final answers are, else what the text ends in; a row that has
    neither could not be read.
    """
    found = [[Cell() for _ in table.members] for _ in table.queries]
    for row in np.lexsort((table.sample, table.member, table.query)).tolist():
        cell = found[int(table.query[row])][int(table.member[row])]
        cell.outcomes.append(_outcome(table.answer[row], table.text[row]))
        cell.scores.append(float(table.score[row]))
        cell.rows.append(row)
    return found


def _outcome(answer: object, text: object) -> str:
    if answer is not None:
        return canonical(str(answer)) or NO_ANSWER
    return NO_ANSWER if text is None else outcome(Completion(member="", text=str(text)))
