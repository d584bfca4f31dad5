"""One piece of a comparison of methods after inference: a method, or the bounds, on one part of a set and one seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property

from septet.bench import jobs
from septet.bench.sources import code_of
from septet.engine import catalogue

FORM = 1
"""Of a job's file; a change of its keys raises it."""


@dataclass(frozen=True)
class Job(jobs.Job):
    """As of routers; `limit` questions to fit and to test on at most, 0: as the set says."""

    limit: int = 0

    @property
    def label(self) -> str:
        """As the progress bar and the list of failures show it."""
        return f"{self.contender or 'bounds'} on {self.data}, seed {self.seed}"

    @cached_property
    def key(self) -> str:
        """The hash of everything that determines the result: data, parameters, and the code that runs."""
        modules = ["septet.bench.after.measured"]
        facts = {**asdict(self), "form": FORM}
        if self.contender is not None:
            modules.append(catalogue.entries("methods")[self.contender.name].module)
            facts["contender"] = str(self.contender)
        facts["code"] = code_of(*modules)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
