"""EcoAssistant: members write and run code in turn until one solves the question; its code is shown with later ones."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import numpy as np

from septet.core.caps import Caps, PoolRule
from septet.core.errors import NoCandidate
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Asking, Card, Kept, Plan, Rng, Seat, SeatPool, method, param
from septet.core.money import Load
from septet.core.types import Battle, Completion, Decision, Floats, Message, Query, Run, Verdict
from septet.methods.c2_cascade._family import Cascade
from septet.parts.deferral.demonstrations import nearby, shown
from septet.parts.deferral.semantic_cache import SemanticCache

CARD = Card(
    paper="2310.03046",
    title="EcoAssistant: Using LLM Assistant More Affordably and Accurately",
    facets=Facets(
        family=Family.CASCADE,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.COST,
        supervised=False,
        efficiency_aware=True,
    ),
    pool=PoolRule(at_least=2, order="cost"),
    online=True,
    scope="stream",
    permutes=False,
    differs=(
        "the loop and its constants were read in the authors' code; the prompts are ours, as theirs name web services",
        "all python blocks of a message are run as one program; other languages are not run",
        "a message without code and without TERMINATE is answered by a reminder, which counts as one of the replies",
        "a conversation in which no code ran is a failure, as its last run cannot have ended well",
        "where everybody fails, the last member's last words are answered with confidence 0; on_failure = abstain is"
        " the paper's FAIL",
        "code runs isolated for as long as the role `executor` says; the paper allows 300 seconds and the network",
        "keys of web services are not hidden from the members and put back at execution, as the paper does",
        "judges' calls are counted and priced; the paper leaves them out",
        "the paper's human judge is not built: feedback holds no code, so it teaches the store nothing",
        "solved questions of one tenant are never shown to another's members",
    ),
)

_BLOCK = re.compile(r"```(?:python|py|python3)?[ \t]*\n(?P<code>.*?)```", re.DOTALL | re.IGNORECASE)

END = "TERMINATE"


@dataclass(frozen=True)
class Solved:
    """What is kept: a question, the program that solved it, whose it is, and the question's embedding `row` (d,)."""

    question: str
    code: str
    tenant: str
    row: Floats


@dataclass(frozen=True)
class Talk:
    """One member's conversation: its replies, the programs with what they printed, and why it broke off, if it did."""

    messages: tuple[Message, ...]
    replies: tuple[Completion, ...] = ()
    runs: tuple[tuple[str, Run], ...] = ()
    failed: str = ""

    @property
    def trouble(self) -> str:
        """Why it is no success, before any judge is asked; "" where its last program ended well."""
        if self.failed:
            return f"failed ({self.failed})"
        if not self.runs:
            return "ran no code"
        run = self.runs[-1][1]
        return "" if run.ok else f"its last program did not end well ({_last_line(run.error)})"

    @property
    def answer(self) -> str:
        """The last words without code and END; where there are none, what the last program printed."""
        words = _BLOCK.sub("", self.replies[-1].text).replace(END, "").strip()
        return words or (self.runs[-1][1].output.strip() if self.runs else "") or self.replies[-1].text


