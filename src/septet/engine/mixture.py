"""The schedule `mixture`: where the fused distribution is a mean, one member a piece makes a forward."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import numpy as np

from septet.core.errors import BadParameter, RunError
from septet.core.session import END, Fused, Next, Sampler, Session, View
from septet.core.types import Floats, Tokens
from septet.engine.drawing import Sampling, place_of
from septet.engine.pieces import TOP_REPORTED, Decided, Task
from septet.engine.token_loop import FusedSession, Place
from septet.parts.decoding.fuse import strings_of


async def mixture(session: FusedSession, task: Task) -> AsyncGenerator[Decided, None]:
    """Draws a member by its weight, then a piece from that member's own distribution (2605.00419).

    Σ_i w_i p_i is what the two draws come to, at temperature 1 and without truncation; only the drawn member
    makes a forward, over all tokens that it has not seen yet. The log-probability of a piece is the drawn
    member's own, since nobody else's is known.
    """
    t = session.together
    weights = checked_weights(task.sampling, t.method, t.method.mixture(session.s))
    for step in range(task.limit):
        rng = task.sampling.rng_of(step)
        decided = None
        while decided is None:
            member = _drawn_member(t.sessions, weights, rng)
            decided, token_id = await _own_draw(session, member, rng)
        yield decided
        await session.push(decided.piece, id=token_id, drawn=member)


def checked_weights(sampling: Sampling, method: Any, weights: Floats | None) -> Floats:
    """A method's weights (n_members,) for `mixture`; refuses what a draw of one member a piece would change."""
    if sampling.temperature != 1.0 or sampling.top_p < 1.0:
        raise BadParameter(
            "schedule",
            "mixture",
            f"is for sampling at temperature 1 without truncation, not temperature {sampling.temperature:g} and"
            f" top_p {sampling.top_p:g}; a temperature on each member's own distribution is not one on their"
            " mean. Use schedule = every or draft",
        )
    if weights is None:
        raise BadParameter(
            "schedule",
            "mixture",
            f"is for methods whose fused distribution is a mean of the members' own by constant weights, which"
            f" {method.name} with these parameters is not; use schedule = every or draft",
        )
    return weights


def _drawn_member(sessions: Sequence[Session | None], weights: Floats, rng: Any) -> int:
    """A member by weight; those that have failed lose theirs to the others."""
    live = np.array([0.0 if s is None else w for s, w in zip(sessions, weights.tolist(), strict=True)])
    if not live.sum() > 0:
        raise RunError("no member that is left has any weight")
    return int(rng.choice(len(live), p=live / live.sum()))


async def _own_draw(session: FusedSession, i: int, rng: Any) -> tuple[Decided | None, int | None]:
    """One token that the member itself draws, and its id where that is known; None where the member failed."""
    t = session.together
    if not t.knows_all(i):
        seeds = tuple(int(n) for n in rng.integers(2**32, size=4))
        written = (await t.each([i], lambda _, s: s.write((), 1, Sampler(1.0, 1.0, seeds))))[i]
        if written is None:
            return None, None
        drawn: Tokens = written.tokens
        piece, p = (drawn.texts[0], float(np.exp(drawn.logp[0]))) if len(drawn) else (END, float("nan"))
        return Decided(_alone(t.names, i, {piece: p}, session.s, None), 0, p), None
    following: Next | None = (await t.each([i], lambda _, s: s.next(None)))[i]
    if following is None:
        return None, None
    p_of = np.exp(following.logp, dtype=np.float64)
    token_id = int(following.ids[rng.choice(len(p_of), p=p_of / p_of.sum())])
    view = session.view(i, following)
    piece = view.vocab.bytes_of(token_id)
    known = {text: float(np.exp(logp)) for text, logp in strings_of(view, TOP_REPORTED).items()}
    logp = following.logp_of(piece)
    known[piece] = float(p_of[token_id]) if logp is None else float(np.exp(logp))
    place = _alone(t.names, i, known, session.s, view)
    index = place_of(place.fused, piece)
    assert index is not None
    return Decided(place, index, known[piece]), token_id if piece else None


def _alone(names: Sequence[str], i: int, known: dict[bytes, float], s: Any, view: View | None) -> Place:
    """A place of which one member's best strings are known, and nothing else."""
    texts = tuple(sorted(known))
    support = np.zeros((len(texts), len(names)))
    support[:, i] = 1.0
    fused = Fused(texts, np.array([known[text] for text in texts]), support, ordered=True)
    return Place(fused, [view if j == i else None for j in range(len(names))], s)
