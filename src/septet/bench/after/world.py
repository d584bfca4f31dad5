"""A recorded set as a world that answers asks: what is recorded is said again, anything else is named as missing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from septet.bench.after.embedding import Embeddings
from septet.bench.after.sets import Answers
from septet.core.caps import Caps
from septet.core.errors import SeptetError
from septet.core.method import Ask, Method, Seat
from septet.core.money import Usage
from septet.core.types import Completion, Query, Tokens

JUDGED = "judge"
"""The role that recorded judgements play."""

EMBEDS = "embedder"
"""The role that a real encoder plays."""

ALL_LETTERS = 100
"""Alternatives that a member with recorded option probabilities offers: they are all that its answer can be."""

SHOWN = 3000
"""Characters by which a text in a prompt is known again."""

_LEVELS = re.compile(r"one whole number from 1 to (\d+)\. Do not explain (?:it|them)\.")
"""How `parts/answers/judging.prompts.toml` asks for levels."""

_BLOCK = re.compile(
    r"\[(?P<noun>[\w ]+?) (?P<i>\d+) (?P<nonce>[0-9a-f]{16})\]\n(?P<text>.*?)\n\[end of (?P=noun) (?P=i) (?P=nonce)\]",
    re.DOTALL,
)


class Unrecorded(SeptetError):
    """An ask that the set does not record; `samples`: how many there are, where more were asked for."""

    def __init__(self, ask: str, samples: int | None = None) -> None:
        self.ask, self.samples = ask, samples
        super().__init__(ask)


@dataclass
class Spent:
    """What answering one question took: answers of members, judgements, texts embedded, USD and seconds of theirs."""

    answers: int = 0
    judgements: int = 0
    embedded: int = 0
    usd: float = 0.0
    judges_usd: float = 0.0
    seconds: float = 0.0


@dataclass
class World:
    """Answers asks about the questions of a table from its rows.

    A member that is asked a question as it stands gives its first samples; a price that is unknown counts as NaN.
    `at` is the question that is being answered (−1: none, as in a fit), `spent` what it took; `seconds` were spent on
    asking anybody for real.
    """

    answers: Answers
    embeddings: Embeddings
    at: int = -1
    spent: Spent = field(default_factory=Spent)
    seconds: float = 0.0

    recorded: ClassVar[bool] = True
    """Whether nobody is asked."""

    def __post_init__(self) -> None:
        table = self.answers.table
        self._rows: dict[tuple[int, str], list[int]] = {}
        for row in np.lexsort((table.sample, table.member, table.query)).tolist():
            key = int(table.query[row]), table.members[int(table.member[row])]
            self._rows.setdefault(key, []).append(row)
        self._texts: dict[str, list[int]] = {}
        self._looks: dict[tuple[str, int], int] = {}
        self._asked: dict[str, int] = {}
        for q, text in enumerate(table.questions):
            self._asked.setdefault(text, q)
        self._prices = self._per_token()

    # --- who sits here ------------------------------------------------------------------------------

    def seats(self, members: Sequence[str]) -> tuple[Seat, ...]:
        """The members, with what they offer."""
        return tuple(Seat(name, self.offers(name)) for name in members)

    def roles(self, method: Method) -> dict[str, tuple[Seat, ...]]:
        """The actors of a method's roles; one that nothing recorded can play raises."""
        found: dict[str, tuple[Seat, ...]] = {}
        for role, needed in method.roles().items():
            offered = self._role(role)
            if offered is None or needed.missing(offered):
                lacking = needed.named() if offered is None else needed.missing(offered)
                raise Unrecorded(f"the role {role} ({', '.join(lacking)})")
            names = self.answers.judges if role == JUDGED else (role,)
            found[role] = tuple(Seat(f"{role} {n}" if role == JUDGED else n, offered) for n in names)
        return found

    def _role(self, role: str) -> Caps | None:
        if role == EMBEDS:
            return Caps(embed=True)
        return Caps(text=True, rate=True) if role == JUDGED and self.answers.judges else None

    def offers(self, member: str) -> Caps:
        """What a member of the set can do."""
        place = self.answers.table.members.index(member)
        known = bool(self.answers.letters)
        return Caps(
            text=True,
            samples=bool(self.answers.samples()[place] > 1),
            seed=True,
            logprobs=known,
            topk=ALL_LETTERS if known else 0,
            score=known,
        )

    # --- what they say ------------------------------------------------------------------------------

    def reply(self, ask: Ask) -> Any:
        """The value of an ask to a member or a role."""
        name, do = ask.to.name, ask.do
        if do == "embed" and name == EMBEDS:
            self.spent.embedded += len(ask.args["texts"])
            return self.embeddings.of(ask.args["texts"])
        if name.startswith(f"{JUDGED} "):
            return self._judge(name.removeprefix(f"{JUDGED} "), ask)
        if do == "complete":
            return self._complete(name, ask)
        if do == "score" and self.answers.letters:
            return self._score(name, ask)
        raise Unrecorded(f"{do} of {name}")

    def question(self, query: Query) -> int | None:
        """The question of the table that a query puts, alone and as it stands; None: none."""
        turns = [m for m in query.messages if m.content.strip()]
        if query.prefix or len(turns) > 1:
            return None
        if self.at >= 0 and query.text == self.answers.table.questions[self.at]:
            return self.at
        return self._asked.get(query.text)

    def _complete(self, name: str, ask: Ask) -> list[Completion]:
        table, n = self.answers.table, ask.args["n"]
        q = self.question(ask.args["query"])
        if q is None:
            raise Unrecorded(f"another prompt than the question, to a member ({ask.purpose})")
        rows = self._rows.get((q, name), [])
        if len(rows) < n:
            raise Unrecorded(f"{n} samples of {name}, of which {len(rows)} are recorded", len(rows))
        wanted = int(ask.args["logprobs"])
        if wanted and not self.answers.letters:
            raise Unrecorded(f"the log-probabilities of an answer of {name}")
        self.spent.answers += n
        found = []
        for i, row in enumerate(rows[:n]):
            usd = float(table.usd[row])
            self.spent.usd += usd
            confidence = float(table.confidence[row])
            found.append(
                Completion(
                    member=name,
                    text=str(table.text[row] or ""),
                    usage=Usage(_whole(table.prompt_tokens[row]), _whole(table.completion_tokens[row])),
                    usd=0.0 if np.isnan(usd) else usd,
                    confidence=None if np.isnan(confidence) else confidence,
                    tokens=self._tokens(row) if wanted else None,
                    sample=i,
                    extra={"row": row},
                )
            )
        return found

    def _tokens(self, row: int) -> Tokens:
        """The answer as one token, with the probabilities of all options."""
        said = str(self.answers.table.text[row])
        letters = self.answers.letters
        top = self._listed(row)
        own = letters.index(said) if said in letters else int(np.argmax([p for _, p in top]))
        return Tokens((letters[own].encode(),), np.array([top[own][1]]), (top,))

    def _listed(self, row: int) -> tuple[tuple[bytes, float], ...]:
        assert self.answers.options is not None
        logp = np.log(np.maximum(self.answers.options[row], 1e-12))
        pairs = zip(self.answers.letters, logp.tolist(), strict=True)
        return tuple((letter.encode(), p) for letter, p in pairs)

    def _score(self, name: str, ask: Ask) -> list[Tokens]:
        """Log-probabilities of letters as the answer."""
        q = self.question(ask.args["query"])
        texts = ask.args["texts"]
        if q is None or not set(texts) <= set(self.answers.letters):
            raise Unrecorded(f"the score of a text that is no option, by {name}")
        listed = dict(self._listed(self._rows[q, name][0]))
        return [Tokens((t.encode(),), np.array([listed[t.encode()]])) for t in texts]

    def mark(self, text: str, finish: str) -> float:
        """What a text that is nobody's own scores: as the recorded answers that come to the same; NaN: none does."""
        return matched(self.answers, self.at, text)

    # --- judges -------------------------------------------------------------------------------------

    def _judge(self, judge: str, ask: Ask) -> Any:
        """Recorded scores: as numbers to `rate`, and as words where a prompt holds recorded answers in blocks."""
        if ask.do not in ("rate", "complete"):
            raise Unrecorded(f"{ask.do} of a judge")
        prompt = ask.args["query"].text
        rates = ask.do == "rate"
        shown = list(_BLOCK.finditer(prompt))
        most = _LEVELS.search(prompt, shown[-1].end() if shown else 0)
        if not (rates or most):
            raise Unrecorded("what a judge says beside levels, as which answer is best")
        held = list(ask.args["texts"]) if rates else [m["text"] for m in shown]
        rows = [self._row_of(text, prompt) for text in held]
        known = [row for row in rows if row is not None]
        if not known or len(known) < len(rows):
            raise Unrecorded("a judgement of a text that is not recorded")
        scheme = "single" if rates or len(known) == 1 else "several"
        scores = [self._judgement(judge, scheme, row) for row in known]
        self._read(judge, [prompt, *(held if rates else ())])
        if most is None or rates:
            return np.array(scores)[:, None]
        levels = [
            self._level(judge, row, score, int(most[1])) for row, score in zip(known, scores, strict=True)
        ]
        said = json.dumps({str(i): level for i, level in enumerate(levels, start=1)})
        return [Completion(member=ask.to.name, text=said)] * int(ask.args["n"])

    def _judgement(self, judge: str, scheme: str, row: int) -> float:
        table = self.answers.table
        j = self.answers.judges.index(judge)
        found = float(self.answers.judgements[scheme][j, table.query[row], table.member[row]])
        if np.isnan(found):
            raise Unrecorded("a judgement that is not recorded")
        return found

    def _level(self, judge: str, row: int, score: float, most: int) -> int:
        """A score as a whole level of 1..most.

        What is recorded is a mean over several looks; here it is spread over them, so that their mean is the same.
        """
        scale = (
            np.nan if self.answers.scale is None else float(self.answers.scale[self.answers.table.query[row]])
        )
        if scale > 1:
            score = 1 + (score - 1) * (most - 1) / (scale - 1)
        k = self._looks.get((judge, row), 0)
        self._looks[judge, row] = k + 1
        return int(np.floor((k + 1) * score + 1e-6) - np.floor(k * score + 1e-6))

    def _row_of(self, text: str, prompt: str) -> int | None:
        """The row whose text this is: of the question at hand, in a fit of one that the prompt holds."""
        table = self.answers.table
        if not self._texts:
            for row, known in enumerate(table.text):
                self._texts.setdefault(_visible(str(known or "")), []).append(row)
        rows = self._texts.get(_visible(text), [])
        if self.at >= 0:
            return next((row for row in rows if table.query[row] == self.at), None)
        return next((row for row in rows if table.questions[table.query[row]] in prompt), None)

    def _read(self, judge: str, texts: Sequence[str]) -> None:
        """One judgement, priced by what the judge reads, where it is a member whose price per token is known."""
        self.spent.judgements += 1
        usd = self._prices.get(judge, np.nan) * sum(max(1, round(len(t) / 4)) for t in texts)
        self.spent.usd += usd
        self.spent.judges_usd += usd

    def _per_token(self) -> Mapping[str, float]:
        """USD per token of each member, from what its answers cost."""
        table = self.answers.table
        found = {}
        for i, name in enumerate(table.members):
            mine = table.member == i
            tokens = table.completion_tokens[mine].sum()
            found[name] = float(table.usd[mine].sum() / tokens) if tokens > 0 else np.nan
        return found


def _visible(text: str) -> str:
    """The beginning of a text without what a prompt may have taken out of it; of long ones it shows no more."""
    return "".join(text.split()).encode("ascii", "ignore").decode()[:SHOWN]


def _whole(tokens: Any) -> int:
    return 0 if np.isnan(tokens) else int(tokens)


def matched(answers: Answers, q: int, text: str) -> float:
    """What a text that is nobody's own scores: as the recorded answers that come to the same; NaN: there is none."""
    from septet.parts.answers.vote import VOID, outcome

    table = answers.table
    wanted = outcome(Completion(member="", text=text))
    if wanted in VOID:
        return float("nan")
    same = [
        float(table.score[row])
        for row in np.flatnonzero(table.query == q).tolist()
        if outcome(Completion(member="", text=str(table.text[row] or ""))) == wanted
    ]
    return float(np.mean(same)) if same else float("nan")
