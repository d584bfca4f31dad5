"""Token level: members share one answer, one fused token at a time; the engine's token loop runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from septet.core.caps import Caps
from septet.core.method import Method, SeatPool
from septet.core.money import Load
from septet.core.session import Fused, Next, View
from septet.core.types import Floats, Query, Tokens


class TokenMethod(Method):
    """Gives `start` and `fuse`. A method that wants to see the first member before it asks the others sets
    `consults` and gives `consult`."""

    consults: ClassVar[bool] = False

    asks: ClassVar[bool] = False
    """`fuse` asks the members itself: its views show nothing, and no forward is made for them."""

    @property
    def complete(self) -> bool:
        """Whether each fused distribution covers all that may come next, and s does not change: then a text is
        scored by the sum over its segmentations, else along the pieces that the ensemble itself prefers."""
        return False

    def mixture(self, s: Any) -> Floats | None:
        """(n_members,) weights, where the fused distribution is the arithmetic mean of the members' own by
        weights that do not change, so that the schedule `mixture` may draw one member a piece; else None."""
        return None

    def hidden_of(self, n_members: int) -> Sequence[int]:
        """The members whose hidden state `fuse` or `consult` reads, as `Next.hidden`."""
        return ()

    def remark(self, s: Any) -> str:
        """What the verdict says about the decoding, beside each member's support; "" for nothing."""
        return ""

    def start(self, query: Query, prompts: Sequence[Tokens | None], prepared: Any, state: Any) -> Any:
        """The request's value s, before the first token."""
        return None

    def consult(self, first: Next, s: Any) -> Sequence[int]:
        """Which members to ask, after the first member's distribution is known."""
        raise NotImplementedError

    def fuse(self, views: Sequence[View | None], s: Any) -> tuple[Fused, Any]:
        """The fused distribution over byte strings, and the next s; may be a generator of asks."""
        raise NotImplementedError

    def offers(self, members: Sequence[Caps]) -> Caps:
        """A token-level ensemble streams, and can be a member of another: it reports its top k, and scores a
        text on forks of its members."""
        both = members[0]
        for caps in members[1:]:
            both &= caps
        k = self.needs().topk or both.topk
        return Caps(
            text=True,
            samples=True,
            stream=True,
            logprobs=True,
            seed=both.seed,
            fork=both.fork,
            score=both.fork,
            continues=both.continues,
            topk=k,
            context=both.context,
        )

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """One session per member, fed once, and as many tokens as the answer may have."""
        return {m.name: Load(1, 1, query.max_tokens or 0) for m in pool.members}