@method(CARD)
class EcoAssistant(Cascade):
    """Code-driven cascade with a demonstration store (2310.03046).

    Member m talks with an executor: its programs are run and their output is the reply, until it ends with
    TERMINATE and no code, or after `replies` replies. It succeeds if its last program ended with exit code 0 and
    more than half of the judges say yes; else the next member starts afresh. The first message shows the nearest
    solved questions with 1 − cos < `distance`; a success is stored, question with last program, for all members.
    Cost: at most (replies + 1) completions and `replies` runs per member, one judgement each, one embedding.
    Fails where a question needs no program, and where the judge believes any number that was printed.

    >>> from septet.testing.scripted import drive, seat
    >>> roles = {"executor": (seat("box", run=True),), "judge": (seat("judge", text=True),)}
    >>> pool = SeatPool((seat("smol"), seat("gemma")), roles)
    >>> wrong, right = "```python\\nprint(1/0)\\n```", "```python\\nprint(6*7)\\n```"
    >>> said = iter([wrong, "TERMINATE", right, "It is 42. TERMINATE"])
    >>> def script(ask):
    ...     if ask.do == "run":
    ...         return Run(False, error="exit code 1") if "/0" in ask.args["code"] else Run(True, "42")
    ...     return [Completion(member=ask.to.name, text="Yes" if ask.to.name == "judge" else next(said))]
    >>> eco = EcoAssistant(demonstrations=0)
    >>> verdict, _ = drive(eco.plan(Query.of("6 times 7?"), pool, None, np.random.default_rng(0)), script)
    >>> verdict.text, verdict.chosen
    ('It is 42.', 3)
    """

    replies: Annotated[
        int, param("Replies that a member gets from the executor before it has to stop.", ge=1, le=50)
    ] = 5
    demonstrations: Annotated[
        int,
        param(
            "Solved questions that are shown; 0: nothing is stored, and no embedder is needed.", ge=0, le=20
        ),
    ] = 1
    distance: Annotated[
        float, param("A solved question is shown if 1 − its cosine is below this.", gt=0, le=2)
    ] = 0.5
    capacity: Annotated[
        int, param("Solved questions that are kept; the oldest go first.", ge=1, le=1_000_000)
    ] = 10_000
    output_chars: Annotated[
        int, param("Characters of a program's output that the member is told, its end.", ge=50, le=100_000)
    ] = 2_000
    on_failure: Annotated[
        Literal["last", "abstain"],
        param("Where everybody failed: the last member's last words, or no answer."),
    ] = "last"

    state_type = SemanticCache

    def roles(self) -> dict[str, Caps]:
        """Who runs, who judges, and for demonstrations who embeds."""
        found = {"executor": Caps(run=True), "judge": Caps(text=True)}
        return found | ({"embedder": Caps(embed=True)} if self.demonstrations else {})

    def worst(self, query: Query, pool: SeatPool) -> dict[str, Load]:
        """Every member talks to the end and every conversation is judged."""
        turns, n = self.replies + 1, len(pool.members)
        loads = {m.name: Load(turns, turns, turns * (query.max_tokens or 0)) for m in pool.members}
        asked = [(pool.role("executor")[0], Load(n * self.replies))]
        asked += [(judge, Load(n, n * turns, n * JUDGEMENT_TOKENS)) for judge in pool.role("judge")]
        asked += [(pool.role("embedder")[0], Load(1, 1))] if self.demonstrations else []
        for seat, load in asked:
            loads[seat.name] = loads.get(seat.name, Load()) + load
        return loads

    # --- what is kept -----------------------------------------------------------------------------------

    def begin(self, members: Sequence[str]) -> SemanticCache:
        """Nothing solved yet."""
        return SemanticCache.empty()

    def keep(self, event: Solved, state: SemanticCache, rng: Rng) -> Kept:
        """The store with one more solved question."""
        held = state.keeping(event.row, event.question, event.code, event.tenant, self.capacity)
        return Kept(len(held), held)

    def update(self, state: SemanticCache, events: Sequence[Battle | Decision], rng: Rng) -> SemanticCache:
        """Feedback teaches nothing: it holds no code."""
        return state

    # --- the plan ---------------------------------------------------------------------------------------

    def plan(self, query: Query, pool: SeatPool, state: SemanticCache, rng: Rng) -> Plan:
        """Down the chain until a conversation succeeds."""
        row = yield from self._row(query, pool)
        first = self._first(query, row, state)
        told: list[str] = []
        n_before, last = 0, None
        for member in pool.members:
            talk = yield from self._talk(query, first, member, pool.role("executor")[0])
            why = talk.trouble or (yield from self._judged(query, talk, pool.role("judge"), rng))
            if not why:
                if row is not None:
                    yield [pool.keep(Solved(query.text, talk.runs[-1][0], query.tenant, row))]
                reason = "; ".join([*told, f"{member.name} solved it: its program ran and was judged right"])
                return Verdict(
                    text=talk.answer, chosen=n_before + len(talk.replies) - 1, confidence=1.0, reason=reason
                )
            told.append(f"{member.name}: {why}")
            n_before += len(talk.replies)
            last = (talk, n_before - 1) if talk.replies else last
        reason = "; ".join([*told, "nobody solved it"])
        if last is None:
            raise NoCandidate(f"every member failed: {reason}")
        if self.on_failure == "abstain":
            return Verdict(abstained=True, confidence=0.0, reason=reason)
        return Verdict(text=last[0].answer, chosen=last[1], confidence=0.0, reason=reason)

    def _row(self, query: Query, pool: SeatPool) -> Asking[Floats | None]:
        """(d,) the question's embedding; None without demonstrations, or where the embedder failed."""
        if not self.demonstrations:
            return None
        (reply,) = yield [pool.role("embedder")[0].embed([query.text])]
        return np.asarray(reply.value, dtype=np.float64)[0] if reply.ok else None

    def _first(self, query: Query, row: Floats | None, store: SemanticCache) -> tuple[Message, ...]:
        """The conversation so far, its last question put as a task, with demonstrations."""
        near = [] if row is None else nearby(store, row, query.tenant, self.demonstrations, self.distance)
        solutions = shown(near, prompt("solution")) if near else ""
        lead = prompt("demonstrations").format(solutions=solutions) if near else ""
        task = prompt("task").format(demonstrations=lead, question=query.text)
        asked = max((i for i, m in enumerate(query.messages) if m.role == "user"), default=0)
        return (*query.messages[:asked], Message("user", task))

    def _talk(self, query: Query, first: tuple[Message, ...], member: Seat, executor: Seat) -> Asking[Talk]:
        """One member's conversation with the executor."""
        messages, replies, runs = list(first), list[Completion](), list[tuple[str, Run]]()
        for left in range(self.replies, -1, -1):
            (reply,) = yield [member.complete(query.but(messages=tuple(messages), raw=None))]
            if not reply.ok:
                return Talk(tuple(messages), tuple(replies), tuple(runs), str(reply.error))
            said = reply.value[0]
            replies.append(said)
            messages.append(Message("assistant", said.text))
            code = program(said.text)
            if not left or (not code and END in said.text):
                break
            answer = prompt("nudge")
            if code:
                (reply,) = yield [executor.run(code)]
                runs.append((code, reply.value if reply.ok else Run(False, error=str(reply.error))))
                answer = self._told(runs[-1][1])
            messages.append(Message("user", answer))
        return Talk(tuple(messages), tuple(replies), tuple(runs))

    def _told(self, run: Run) -> str:
        """What a member is told of a run."""
        printed = "\n".join(part.strip() for part in (run.output, run.error) if part.strip())
        how = "The program ended well." if run.ok else "The program did not end well."
        return prompt("ran").format(how=how, output=printed[-self.output_chars :] or "It printed nothing.")

    def _judged(self, query: Query, talk: Talk, judges: Sequence[Seat], rng: Rng) -> Asking[str]:
        """Why the judges do not accept a conversation; "" where more than half say yes."""
        mark = f"[{int(rng.integers(2**48)):012x}]"
        turns = [f"{m.role}: {m.content}" for m in talk.messages]
        text = prompt("judge").format(mark=mark, conversation="\n\n".join(turns))
        asked = Query.of(text, temperature=0.0, max_tokens=JUDGEMENT_TOKENS, tenant=query.tenant)
        replies = yield [judge.complete(asked, purpose="judgement") for judge in judges]
        n_yes = sum(r.ok and says_yes(r.value[0].text) for r in replies)
        return "" if 2 * n_yes > len(judges) else f"{n_yes} of {len(judges)} judges said yes"


JUDGEMENT_TOKENS = 4
"""A judgement is one word."""


def program(text: str) -> str:
    r"""The python blocks of a message as one program; "" where there is none. A block that is not closed is none.

    >>> program("First\n```python\nx = 2\n```\nthen\n```\nprint(x)\n```\n```sh\nls\n```")
    'x = 2\n\nprint(x)'
    """
    return "\n\n".join(code.strip() for code in _BLOCK.findall(text) if code.strip())


def says_yes(text: str) -> bool:
    """Whether the first word is yes; anything else, prose too, is no.

    >>> [says_yes(t) for t in ("Yes.", " **yes**", "no", "Surely yes", "")]
    [True, True, False, False, False]
    """
    found = re.match(r"\W*(\w+)", text)
    return found is not None and found[1].lower() == "yes"


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.strip().splitlines()) if line.strip()), "no reason given")


@cache
def _prompts() -> Mapping[str, Any]:
    return tomllib.loads(files(__package__).joinpath("eco_assistant.prompts.toml").read_text("utf-8"))


def prompt(name: str) -> str:
    """A prompt beside the method."""
    return str(_prompts()[name]["text"])
