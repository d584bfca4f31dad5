"""Whether a method is moved by a member that only repeats another: identity T9, by the method's own plan on a script.

Three members answer fixed questions; then one of them is there twice under another name, with the same answers, and
was so in the recorded questions of a fit, too. The defaults of a method are run, with ties to the first; where it
asks judges, the members judge, so that the one who is there twice judges twice. Nobody draws: what a member says of a
text depends on who it is and on the text. A fuser writes down all that it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any
from zlib import crc32

import numpy as np

from septet.bench.duplicates import TOLERANCE
from septet.core.caps import Caps
from septet.core.errors import BadParameter
from septet.core.method import Ask, Asking, Method, Seat, SeatPool, asking
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query, Tokens
from septet.testing.scripted import drive

MEMBERS = ("ada", "bob", "cyd")

QUESTIONS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "How many planets has the sun?": (
        ("I count them. The answer is 8.", "There are eight. The answer is 8.", "The answer is 9."),
        ("With Pluto, the answer is 9.", "The answer is 9, as I learned it.", "I think the answer is 9."),
        ("The answer is 10.", "The answer is 8.", "It must be that the answer is 10."),
    ),
    "What is 6 times 7?": (
        ("6 + 6 and so on: the answer is 41.", "The answer is 42.", "So the answer is 41."),
        ("The table says that the answer is 42.", "The answer is 42, surely.", "Then the answer is 42."),
        ("By heart: the answer is 42.", "I say the answer is 48.", "The answer is 36."),
    ),
    "In which year did the war end?": (
        ("The answer is 1918.", "It was long: the answer is 1918.", "Perhaps the answer is 1919."),
        ("If the second is meant, the answer is 1945.", "The answer is 1945.", "I read: the answer is 1945."),
        ("The answer is 1648.", "A treaty was signed. The answer is 1648.", "The answer is 1918, I hope."),
    ),
}
"""What each of the three members says, sample by sample, over and over."""

RIGHT = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1], [1, 0, 0], [0, 1, 0]] * 4)
"""(24, 3) who was right on the recorded questions."""


@dataclass(frozen=True)
class Moved:
    """What of a method's verdicts changed when any one member was there twice."""

    answer: bool
    confidence: bool
    confident: bool
    """Whether it gave a confidence at all."""

    @property
    def safe(self) -> bool:
        """Whether nothing did."""
        return not (self.answer or self.confidence)

    def __str__(self) -> str:
        if self.answer:
            return "no: the answer changes"
        if self.confidence:
            return "no: the confidence changes"
        return "yes" if self.confident else "yes; it gives no confidence"


@cache
def moved(record: Any) -> Moved:
    """What changes in the verdicts of a non-cascade method, with its defaults, on every question for every member.

    Raises BadParameter for a method that asks for what the script has not.

    >>> from septet.engine import catalogue
    >>> str(moved(catalogue.get("methods", "agent-forest")))
    'no: the answer changes'
    """
    method: Method = record(**{f.name: "first" for f in fields(record) if f.name == "tie"})
    before = _verdicts(method, MEMBERS)
    answer = confidence = False
    for member in MEMBERS:
        for (said, sure), (text, p) in zip(before, _verdicts(method, (*MEMBERS, f"{member}2")), strict=True):
            answer |= said != text
            confidence |= (sure is None) != (p is None)
            confidence |= sure is not None and p is not None and abs(sure - p) > TOLERANCE
    return Moved(answer, confidence, any(sure is not None for _, sure in before))


def _verdicts(method: Method, names: Sequence[str]) -> list[tuple[str | None, float | None]]:
    """The text and the confidence of each question's verdict; no text: it abstained."""
    pool = _pool(method, names)
    state = None
    if method.state_type is not None:
        state = method.begin(names)
        if state is None:
            state, _, _ = _played(asking(method.fit(_recorded(names), pool.roles, _rng())))
    found = []
    for question in QUESTIONS:
        verdict, candidates, final = _played(method.plan(Query.of(question), pool, state, _rng()))
        text = verdict.text if final is None else final
        if text is None and not verdict.abstained:
            text = candidates[verdict.chosen].text
        found.append((text, verdict.confidence))
    return found


