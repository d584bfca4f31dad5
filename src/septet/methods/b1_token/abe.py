"""ABE: every member appends only its own tokens, and a joint beam search keeps what agrees on bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from septet.core.caps import Caps
from septet.core.errors import BadParameter
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Method, Plan, Rng, SeatPool, method, param
from septet.core.money import Load
from septet.core.types import Query
from septet.methods.b1_token._joint_beam import MAX_TOKENS, JointBeam
from septet.parts.decoding.weights import by_score

CARD = Card(
    paper="2502.21265",
    title="Token-level Ensembling of Models with Different Vocabularies",
    facets=Facets(
        family=Family.TOKEN,
        strategy=Strategy.AGGREGATION,
        granularity=Granularity.TOKEN,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "texts are compared as the exact bytes of ids; the released code decodes ids one by one, which turns half"
        " a character into U+FFFD",
        "a member that waits keeps its score and its length; the released code divides its score by one token more",
        "each member shows its best k tokens, and more where the search reads that list to its end; the released"
        " code sorts the whole vocabulary",
        "what can no more beat the best whole answer is left out of the search; the released code ends the search"
        " of that step at the first such state",
        "where 10,000 joint states hold no agreement, each member's best token is tried with what the others can"
        " say along it; the released code goes on through all states",
        "a member of weight 0 is left out, where the released code would still bind the others to its tokens",
        "a whole answer is preferred to one that was cut at the token limit",
        "sampling is left out: the paper's sampler lets the first member draw freely and binds the others to it, so"
        " its result depends on their order and is no product of the members' distributions",
        "members of one vocabulary may take different tokens of equal beginning, as in the paper, so with a beam"
        " above 1 twins are certain to equal the model's own beam search only where no token begins another",
        "at the token limit the agreed text is given, where the paper returns an empty string if a member waits then",
        "the rank of whole answers, by unnormalised log-probability, and the 10,000 states are the released code's;"
        " the paper does not say",
    ),
)


@method(CARD)
class Abe(Method):
    """Agreement-based ensembling (2502.21265, section 3).

    A hypothesis holds one token sequence per member, whose bytes are prefixes of the longest one. Each step
    the members that are not ahead take a token; joint tokens (n_members,) are searched best first by
    Σ_i w_i · logp_i / n_i over summed log-probabilities and lengths, and kept where the bytes agree. An answer
    is whole when all end on equal bytes; of up to `beam` whole ones the highest Σ_i w_i · logp_i is given.
    Cost: `beam` forwards per member and token of its own, nothing re-tokenised or fed again; `beam` sequences
    per member. With a beam of 1 it streams what all have written. Fails where members mean different words:
    then the joint score forces one on them.

    >>> from septet.parts.decoding.agreement import Side, compatible, waits
    >>> compatible([Side(b" cat"), Side(b" cats")]), compatible([Side(b" the"), Side(b" cats")])
    (True, False)
    >>> waits([Side(b" cat"), Side(b" cats")])    # the second waits until the first has caught up along "s"
    [False, True]
    """

    beam: Annotated[int, param("Hypotheses that are kept; 1 is greedy.", ge=1, le=64)] = 5
    k: Annotated[
        int,
        param(
            "Tokens that each member shows at first; more are read where the search needs them.",
            ge=1,
            le=1000,
        ),
    ] = 20
    weights: Annotated[
        Mapping[str, float] | None,
        param("Each member's weight by name; equal where none is given.", min_length=1),
    ] = None

    def needs(self) -> Caps:
        return Caps(text=True, continues=True, topk=self.k, fork=self.beam > 1)

    def offers(self, members: Sequence[Caps]) -> Caps:
        """It draws nothing, so it has one answer to a query; it streams with a beam of 1."""
        return Caps(text=True, stream=self.beam == 1, seed=True, continues=all(m.continues for m in members))

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """One session per member, fed once, and as many tokens as the answer may have, on every hypothesis."""
        return {m.name: Load(1, 1, self.beam * (query.max_tokens or MAX_TOKENS)) for m in pool.members}

    def prepare(self, pool: Any) -> None:
        by_score(self.weights, pool.names, "abe.weights")

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        if query.temperature:
            raise BadParameter(
                "temperature", query.temperature, "must be 0 or left out: abe searches, it does not draw"
            )
        search = JointBeam(
            query, pool, by_score(self.weights, pool.names, "abe.weights"), beam=self.beam, k=self.k
        )
        yield from search.opened()
        while search.hypotheses and len(search.whole) < self.beam:
            yield from search.step()
        return search.verdict()
