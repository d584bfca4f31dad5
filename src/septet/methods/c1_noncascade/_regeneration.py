"""The last word of a method that writes from the answers of others: the fuser's, which is the ensemble's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from septet.core.caps import Caps
from septet.core.errors import NoCandidate
from septet.core.method import Asking, Rng, Seat
from septet.core.money import Load
from septet.core.types import Query, Verdict
from septet.parts.answers.regenerate import fusion

FUSER: Mapping[str, Caps] = {"fuser": Caps(text=True)}
"""The role that writes."""


def with_fuser(loads: dict[str, Load], fuser: Seat, query: Query, calls: int = 1) -> dict[str, Load]:
    """What members are asked at most, and the fuser's calls."""
    n_tokens = calls * (query.max_tokens or 0)
    return {**loads, fuser.name: loads.get(fuser.name, Load()) + Load(calls, calls, n_tokens)}


def last_word(
    fuser: Seat, query: Query, texts: Sequence[str], what: str, errors: str, rng: Rng
) -> Asking[Verdict]:
    """The fuser's answer from these texts, as the ensemble's own, so it is streamed.

    `what`: of what the texts are, for the reason; `errors`: of the members that failed. Raises NoCandidate, which names
    the fuser and all errors, if it fails.
    """
    (reply,) = yield [fuser.complete(fusion(query, texts, "mixture", rng), final=True)]
    if not reply.ok:
        raise NoCandidate(
            f"the fuser {fuser.name} failed: {'; '.join(filter(None, (str(reply.error), errors)))}"
        )
    reason = f"{fuser.name} wrote from {what}" + (f"; failed: {errors}" if errors else "")
    return (
        Verdict(chosen=0, reason=reason)
        if reply.value is not None
        else Verdict(abstained=True, reason=reason)
    )