def _pool(method: Method, names: Sequence[str]) -> SeatPool:
    members = tuple(Seat(name, Caps(text=True, samples=True, logprobs=True, topk=20)) for name in names)
    roles = {
        "judge": members,
        "embedder": (Seat("embedder", Caps(embed=True)),),
        "fuser": (Seat("fuser", Caps(text=True)),),
    }
    if missing := set(method.roles()) - set(roles):
        raise BadParameter(
            "roles", sorted(missing), f"must be among {sorted(roles)}: the script has no other"
        )
    return SeatPool(members, {role: roles[role] for role in method.roles()})


def _recorded(names: Sequence[str]) -> Table:
    """Outcomes of these members; who repeats another had the same ones."""
    rows = []
    for q, right in enumerate(RIGHT.tolist()):
        for name in names:
            i = MEMBERS.index(_original(name))
            number = 10 * q if right[i] else 10 * q + 1 + i % 2
            rows.append(
                {
                    "query_id": f"q{q}",
                    "query": f"What is ten times {q}?",
                    "model": name,
                    "response": f"{('So', 'Well', 'Then')[i]}, the answer is {number}.",
                    "answer": str(number),
                    "score": float(right[i]),
                    "logp": -0.2 - 0.1 * i,
                }
            )
    return Table.of(rows)


def _original(name: str) -> str:
    return name.removesuffix("2")


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _played(plan: Asking[Any]) -> tuple[Any, list[Completion], str | None]:
    """What a plan comes to, the candidates that it was given, and the text of its final ask, if it made one."""
    candidates: list[Completion] = []
    finals: list[str] = []

    def reply(ask: Ask) -> Any:
        value = _said(ask)
        if ask.final:
            finals.append(value[0].text)
        elif ask.purpose == "candidate":
            candidates.extend(value)
        return value

    verdict, _ = drive(plan, reply)
    return verdict, candidates, finals[-1] if finals else None


def _said(ask: Ask) -> Any:
    """What the script replies."""
    if ask.do == "embed":
        return np.array([_direction(text) for text in ask.args["texts"]])
    if ask.do != "complete":
        raise BadParameter("ask", ask.do, "must be complete or embed: the script has no other")
    asked, name = ask.args["query"].text, ask.to.name
    if name == "fuser":
        return [Completion(member=name, text=" ".join(sorted(_shown(asked))))]
    if ask.purpose == "judgement":
        return [Completion(member=name, text=_judged(_original(name), asked))]
    question = next(q for q in QUESTIONS if q in asked)
    texts = QUESTIONS[question][MEMBERS.index(_original(name))]
    n = ask.args["n"]
    return [_completion(name, texts[i % len(texts)], i) for i in range(n)]


def _shown(prompt: str) -> list[str]:
    """The answers that a prompt holds, each on a line of its own."""
    return [line for line in prompt.splitlines() if "the answer is" in line.lower()]


def _judged(judge: str, prompt: str) -> str:
    """A level for each answer that is shown; or the number of the best one, where one is to be named."""
    levels = [1 + crc32(f"{judge}: {text}".encode()) % 5 for text in _shown(prompt)]
    if '": score' in prompt:
        return "{" + ", ".join(f'"{i}": {level}' for i, level in enumerate(levels, 1)) + "}"
    return f"Response {1 + int(np.argmax(levels))}"


def _direction(text: str) -> Floats:
    """(4,) a direction that a text always has."""
    z = np.random.default_rng(crc32(text.encode())).normal(size=4)
    found: Floats = z / np.linalg.norm(z)
    return found


def _completion(name: str, text: str, sample: int) -> Completion:
    """An answer of one token, which had a probability from .4 to .9."""
    p = 0.4 + 0.5 * (crc32(text.encode()) % 1000) / 1000
    top = ((text.encode(), float(np.log(p))), (b"?", float(np.log((1 - p) / 2))))
    tokens = Tokens((text.encode(),), np.log([p]), (top,))
    return Completion(member=name, text=text, tokens=tokens, sample=sample)
