"""One answer that the first member drafts and the others verify: fork, draft, look along, commit to all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from septet.core.errors import BackendError
from septet.core.method import Ask, Asking, Emit, Seat, SeatPool
from septet.core.session import END, Next, View, Vocab
from septet.core.types import Finish, Floats, Query, Verdict
from septet.parts.decoding.boundary import eligible
from septet.parts.decoding.stopping import Stopping

MAX_TOKENS = 256
"""The length of an answer where nobody says."""


class Drafted(NamedTuple):
    """A token of the drafter, and the distribution that it is the best of."""

    piece: bytes
    id: int
    next: Next


class Replaced(NamedTuple):
    """The position in a draft at which another string won, that string, and each member's share in it."""

    at: int
    piece: bytes
    share: Floats


class DraftAndVerify:
    """The sessions of one answer: the drafter is member 0; a verifier that fails leaves `verifiers` for good.

    `stands(piece, views)`: a drafted string needs no ensemble. `fused(views)`: the winner, and each member's
    share in it. `shown`: how many of its best tokens each member shows, None for all.
    """

    def __init__(
        self,
        query: Query,
        pool: SeatPool,
        n_draft: int,
        shown: int | None,
        stands: Callable[[bytes, Sequence[View | None]], bool],
        fused: Callable[[Sequence[View | None]], tuple[bytes, Floats]],
    ) -> None:
        self.query, self.pool, self.n_draft = query, pool, n_draft
        self.stands, self.fused = stands, fused
        self.ks = tuple(shown if shown or m.caps.full else m.caps.topk for m in pool.members)
        stop = (*query.stop, *(s for m in pool.members for s in m.stop))
        self.said = Stopping(_as_bytes(stop), _as_bytes(query.until))
        self.text = b""
        self.left = query.max_tokens or MAX_TOKENS
        self.finish: Finish | None = None
        self.verifiers: dict[int, Seat] = {}
        self.errors: list[str] = []
        self.share: Floats = np.zeros(len(pool.members))
        self.n_pieces = self.n_drafts = self.n_eligible = self.n_ensembled = self.n_replaced = 0

    def opened(self) -> Asking[None]:
        """Opens every session. Without the drafter there is no answer; a verifier has to know its tokenizer."""
        replies = yield [m.open(self.query) for m in self.pool.members]
        self.drafter: Seat = replies[0].value
        for i, reply in enumerate(replies[1:], start=1):
            if not reply.ok:
                self.errors.append(str(reply.error))
                continue
            try:
                reply.value.vocab.tokenise(b"a")
            except BackendError as error:
                self.errors.append(f"{self.pool.names[i]}: {error}")
            else:
                self.verifiers[i] = reply.value
        digest = _vocab(self.drafter).digest
        self.alike = {i for i, seat in self.verifiers.items() if digest and digest == _vocab(seat).digest}

    def cycle(self) -> Asking[None]:
        """One draft: written, verified, and committed as far as it stands."""
        writer = (yield [self.drafter.fork()])[0].value if self.verifiers else self.drafter
        draft = yield from self._drafted(writer)
        positions, nexts = yield from self._looked(draft)
        replaced = self._judged(draft, positions, nexts)
        kept = draft if replaced is None else draft[: replaced.at]
        yield from self._committed(writer, draft, kept, positions, nexts, replaced)

    def _drafted(self, writer: Seat) -> Asking[list[Drafted]]:
        """The drafter's own next tokens, committed on `writer`; END is the last where it comes."""
        draft, said = list[Drafted](), self.said
        assert writer.vocab is not None
        while len(draft) < min(self.n_draft, self.left):
            following: Next = (yield [writer.next(self.ks[0])])[0].value
            best = int(following.logp.argmax()) if following.full else int(following.ids[0])
            draft.append(Drafted(writer.vocab.bytes_of(best), best, following))
            if draft[-1].piece == END:
                break
            said = said.after(draft[-1].piece)
            if said.ended:
                break
            for reply in (yield [writer.push(draft[-1].piece, id=best)]):
                assert reply.value is None  # reading it raises what a failed one failed of
        self.n_drafts += 1
        return draft

    # --- verifying ---------------------------------------------------------------------------------

    def _looked(self, draft: Sequence[Drafted]) -> Asking[tuple[list[int], dict[int, list[Next]]]]:
        """The positions at which all verifiers can speak, and what each says there: verifier → (positions,)."""
        pieces = [d.piece for d in draft if d.piece != END]
        positions = [j for j in self._eligible(pieces) if j < len(draft)]
        self.n_eligible += len(positions)
        if not positions:
            return [], {}
        along = _chunks(pieces, positions)
        asks = {
            i: seat.look(pieces[: positions[-1]] if i in self.alike else along, self.ks[i])
            for i, seat in self.verifiers.items()
        }
        return positions, {
            i: [seen[j] for j in positions] if i in self.alike else list(seen)[-len(positions) :]
            for i, seen in (yield from self._each(asks)).items()
        }

    def _eligible(self, pieces: Sequence[bytes]) -> list[int]:
        """The positions that are boundaries of every verifier's own reading; 0 is before the first piece."""
        found = set(range(len(pieces) + 1))
        for i, seat in list(self.verifiers.items()):
            if i in self.alike:
                continue
            try:
                found &= set(eligible(_vocab(seat), self.text, pieces))
            except BackendError as error:  # it cannot spell the draft
                self._leaves(i, f"{self.pool.names[i]}: {error}")
        return sorted(found) if self.verifiers else []

    def _judged(
        self, draft: Sequence[Drafted], positions: Sequence[int], nexts: Mapping[int, Sequence[Next]]
    ) -> Replaced | None:
        """The first position at which another string wins; all drafted tokens before it stand."""
        self.shares: dict[int, Floats] = {}
        if not nexts:
            return None
        for at, j in enumerate(positions):
            views: list[View | None] = [None] * len(self.pool.members)
            views[0] = View(draft[j].next, _vocab(self.drafter), self.drafter)
            for i, seen in nexts.items():
                views[i] = View(seen[at], _vocab(self.verifiers[i]), self.verifiers[i])
            if self.stands(draft[j].piece, views):
                continue
            self.n_ensembled += 1
            piece, share = self.fused(views)
            if piece != draft[j].piece:
                self.n_replaced += 1
                return Replaced(j, piece, share)
            self.shares[j] = share
        return None

    # --- committing --------------------------------------------------------------------------------

    def _committed(
        self,
        writer: Seat,
        draft: Sequence[Drafted],
        kept: Sequence[Drafted],
        positions: Sequence[int],
        nexts: Mapping[int, Sequence[Next]],
        replaced: Replaced | None,
    ) -> Asking[None]:
        """Puts what stands, and what replaced the next token, into every session, and passes it on."""
        alone = np.eye(len(self.pool.members))[0]
        said = [(d.piece, self.shares.get(j, alone)) for j, d in enumerate(kept)]
        said += [] if replaced is None else [(replaced.piece, replaced.share)]
        emitted = list[Emit]()
        for piece, share in said:
            self._say(piece, share, emitted)
            if self.finish:
                break
        if emitted:
            yield emitted
        if self.finish:
            return
        pieces = [d.piece for d in kept]
        asks: dict[int, list[Ask]] = {}
        for i, seat in self.verifiers.items():
            known = dict(zip(positions, nexts.get(i, ()), strict=False))
            if i in self.alike:
                asks[i] = [seat.push(d.piece, id=d.id) for d in kept]
            else:
                spans = _spans(pieces, [j for j in positions if j < len(kept)])
                asks[i] = [_own(seat, text, known.get(j)) for j, text in spans if text]
            if replaced is not None:
                asks[i].append(_own(seat, replaced.piece, known.get(replaced.at)))
        for turn in range(max(map(len, asks.values()), default=0)):  # one after the other on each session
            now = {i: p[turn] for i, p in asks.items() if turn < len(p) and i in self.verifiers}
            yield from self._each(now)
        yield from self._drafter_on(writer, kept, replaced)
        self.text += b"".join(piece for piece, _ in said)

    def _drafter_on(self, writer: Seat, kept: Sequence[Drafted], replaced: Replaced | None) -> Asking[None]:
        """Whole drafts are kept with the fork that wrote them; after a replacement the old session goes on."""
        if replaced is None:
            if writer is not self.drafter:
                yield [self.drafter.close()]
            self.drafter = writer
            return
        yield [writer.close()]
        pushes = [self.drafter.push(d.piece, id=d.id) for d in kept]
        for push in (*pushes, self.drafter.push(replaced.piece)):
            for reply in (yield [push]):
                assert reply.value is None  # as above

    def _say(self, piece: bytes, share: Floats, emitted: list[Emit]) -> None:
        """One more piece of the answer, b"" being its end."""
        before = len(self.said.passed)
        self.share = self.share + share
        self.n_pieces += 1
        if piece == END:
            self.finish = "stop"
        else:
            self.said = self.said.after(piece)
            self.left -= 1
            self.finish = self.said.ended or ("length" if self.left <= 0 else None)
        if self.finish:
            self.said = self.said.closed()
        if self.said.passed[before:]:
            support = dict(zip(self.pool.names, share.tolist(), strict=True))
            emitted.append(Emit(self.said.passed[before:], support))

    def _each(self, asks: Mapping[int, Ask]) -> Asking[dict[int, list[Next]]]:
        """One call per verifier; one that fails takes no more part."""
        if not asks:
            return {}
        replies = yield list(asks.values())
        for i, reply in zip(asks, replies, strict=True):
            if not reply.ok:
                self._leaves(i, str(reply.error))
        return {i: reply.value for i, reply in zip(asks, replies, strict=True) if reply.ok}

    def _leaves(self, i: int, error: str) -> None:
        self.errors.append(error)
        del self.verifiers[i]

    def verdict(self) -> Verdict:
        """The text, each member's share (n_members,) in its pieces, and how often they were ensembled."""
        n = max(self.n_pieces, 1)
        reason = (
            f"{self.n_pieces} pieces in {self.n_drafts} drafts; ensembled at {self.n_ensembled} of"
            f" {self.n_eligible} eligible positions ({self.n_ensembled / n:.1%} of the pieces), replaced"
            f" {self.n_replaced}"
        )
        if self.errors:
            reason += "; failed: " + "; ".join(self.errors)
        return Verdict(text=self.said.text, weights=self.share / n, reason=reason, finish=self.finish)


def _spans(pieces: Sequence[bytes], positions: Sequence[int]) -> list[tuple[int, bytes]]:
    """The text cut at these positions: each part and the position at which it begins."""
    cuts = sorted({0, *positions, len(pieces)})
    return [(a, b"".join(pieces[a:b])) for a, b in pairwise(cuts)]


def _chunks(pieces: Sequence[bytes], positions: Sequence[int]) -> list[bytes]:
    """What to look along, so that the last len(positions) distributions are those at the positions."""
    return [text for begin, text in _spans(pieces[: positions[-1]], positions) if text]


def _own(seat: Seat, piece: bytes, here: Next | None) -> Ask:
    """A push of what the member itself ranked first as that id, and of anything else by the commit rule."""
    if here is not None:
        best = int(here.logp.argmax()) if here.full else int(here.ids[0])
        if _vocab(seat).bytes_of(best) == piece:
            own: Ask = seat.push(piece, id=best)
            return own
    other: Ask = seat.push(piece)
    return other


def _vocab(seat: Seat) -> Vocab:
    assert seat.vocab is not None
    return seat.vocab


def _as_bytes(strings: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(s.encode() for s in strings))
