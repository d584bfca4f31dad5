"""The schedule `draft`: one member writes a few pieces ahead, the others read them in one forward."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import numpy as np

from septet.core.errors import RunError
from septet.core.session import END, Sampler, View
from septet.engine.ahead import Ahead
from septet.engine.drawing import Proposal, Sampling
from septet.engine.pieces import Decided, Task
from septet.engine.token_loop import FusedSession, Place, may_pass


async def draft(session: FusedSession, task: Task, *, gamma: int = 5) -> AsyncGenerator[Decided, None]:
    """The first member writes up to γ pieces, every member reads them in one `look` (2502.01662).

    The method fuses, and is asked whom to consult, at every boundary. Greedy: a drafted piece stays while it
    is the fused winner, else the winner takes its place; so the answer is that of `every`. Sampling: see
    `Sampling.verify`. After a draft that stays as a whole, the fused distribution gives one piece more.
    A member behind a server is asked once per place even so: for such verifiers a draft saves nothing.
    """
    step = 0
    while step < task.limit:
        drafted = await _drafted(session, task, step, min(gamma, task.limit - step - 1))
        ahead = Ahead(session, drafted.pieces)
        while True:
            place = await ahead.place()
            decided = drafted.decide(place, task.sampling, step, ahead.boundary)
            yield decided
            step += 1
            if not decided.drafted or decided.piece == END:
                break
            ahead.accept()
        await ahead.commit(decided.piece)


@dataclass(frozen=True, slots=True)
class _Drafted:
    """What the drafter wrote: whole pieces, and whether it ended there. `drawn`: it drew from its own
    distribution at temperature 1, else it wrote what it likes best."""

    member: int
    pieces: Sequence[bytes]
    ended: bool
    drawn: bool

    def decide(self, place: Place, sampling: Sampling, step: int, boundary: int) -> Decided:
        """The piece at a boundary."""
        proposed, view = self._proposed(boundary), place.views[self.member]
        if proposed is None or (self.drawn and view is None):
            # also where the drafter has left, or was not asked: nobody knows how likely its proposal was
            i, p = sampling.pick(place.fused, step)
            return Decided(place, i, float(p[i]))
        q = self._q(view, proposed)
        i, p, stands = sampling.verify(place.fused, step, proposed, q)
        return Decided(place, i, float(p[i]), drafted=stands)

    def _proposed(self, boundary: int) -> bytes | None:
        if boundary < len(self.pieces):
            return self.pieces[boundary]
        return END if self.ended else None

    def _q(self, view: View | None, proposed: bytes) -> Proposal:
        if not self.drawn or view is None:
            return lambda piece: float(piece == proposed)
        following = view.next

        def q(piece: bytes) -> float:
            logp = following.logp_of(piece)
            return 0.0 if logp is None else float(np.exp(logp))

        return q


async def _drafted(session: FusedSession, task: Task, step: int, gamma: int) -> _Drafted:
    """The first member's own continuation. Where it knows its whole distribution it draws from that, so that
    the others mostly agree with what they would have drawn; else its best pieces are the proposal."""
    t = session.together
    member = t.live()[0]
    drafter = t.sessions[member]
    drawn = not task.sampling.greedy and t.knows_all(member)
    if gamma < 1 or drafter is None:
        return _Drafted(member, (), False, drawn)
    seeds = task.sampling.seeds(step) if drawn else (0,)
    try:
        written = await drafter.write((), gamma, Sampler(1.0 if drawn else 0.0, 1.0, seeds))
    except RunError as error:
        if not may_pass(error):
            raise
        return _Drafted(
            member, (), False, drawn
        )  # it leaves where `every` would lose it: at its next forward
    return _Drafted(member, [piece for piece in written.tokens.texts if piece], written.ended, drawn)
