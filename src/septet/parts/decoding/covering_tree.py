"""From next-token to next-byte distributions: the tokenisations that cover what was typed so far, as a tree.

A *cover* of the bytes B is a sequence of tokens of which all but the last lie inside B, and B is a beginning of
their bytes. P(b | B) = Z(Bb) / Z(B), where Z(B) is the sum of the covers' probabilities (2410.09303; 2506.14123;
2412.03719). Three variants: "full" takes all covers; "canonical" those that the tokenizer can write, renormalised
at every byte; "masked" (ours by default) takes from every next-token distribution what cannot follow, renormalises
it, and then sums the canonical covers, so that no mass is lost and the product over the bytes of a text is exactly
the masked model's probability of the tokenizer's reading of it.

Values, not objects: every step gives a new tree, so forks and beams copy it by holding it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from septet.core.types import Floats
from septet.parts.decoding.next_bytes import END_SYMBOL, N_SYMBOLS, ByteOrder, Mask

Variant = Literal["masked", "canonical", "full"]

Path = tuple[int, ...]


_FLOOR = -80.0
"""Below e^-80 nothing counts, but numbers that are subnormal would take the processor half as long again."""


class Grammar(Protocol):
    """Which tokens a tokenizer can write after which; a state says all that it depends on."""

    def start(self) -> Any:
        """The state before the first token."""

    def step(self, state: Any, place: int) -> Any:
        """The state after one more token, by its place in the byte order."""

    def allowed(self, state: Any) -> Mask:
        """(n,) the places that may follow."""

    def may_end(self, state: Any) -> bool:
        """Whether the answer may end here."""


@dataclass(frozen=True, eq=False)
class Row:
    """A next-token distribution in byte order: `p` (n,), its sum, and the probability of END."""

    p: np.ndarray[Any, Any]
    total: float
    end: float


@dataclass(frozen=True, eq=False)
class Head:
    """Tokens that are certain, and a beginning of the next one.

    `path` are their ids since the answer began, `place` that of the last one, `at` where they end in the
    text, `logp` the log of their probability, NaN while a parent's distribution is not known. [low, high)
    are the tokens that begin with what was typed after them. `row` is None where no distribution was asked
    for: such a head is cold, and keeps its possible children in `inner`.
    """

    path: Path
    place: int
    at: int
    logp: float
    state: Any
    low: int
    high: int
    row: Row | None = None
    inner: tuple[Head, ...] = ()


@dataclass(frozen=True, eq=False)
class Symbols:
    """The next of 257 symbols: `logp` (257,), 256 = END. `dropped`: at most this share of the mass was not
    looked at, which bounds the error in total variation. `total`: what the symbols held of Z(B) before they were
    made to sum to one; "canonical" loses some at every step."""

    logp: Floats
    dropped: float
    total: float


@dataclass(frozen=True, eq=False)
class CoveringTree:
    """The heads after `n` typed bytes. `grammar` is None for the variant "full".

    With "full", heads that are not asked for are given up (their number grows with the text), else they are
    kept until they cannot be continued, and asked for when their share grows.
    """

    order: ByteOrder
    grammar: Grammar | None
    variant: Variant
    heads: tuple[Head, ...]
    n: int = 0
    lost: float = 0.0

    @classmethod
    def begun(cls, order: ByteOrder, grammar: Grammar | None, variant: Variant) -> CoveringTree:
        """Before the first byte."""
        state = None if grammar is None else grammar.start()
        return cls(order, grammar, variant, (Head((), -1, 0, 0.0, state, 0, len(order)),))

    @classmethod
    def at(
        cls, order: ByteOrder, grammar: Grammar | None, variant: Variant, places: Sequence[int], n: int
    ) -> CoveringTree:
        """After a text whose tokens are these places, as if no other reading of it were possible."""
        tree = cls.begun(order, grammar, variant)
        head = tree.heads[0]
        for place in places:
            state = None if grammar is None else grammar.step(head.state, place)
            head = replace(head, path=(*head.path, int(order.ids[place])), place=place, state=state)
        return replace(tree, heads=(replace(head, at=n),), n=n)

    # --- what is not known yet ---------------------------------------------------------------------

    def wanted(self, epsilon: float, most: int = 1 << 30) -> list[Path]:
        """The heads whose distributions are needed, so that what is not looked at is at most a share of
        `epsilon`, at most so many; best first. Empty: the distribution can be given."""
        cold = sorted((h for h in self.heads if h.row is None), key=lambda h: -h.logp)
        if not cold:
            return []
        peak = max(h.logp for h in self.heads)
        mass = [float(np.exp(h.logp - peak)) for h in cold]
        known = sum(float(np.exp(h.logp - peak)) * self._open(h) for h in self.heads if h.row is not None)
        left, bound = sum(mass), epsilon * (known + sum(mass))
        paths: list[Path] = []
        for head, m in zip(cold, mass, strict=True):
            if len(paths) == most or (left <= bound and (known or paths)):
                break
            paths.append(head.path)
            left = left - m if len(paths) < len(cold) else 0.0
        return paths

    def told(self, path: Path, logp: np.ndarray[Any, Any], end_id: int | None) -> CoveringTree:
        """The tree when the distribution (V,) after a path is known; natural logs, END in one row."""
        return self.informed(path, self.row(path, logp, end_id))

    def row(self, path: Path, logp: np.ndarray[Any, Any], end_id: int | None) -> Row:
        """A distribution (V,) as the heads with this path use it."""
        state = next(head.state for head in self.heads if head.path == path)
        own = logp[self.order.ids]
        p = np.exp(np.maximum(own, _FLOOR))
        p[np.isneginf(own)] = 0.0
        end = 0.0 if end_id is None else float(np.exp(np.float64(logp[end_id])))
        if self.grammar is not None:
            p *= self.grammar.allowed(state)
            end *= self.grammar.may_end(state)
        total = float(p.sum(dtype=np.float64))
        if self.variant == "masked" and (whole := total + end) > 0:
            p /= whole
            total, end = total / whole, end / whole
        return Row(p, total, end)

    def informed(self, path: Path, row: Row) -> CoveringTree:
        """The tree when a row is known."""
        heads: list[Head] = []
        for head in self.heads:
            heads += self._warmed(head, row) if head.row is None and head.path == path else [head]
        return replace(self, heads=tuple(heads))

    def settled(self, most: int = 1 << 30) -> CoveringTree:
        """With "full", only the best heads, at most so many, of those that were asked for; else as it is."""
        if self.variant != "full":
            return self
        warm = sorted(
            (h for h in self.heads if h.row is not None), key=lambda h: -h.logp - np.log(self._open(h))
        )
        kept = warm[:most]
        masses = self._masses()
        total, left = sum(masses.values()), sum(masses[h.path, h.at] for h in kept)
        return replace(self, heads=tuple(kept), lost=max(0.0, 1 - left / total))

    def _masses(self) -> dict[tuple[Path, int], float]:
        """What each head holds of the probability, the cold ones at most, on a common scale."""
        peak = max(h.logp for h in self.heads)
        scale = {(h.path, h.at): float(np.exp(h.logp - peak)) for h in self.heads}
        return {
            (h.path, h.at): scale[h.path, h.at] * (1.0 if h.row is None else self._open(h))
            for h in self.heads
        }

    def _warmed(self, head: Head, row: Row) -> list[Head]:
        with np.errstate(divide="ignore"):
            inner = [replace(c, logp=head.logp + float(np.log(row.p[c.place]))) for c in head.inner]
        warm = replace(head, row=row, inner=())
        return [h for h in (warm, *inner) if h.logp > -np.inf and (h is not warm or self._open(h) > 0)]

    def _open(self, head: Head) -> float:
        """The share of a warm head's probability that agrees with what was typed after it."""
        assert head.row is not None
        depth = self.n - head.at
        if depth == 0:
            return head.row.total + head.row.end
        low = self.order.longer(head.low, head.high, depth)
        return float(head.row.p[low : head.high].sum(dtype=np.float64))

    # --- the next byte -----------------------------------------------------------------------------

    def symbols(self) -> Symbols:
        """The distribution over the 257 symbols, from the heads whose distributions are known."""
        warm = [h for h in self.heads if h.row is not None]
        total, out = 0.0, np.zeros(N_SYMBOLS)
        peak = max(h.logp for h in self.heads)
        for head in warm:
            assert head.row is not None
            mass, depth = float(np.exp(head.logp - peak)), self.n - head.at
            out[:256] += mass * self.order.by_next_byte(head.row.p, head.low, head.high, depth)
            if depth == 0:
                out[END_SYMBOL] += mass * head.row.end
        total = out.sum()
        cold = sum(float(np.exp(h.logp - peak)) for h in self.heads if h.row is None)
        with np.errstate(divide="ignore", invalid="ignore"):
            logp = np.log(out / total)
        return Symbols(logp, max(self.lost, cold / (cold + total)), float(total * np.exp(peak - self.log_z)))

    @property
    def log_z(self) -> float:
        """log Z(B), the sum over the covers of what was typed whose probabilities are known."""
        with np.errstate(divide="ignore"):
            parts = [
                h.logp + (0.0 if h.at == self.n else float(np.log(self._open(h))))
                for h in self.heads
                if np.isfinite(h.logp) and (h.at == self.n or h.row is not None)
            ]
        return float(np.logaddexp.reduce(parts))

    def typed(self, byte: int) -> CoveringTree:
        """The tree after one more byte; a tree without heads cannot read the text."""
        heads: list[Head] = []
        for head in self.heads:
            grown, born = self._grown(head, byte)
            heads += ([] if grown is None else [grown]) + born
        return replace(self, heads=tuple(heads), n=self.n + 1)

    def _grown(self, head: Head, byte: int) -> tuple[Head | None, list[Head]]:
        """What becomes of a head: itself with a longer beginning, if it can be continued, and its new
        children, which a cold head keeps to itself."""
        depth = self.n - head.at
        inner: list[Head] = []
        for child in head.inner:
            grown, born = self._grown(child, byte)
            inner += ([] if grown is None else [grown]) + born
        low, high = self.order.narrowed(head.low, head.high, depth, byte)
        longer = self.order.longer(low, high, depth + 1)
        possible = self._possible(head)
        born = [self._child(head, place) for place in range(low, longer) if possible[place]]
        alive = bool(possible[longer:high].any())
        if not alive:
            low = high = longer
        if head.row is not None:
            return (replace(head, low=low, high=high) if alive else None), born
        inner += born
        return (replace(head, low=low, high=high, inner=tuple(inner)) if alive or inner else None), []

    def _possible(self, head: Head) -> Any:
        """(n,) truthy where a token may follow."""
        if head.row is not None:
            return head.row.p
        return _EVERYTHING if self.grammar is None else self.grammar.allowed(head.state)

    def _child(self, head: Head, place: int) -> Head:
        logp = float("nan") if head.row is None else head.logp + float(np.log(head.row.p[place]))
        state = None if self.grammar is None else self.grammar.step(head.state, place)
        path = (*head.path, int(self.order.ids[place]))
        return Head(path, place, self.n + 1, logp, state, 0, len(self.order))


class _Everything:
    """A mask that allows all; `any` of a part of it is whether the part has places."""

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            return np.ones(max(0, item.stop - item.start), dtype=np.bool_)
        return True


_EVERYTHING = _Everything()
