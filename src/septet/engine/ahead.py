"""A draft under verification: what the members think at its boundaries, read in one look per member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from septet.core.errors import RunError
from septet.core.session import Next, Session
from septet.engine.token_loop import NOTHING, FusedSession, Place, may_pass, own_id, views_of


@dataclass
class _Lane:
    """One member along the draft: the distributions of its latest look, the boundary of the first of them, how
    many drafted pieces were committed to it, and at each boundary where it was asked the id of its own that it
    ranks first and that spells the drafted piece."""

    rows: list[Next] = field(default_factory=list)
    start: int = 0
    pushed: int = 0
    own: dict[int, int | None] = field(default_factory=dict)

    def holds(self, boundary: int) -> bool:
        return self.start <= boundary < self.start + len(self.rows)


class Ahead:
    """The boundaries of a draft, one after the other, as the schedule `every` would come to them.

    Boundary j stands before `pieces[j]`, the last one after all of them. A member is asked where the method
    consults it, by one `look` along what is left of the draft; nothing is committed to it before it is known
    that it will stay. Whether a member knew its own ranking decides by which ids it takes over a piece, so
    what it read at a boundary where `every` would not have asked it counts only where that changes no id.
    """

    def __init__(self, session: FusedSession, pieces: Sequence[bytes]) -> None:
        self.session, self.pieces, self.boundary = session, list(pieces), 0
        self._lanes = [_Lane() for _ in session.together.names]
        self._here: Place | None = None

    async def place(self) -> Place:
        """What is known at this boundary."""
        session, t = self.session, self.session.together
        views = await views_of(session, lambda who: t.each(who, self._row))
        settle = self._settle if self.boundary else None
        self._here = await session.fused(views, session.s, settle=settle)
        return self._here

    def accept(self) -> None:
        """The drafted piece stays: on to the next boundary; the members are told when they have to know."""
        j, piece = self.boundary, self.pieces[self.boundary]
        for i, lane in enumerate(self._lanes):
            if j in lane.own or not lane.holds(j):
                continue
            session = self.session.together.sessions[i]
            if session is None or own_id(self.session.view(i, lane.rows[j - lane.start]), piece) is not None:
                del lane.rows[j - lane.start + 1 :]
        self.session.passed(piece, self._here)
        self.boundary += 1

    async def commit(self, piece: bytes) -> None:
        """Commits what was accepted, and then this piece, to every member."""
        t, place, by_rule = self.session.together, self._here, self.session.together.commit == "own"

        async def push(i: int, session: Session) -> None:
            await self._catch_up(i, session)
            view = place.views[i] if by_rule and place is not None else None
            await session.push(piece, id=None if view is None else own_id(view, piece))

        await t.each(t.everyone, push)
        self.session.passed(piece, place)

    async def _row(self, i: int, session: Session) -> Next:
        lane, j, k = self._lanes[i], self.boundary, self.session.together.ks[i]
        if not lane.holds(j):
            await self._catch_up(i, session)
            lane.rows, lane.start = await self._looked(session, k), j
        row = lane.rows[j - lane.start]
        by_rule = self.session.together.commit == "own" and j < len(self.pieces)
        lane.own[j] = own_id(self.session.view(i, row), self.pieces[j]) if by_rule else None
        return row

    async def _looked(self, session: Session, k: int | None) -> list[Next]:
        """The distributions along what is left of the draft. A member that cannot go all the way (a byte that it
        has no token for, the end of its context) is asked for the next one: `every` would ask no more of it."""
        left = self.pieces[self.boundary :]
        if k == 0:
            return [NOTHING] * (len(left) + 1)
        if left:
            try:
                return await session.look(left, k)
            except RunError as error:
                if not may_pass(error):
                    raise
        return [await session.next(k)]

    async def _settle(self) -> None:
        """Commits what was accepted, since the method asks the members something at this very place."""
        t = self.session.together
        await t.each(t.everyone, self._catch_up)

    async def _catch_up(self, i: int, session: Session) -> None:
        lane = self._lanes[i]
        while lane.pushed < self.boundary:
            piece = self.pieces[lane.pushed]
            await session.push(piece, id=lane.own.get(lane.pushed))
            lane.pushed += 1
