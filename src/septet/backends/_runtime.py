"""What an in-process model has to do for a local session: feed, cut, copy. The rest is written once, in `_local`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats, Query
from septet.parts.decoding.topk import Row
from septet.parts.decoding.vocabulary import PackedVocab

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Begun:
    """A sequence that holds the first `n` tokens of a prompt already; `row`: the distribution after them, where that is
    all of it."""

    seq: int
    n: int = 0
    row: Row | None = None


class Runtime(Protocol):
    """A loaded model. Blocking; every call is made on the endpoint's one worker thread.

    A sequence is a row of tokens in the KV cache, named by a small number. Different sequences never
    disturb each other. `group` is the most answer tokens that may be fed in one decode call without
    changing a logit against feeding them one by one (0: no such limit).
    """

    vocab: PackedVocab
    context: int
    group: int

    def prompt_ids(self, query: Query, prompt_text: str | None) -> list[int]:
        """The tokens of the prompt: of `prompt_text` where the template is plain (BOS added where the model
        wants one), else of the query's turns through the model's own chat template."""

    def open(self) -> int:
        """A new, empty sequence."""

    def begin(self, ids: Sequence[int]) -> Begun:
        """A new sequence for a prompt, which may hold its beginning already, as feeding it would have."""

    def keep(self, seq: int, ids: Sequence[int], row: Row) -> None:
        """Told of a sequence that holds just a prompt, and of the row after it: both may be kept for `begin`."""

    def feed(self, seq: int, ids: Sequence[int], rows: str) -> Logits:
        """Appends tokens. rows "last": logits (1, V) after the last one; "all": (len(ids), V), row i after
        token i; "none": (0, V). The result is a copy that later calls do not change."""

    def cut(self, seq: int, keep: int) -> None:
        """Forgets everything after the first `keep` tokens."""

    def fork(self, seq: int) -> int:
        """A copy of a sequence that shares its past."""

    def show_hidden(self, seq: int) -> None:
        """From now on the hidden state after the last token of a feed with rows "last" is wanted."""

    def hidden(self, seq: int) -> Floats | None:
        """The last hidden state, (d,), after the last fed token, that is, what goes into the output matrix; None
        where it was not kept. Only where the caps offer it."""

    def close(self, seq: int) -> None:
        """Gives a sequence back."""

    def shutdown(self) -> None:
        """Frees the model."""
