"""The survey's classification (arXiv 2502.18036), as enums that cards carry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Family(StrEnum):
    """The seven families; the value is the folder under `methods/`."""

    PRETRAINED = "a1_pretrained"
    NONPRETRAINED = "a2_nonpretrained"
    TOKEN = "b1_token"
    SPAN = "b2_span"
    PROCESS = "b3_process"
    NONCASCADE = "c1_noncascade"
    CASCADE = "c2_cascade"

    @property
    def code(self) -> str:
        """The short name: a1 … c2."""
        return self.value[:2]


class Utility(StrEnum):
    """What a router predicts: a class (which model), or a number per model."""

    DISCRETE = "discrete"
    CONTINUOUS = "continuous"


class Strategy(StrEnum):
    """What happens to the members' contributions."""

    SELECTION = "selection"
    AGGREGATION = "aggregation"
    REGENERATION = "regeneration"


class Granularity(StrEnum):
    """The unit at which members are combined."""

    TOKEN = "token"
    SPAN = "span"
    STEP = "step"
    RESPONSE = "response"


class Goal(StrEnum):
    """What the method is for: better answers, or cheaper ones."""

    PERFORMANCE = "performance"
    COST = "cost"


class Tasks(StrEnum):
    """The answers a method can handle: any text, or only answers that can be compared exactly."""

    OPEN_ENDED = "open-ended"
    EXACT_MATCH = "exact-match"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """Where a method stands in the survey."""

    family: Family
    strategy: Strategy
    granularity: Granularity
    goal: Goal
    supervised: bool
    tasks: Tasks = Tasks.OPEN_ENDED
    efficiency_aware: bool = False
    utility: Utility | None = None
