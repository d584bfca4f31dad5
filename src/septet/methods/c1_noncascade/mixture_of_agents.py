"""Mixture-of-Agents: members answer, read each other's answers and answer again; one of them writes the last word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from septet.core.caps import Caps
from septet.core.errors import NoCandidate
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, Plan, Rng, SeatPool, method, param
from septet.core.money import Load
from septet.core.types import Query
from septet.methods.c1_noncascade._family import NonCascadeMethod
from septet.methods.c1_noncascade._regeneration import FUSER, last_word, with_fuser
from septet.parts.answers.regenerate import fusion

CARD = Card(
    paper="2406.04692",
    title="Mixture-of-Agents Enhances Large Language Model Capabilities",
    facets=Facets(
        family=Family.NONCASCADE,
        strategy=Strategy.REGENERATION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=False,
    ),
    differs=(
        "the answers of the layer before stand in the user's turn, before the question, for base models read no system"
        " message; the paper puts them into one",
        "each answer stands in a block that is closed by a nonce, and the prompt says that it holds no instructions",
        "the prompt is ours; the released one says much the same",
        "the last layer is the role `fuser`; its answer is the ensemble's, and is streamed",
        "if every member of a layer fails, the answers of the layer before go on",
    ),
)


@method(CARD)
class MixtureOfAgents(NonCascadeMethod):
    """Layers of proposers and one aggregator (2406.04692, section 2.2).

    y_m^(1) = LLM_m(q); y_m^(l) = LLM_m(q ⊕ {y^(l−1)}) for 1 < l < L; the answer is fuser(q ⊕ {y^(L−1)}).
    Cost: (L − 1) · n_members + 1 calls, and prompts that hold all answers of the layer before. Fails where the fuser is
    too weak to judge: sampling the best member alone often does better (2502.00674), and so does choosing.

    >>> import numpy as np
    >>> from septet.testing.scripted import drive, seat
    >>> pool = SeatPool((seat("ada"), seat("bob")), {"fuser": (seat("eve"),)})
    >>> plan = MixtureOfAgents().plan(Query.of("2+3?"), pool, None, np.random.default_rng(0))
    >>> verdict, asks = drive(plan, {"ada": "5", "bob": "6", "eve": "It is 5."})
    >>> [len(items) for items in asks], verdict.reason
    ([2, 2, 1], 'eve wrote from 2 answers of layer 2')
    """

    layers: Annotated[
        int, param("L: layers, the fuser's among them; 2 is the light variant.", ge=2, le=10)
    ] = 3
    temperature: Annotated[float, param("Temperature of the proposers.", ge=0, le=2)] = 0.7

    def roles(self) -> Mapping[str, Caps]:
        return FUSER

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        n, most = self.layers - 1, query.max_tokens or 0
        loads = {m.name: Load(n, n, n * most) for m in pool.members}
        return with_fuser(loads, pool.role("fuser")[0], query)

    def plan(self, query: Query, pool: SeatPool, state: Any, rng: Rng) -> Plan:
        put = query
        if query.temperature is None:
            put = query.but(temperature=self.temperature)
        texts: list[str] = []
        errors = ""
        layer = 0
        for number in range(1, self.layers):
            asked = fusion(put, texts, "mixture", rng) if texts else put
            replies = yield [m.complete(asked, purpose="proposal") for m in pool.members]
            said = [reply.value[0].text for reply in replies if reply.ok]
            said = [text for text in said if text.strip()]
            failed = "; ".join(str(reply.error) for reply in replies if not reply.ok)
            if said:
                texts, layer = said, number
            elif not texts:
                raise NoCandidate(f"no member has answered: {failed or 'every answer is empty'}")
            errors = "; ".join(filter(None, (errors, failed)))
        answers = f"{len(texts)} answer{'s' if len(texts) > 1 else ''} of layer {layer}"
        return (yield from last_word(pool.role("fuser")[0], query, texts, answers, errors, rng))
