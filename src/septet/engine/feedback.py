"""How good an answer was, as a user or a judge says afterwards: written down first, then learned from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from septet.core.errors import BadParameter
from septet.core.types import Decision
from septet.engine.wire import query_of


@dataclass(frozen=True)
class Taken:
    """What became of a feedback: whom it concerned, and the version of the state that learned from it;
    None where the ensemble's method does not learn while it serves, and the feedback is only kept."""

    ensemble: str
    member: str
    version: int | None


def decision_of(request: Mapping[str, Any], calls: Sequence[Mapping[str, Any]], score: float) -> Decision:
    """The decision that a stored request carried out, with its score in 0..1."""
    if not (isinstance(score, int | float) and math.isfinite(score) and 0.0 <= score <= 1.0):
        raise BadParameter("score", score, "must be in [0, 1]")
    if request["status"] != "done":
        raise BadParameter("request", request["id"], f"has no answer to rate: it is {request['status']}")
    member = request["verdict"].get("member", "")
    if not member:
        raise BadParameter(
            "request", request["id"], f"was answered by no single member of {request['ensemble']}"
        )
    # what a nested ensemble spent counts for the member that it is
    own = [c for c in calls if member in (c["member"], *c["path"].split("/")[1:])]
    asked = query_of(request["query"])
    return Decision(
        query=asked.text,
        weights={member: 1.0},
        propensity=propensity(request, member),
        spent=sum(c["usd"] for c in own),
        member=member,
        score=float(score),
        seconds=float(request["seconds"]),
        task=asked.task,
    )


def propensity(request: Mapping[str, Any], member: str) -> float:
    """The probability with which the member was drawn; 1 where the verdict keeps no weights by name."""
    named = request["verdict"].get("drawn") or {}
    return float(named.get(member, 1.0))
