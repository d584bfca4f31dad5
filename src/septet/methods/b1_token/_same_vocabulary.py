"""What methods over one vocabulary share: one list of strings for all members, and who has to be there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar

from septet.core.caps import Caps
from septet.core.errors import RunError
from septet.core.session import View
from septet.core.types import Floats, Query, Tokens
from septet.methods.b1_token._family import TokenMethod
from septet.parts.decoding.common import Common, common
from septet.parts.decoding.union import UnionTable, union_key

TOP_K = 100
"""Strings that a member brings where one of them reports no whole distribution (`approximate = true`)."""


@dataclass(frozen=True, eq=False)
class Listed:
    """What is prepared: the members' `names` in order, and the strings of all their vocabularies; None where
    one of these is not known as a whole."""

    names: tuple[str, ...]
    table: UnionTable | None


class SameVocabulary(TokenMethod):
    """Weighs log-probabilities of the same strings. `parts` names what each member is, by its place."""

    prepared_type = Listed
    parts: ClassVar[tuple[str, ...]] = ()

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, full=True)

    def prepare(self, pool: Any) -> Listed:
        vocabs = [m.vocab for m in pool.members]
        return Listed(pool.names, UnionTable.of(vocabs) if union_key(vocabs) else None)

    def prepared_key(self, pool: Any) -> str:
        key = union_key([m.vocab for m in pool.members])
        return sha256(f"{key} {pool.names}".encode()).hexdigest() if key else ""

    def start(self, query: Query, prompts: Sequence[Tokens | None], prepared: Listed, state: Any) -> Any:
        return prepared

    def seen(self, views: Sequence[View | None], s: Listed, weights: Floats) -> Common:
        """The views over one list of strings. A member with a weight has its part in the rule, so without its
        view there is no result: a RunError that names it."""
        for view, weight, name, part in zip(views, weights, s.names, self.parts, strict=True):
            if view is None and weight:
                message = (
                    f"it cannot go on without its {part}, {name!r}, which has failed: see the trace for why"
                )
                raise RunError(message).at(member=name)
        return common(views, s.table, TOP_K)
