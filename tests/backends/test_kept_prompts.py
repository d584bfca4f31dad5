"""Which prompts are kept, what a later one takes over of them, and who has to go."""

from __future__ import annotations

import numpy as np

from septet.backends._kept_prompts import KeptPrompts
from septet.backends._runtime import Begun
from septet.core.errors import BackendError
from septet.parts.decoding.topk import Row

ROW = Row(np.zeros(3, dtype=np.float32), 0.0)


class Cells:
    """Sequences as lists of ids, `most` of them at once; a full house gives up a kept prompt for a fork."""

    def __init__(self, most: int) -> None:
        self.most, self.named = most, 0
        self.held: dict[int, list[int]] = {}
        self.kept: KeptPrompts | None = None

    def has_free(self) -> bool:
        return len(self.held) < self.most

    def open(self, ids: list[int]) -> int:
        if not self.has_free() and not (self.kept and self.kept.give_up()):
            raise BackendError("all in use")
        self.named += 1
        self.held[self.named] = ids
        return self.named

    def fork(self, seq: int) -> int:
        ids = self.held[seq]
        return self.open(list(ids))

    def cut(self, seq: int, keep: int) -> None:
        del self.held[seq][keep:]

    def close(self, seq: int) -> None:
        del self.held[seq]


def kept(cells: Cells, most: int = 2, step: int = 4) -> KeptPrompts:
    cells.kept = KeptPrompts(cells, most, step)
    return cells.kept


def answered(cells: Cells, prompts: KeptPrompts, ids: list[int]) -> Begun:
    """A prompt that is begun, fed, offered and closed."""
    begun = prompts.begun(ids) or Begun(cells.open([]))
    cells.held[begun.seq] += ids[begun.n :]
    prompts.keep(begun.seq, ids, ROW)
    cells.close(begun.seq)
    return begun


def test_the_same_prompt_is_taken_over_whole_with_its_distribution() -> None:
    cells = Cells(8)
    prompts = kept(cells)
    answered(cells, prompts, [1, 2, 3])
    begun = prompts.begun([1, 2, 3])
    assert begun is not None
    assert (begun.n, begun.row, cells.held[begun.seq]) == (3, ROW, [1, 2, 3])
    assert len(cells.held) == 2  # it is kept once, and forked


def test_a_common_beginning_is_taken_over_in_whole_calls_and_never_the_last_token() -> None:
    cells = Cells(8)
    prompts = kept(cells)
    answered(cells, prompts, [1, 2, 3, 4, 5, 6, 7, 8])
    assert prompts.begun([1, 2, 3, 9]) is None  # three in common are no call of four
    assert prompts.begun([1, 2, 3, 4]) is None  # its last token has to be fed for a distribution
    begun = prompts.begun([1, 2, 3, 4, 5, 6, 9, 9])
    assert begun is not None
    assert (begun.n, begun.row, cells.held[begun.seq]) == (4, None, [1, 2, 3, 4])
    assert cells.held[1 + 1] == [1, 2, 3, 4, 5, 6, 7, 8]  # the kept one is whole still


def test_the_one_that_was_used_least_recently_goes_first() -> None:
    cells = Cells(8)
    prompts = kept(cells)
    answered(cells, prompts, [1])
    answered(cells, prompts, [2])
    answered(cells, prompts, [1])
    answered(cells, prompts, [3])
    assert sorted(cells.held.values()) == [[1], [3]]


def test_nothing_is_kept_where_no_sequence_is_free_or_none_is_asked_for() -> None:
    full, off = Cells(1), Cells(8)
    answered(full, kept(full), [1])
    answered(off, kept(off, most=0), [1])
    assert not full.held
    assert not off.held


def test_where_no_sequence_is_free_a_prompt_gives_its_own_away() -> None:
    cells = Cells(2)
    prompts = kept(cells)
    answered(cells, prompts, [1])
    cells.open([5])
    begun = prompts.begun([1])
    assert begun is not None
    assert sorted(cells.held.values()) == [[1], [5]]
    assert not prompts.give_up()


def test_a_kept_prompt_makes_room_for_another_answer() -> None:
    cells = Cells(1)
    prompts = kept(cells)
    cells.most = 2
    answered(cells, prompts, [1])
    cells.open([5])
    cells.open([6])
    assert sorted(cells.held.values()) == [[5], [6]]
