"""The hypotheses of one answer that members search together, each with its own tokens: open, extend, fork, commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from septet.core.errors import NoCandidate
from septet.core.method import Ask, Asking, Emit, Seat, SeatPool
from septet.core.session import END, Next
from septet.core.types import Finish, Floats, Query, Verdict
from septet.parts.decoding.agreement import (
    WAIT,
    Extension,
    Options,
    Side,
    Sides,
    Step,
    agreed,
    allowed,
    behind,
    joint_search,
    total,
    waits,
)
from septet.parts.decoding.stopping import Stopping

MAX_TOKENS = 256
"""The length of an answer where nobody says (the released code's)."""


@dataclass(frozen=True)
class Hypothesis:
    """Each live member's part and its open session, and the text on which all agree."""

    sides: Sides
    seats: tuple[Seat, ...]
    said: Stopping

    def without(self, gone: Iterable[int]) -> Hypothesis:
        """The same hypothesis of the other members."""
        return replace(self, sides=_without(self.sides, gone), seats=_without(self.seats, gone))


@dataclass(frozen=True)
class Whole:
    """An answer that goes on no further."""

    sides: Sides
    said: Stopping
    finish: Finish
    total: float


class JointBeam:
    """The beam of one answer. Positions are those of `live` members: who has no weight takes no part, and one
    that fails leaves every hypothesis."""

    def __init__(self, query: Query, pool: SeatPool, weights: Floats, *, beam: int, k: int) -> None:
        self.query, self.pool, self.all_weights = query, pool, weights
        self.beam, self.k = beam, k
        self.longest = query.max_tokens or MAX_TOKENS
        self.live: tuple[int, ...] = tuple(np.flatnonzero(weights > 0).tolist())
        self.hypotheses: list[Hypothesis] = []
        self.whole: list[Whole] = []
        self.errors: list[str] = []
        self.n_steps = self.n_waits = self.n_rescued = 0

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the live members, summing to one."""
        w = self.all_weights[list(self.live)]
        return tuple((w / w.sum()).tolist())

    def opened(self) -> Asking[None]:
        """The first hypothesis: nothing is written."""
        asks = {(0, i): self.pool.members[j].open(self.query) for i, j in enumerate(self.live)}
        seats = yield from self._each(asks)
        stop = (*self.query.stop, *(s for m in self.pool.members for s in m.stop))
        said = Stopping(
            tuple(dict.fromkeys(s.encode() for s in stop)), tuple(u.encode() for u in self.query.until)
        )
        open_ = tuple(seats.values())
        self.hypotheses = [Hypothesis(tuple(Side() for _ in open_), open_, said)]

    def step(self) -> Asking[None]:
        """One joint token. Where a member fails on the way, the step begins again without it."""
        n_live = len(self.live)
        options: list[list[Options]] = [[Options((WAIT,))] * n_live for _ in self.hypotheses]
        ks = {
            (h, i): self.k
            for h, hypothesis in enumerate(self.hypotheses)
            for i, waiting in enumerate(waits(hypothesis.sides))
            if not waiting
        }
        asked = ks
        while True:
            nexts = yield from self._each({(h, i): self._next(h, i, k) for (h, i), k in asked.items()})
            if len(self.live) < n_live:
                return
            for (h, i), following in nexts.items():
                options[h][i] = self._options(h, i, following, ks[h, i])
            best = max((w.total for w in self.whole if w.finish != "length"), default=-np.inf)
            found = joint_search(
                [hypothesis.sides for hypothesis in self.hypotheses],
                options,
                self.weights,
                n=self.beam,
                n_ended=self.beam - len(self.whole),
                floor=best,
            )
            if found.short is None:
                break
            ks[found.short] = min(8 * ks[found.short], self._most(*found.short))
            asked = {found.short: ks[found.short]}
        chosen = found.best
        if not chosen and np.isneginf(best):
            chosen = yield from self._rescued(options)
            if len(self.live) < n_live:
                return
        yield from self._committed(chosen)

    # --- what may come next ------------------------------------------------------------------------

    def _next(self, h: int, i: int, k: int) -> Ask:
        hypothesis = self.hypotheses[h]
        ask: Ask = hypothesis.seats[i].next(k, agreeing=behind(hypothesis.sides, i))
        return ask

    def _most(self, h: int, i: int) -> int:
        """How many tokens this member can show."""
        seat = self.hypotheses[h].seats[i]
        vocab = seat.vocab
        return vocab.size if seat.caps.full and vocab is not None else max(seat.caps.topk, self.k)

    def _options(self, h: int, i: int, following: Next, k: int) -> Options:
        """Member i's tokens that can agree with where the others stand."""
        hypothesis = self.hypotheses[h]
        vocab = hypothesis.seats[i].vocab
        assert vocab is not None
        if any(side.ended for side in hypothesis.sides) and not behind(hypothesis.sides, i):
            logp = following.logp_of(END)  # it can only end; END may stand below its best k
            known = logp is not None and logp > -np.inf
            return Options((Step(END, vocab.end_ids[0], float(logp or 0.0)),) if known else ())
        pieces = [(vocab.bytes_of(j), j) for j in following.ids.tolist()]
        steps = [
            Step(piece, j, logp)
            for (piece, j), logp in zip(pieces, following.logp.tolist(), strict=True)
            if allowed(hypothesis.sides, i, piece)
        ]
        return Options(tuple(steps), len(pieces) < k or k >= self._most(h, i))

    def _rescued(self, options: Sequence[Sequence[Options]]) -> Asking[tuple[Extension, ...]]:
        """The best agreement around any member's best token: what the others can say along it."""
        parents: list[int] = []
        rows: list[list[Options]] = []
        asks: dict[tuple[int, int], Ask] = {}
        for h, hypothesis in enumerate(self.hypotheses):
            waiting = waits(hypothesis.sides)
            for i, member in enumerate(options[h]):
                best = next(
                    (step for step in member.steps if step.id is not None and step.piece != END), None
                )
                if best is None:
                    continue
                after = tuple(s.after(best) if j == i else s for j, s in enumerate(hypothesis.sides))
                for j in range(len(after)):
                    if j != i and not waiting[j]:
                        asks[len(rows), j] = hypothesis.seats[j].next(self.k, agreeing=behind(after, j))
                rows.append([Options((best,)) if j == i else Options((WAIT,)) for j in range(len(after))])
                parents.append(h)
        n_live = len(self.live)
        nexts = yield from self._each(asks)
        if not rows or len(self.live) < n_live:
            return ()
        for (row, j), following in nexts.items():
            rows[row][j] = replace(self._options(parents[row], j, following, self.k), whole=True)
        sides = [self.hypotheses[h].sides for h in parents]
        best_of_all = joint_search(sides, rows, self.weights, n=1).best
        self.n_rescued += bool(best_of_all)
        return tuple(replace(e, parent=parents[e.parent]) for e in best_of_all)

    # --- going on ----------------------------------------------------------------------------------

    def _committed(self, chosen: Sequence[Extension]) -> Asking[None]:
        """Makes the extensions the hypotheses; those that are whole are put aside."""
        self.n_steps += 1
        before, going = self.hypotheses, list[tuple[Extension, Stopping]]()
        if not chosen and not self.whole:
            self.errors.append("the members agree on no next token")
            self.whole += [self._whole(h.sides, h.said.closed(), "length") for h in before]
        for e in chosen:
            parent = before[e.parent]
            fresh = agreed(e.sides)[len(agreed(parent.sides)) :]
            said = parent.said.after(fresh) if fresh else parent.said
            n_tokens = max(side.n_tokens - side.ended for side in e.sides)
            cut: Finish | None = "length" if n_tokens >= self.longest else None
            finish: Finish | None = said.ended or ("stop" if e.ended else cut)
            if finish:
                said = said.closed()
                self.whole.append(self._whole(e.sides, said, finish))
            else:
                going.append((e, said))
            piece = said.passed[len(parent.said.passed) :]
            if piece and self.beam == 1:
                yield [
                    Emit(piece, {self.pool.names[j]: w for j, w in zip(self.live, self.weights, strict=True)})
                ]
        kept = {e.parent for e, _ in going}
        yield from self._closed(h for i, h in enumerate(before) if i not in kept)
        forks: dict[tuple[int, int], Ask] = {}
        for n, (e, _) in enumerate(going):
            if any(e.parent == other.parent for other, _ in going[:n]):
                forks |= {(n, i): seat.fork() for i, seat in enumerate(before[e.parent].seats)}
        n_live = len(self.live)
        twins = yield from self._each(forks)
        gone = {i for n, i in forks if (n, i) not in twins} if len(self.live) < n_live else set[int]()
        self.hypotheses = [
            Hypothesis(
                e.sides, tuple(twins.get((n, i), s) for i, s in enumerate(before[e.parent].seats)), said
            ).without(gone)
            for n, (e, said) in enumerate(going)
        ]
        steps = [_without(e.steps, gone) for e, _ in going]
        self.n_waits += sum(step.id is None for row in steps for step in row)
        yield from self._each(
            {
                (n, i): self.hypotheses[n].seats[i].push(step.piece, id=step.id)
                for n, row in enumerate(steps)
                for i, step in enumerate(row)
                if step.id is not None and step.piece != END
            }
        )

    def _whole(self, sides: Sides, said: Stopping, finish: Finish) -> Whole:
        return Whole(sides, said, finish, total(sides, self.weights))

    def _closed(self, hypotheses: Iterable[Hypothesis]) -> Asking[None]:
        asks = [seat.close() for hypothesis in hypotheses for seat in hypothesis.seats]
        if asks:
            yield asks

    def _each(self, asks: Mapping[tuple[int, int], Ask]) -> Asking[dict[tuple[int, int], Any]]:
        """One call per key (hypothesis, position); a member that fails leaves all hypotheses."""
        if not asks:
            return {}
        replies = yield list(asks.values())
        values = {key: r.value for key, r in zip(asks, replies, strict=True) if r.ok}
        failed = {key[1]: str(r.error) for key, r in zip(asks, replies, strict=True) if not r.ok}
        if failed:
            self.errors += [error for _, error in sorted(failed.items())]
            self.live = _without(self.live, failed)
            self.hypotheses = [hypothesis.without(failed) for hypothesis in self.hypotheses]
        if not self.live:
            raise NoCandidate("every member failed: " + "; ".join(self.errors))
        return values

    def verdict(self) -> Verdict:
        """The best whole answer, how it came about, and each member's weight (n_members,)."""
        best = max(self.whole, key=lambda w: (w.finish != "length", w.total, [-b for b in w.said.passed]))
        weights = np.zeros(len(self.pool.members))
        weights[list(self.live)] = self.weights
        said = [f"{self.n_steps} joint steps, beam {self.beam}, {len(self.whole)} finished"]
        if len(best.sides) == len(self.live):
            tokens = [
                f"{self.pool.names[j]} {s.n_tokens}" for j, s in zip(self.live, best.sides, strict=True)
            ]
            said.append("tokens: " + ", ".join(tokens))
        said.append(f"waited {self.n_waits} times")
        if self.n_rescued:
            said.append(f"agreement forced {self.n_rescued} times")
        said += [f"failed: {error}" for error in self.errors]
        return Verdict(text=best.said.text, weights=weights, reason="; ".join(said), finish=best.finish)


def _without(items: Any, gone: Iterable[int]) -> Any:
    """A tuple without the places in `gone`."""
    out = set(gone)
    return tuple(item for i, item in enumerate(items) if i not in out) if out else items
