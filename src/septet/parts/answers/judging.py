"""Judges that give candidates a level from 1 to K: one by one, in pairs, in flipped triples, or all at once.

A judge is a model that is asked in words, or one that rates. Candidates stand in blocks that a nonce closes, so that
what they say cannot pass for an instruction; how far a model keeps to that is measured by `benchmarks/judges.py`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter, SeptetError
from septet.core.method import Ask, Asking, Rng, Seat
from septet.core.money import Load
from septet.core.types import Floats, Query
from septet.parts.answers.blocks import blocks, nonce_of
from septet.parts.stats.intervals import Estimate, bootstrap_mean

Mode = Literal["single", "pair", "triple", "listwise", "reward"]
"""What a judge sees at once: one candidate; two, in both orders; three, in flipped cyclic windows (2512.23213); all, in
shuffled orders and their reversals. reward: all candidates are rated by a model that has `rate`."""

Unread = Literal["middle", "out"]
"""A score that cannot be read: counts as the middle of the scale, (K + 1) / 2, or is left out of the means."""

TOKENS: Mapping[Mode, int] = {"single": 15, "pair": 30, "triple": 40, "listwise": 50, "reward": 0}
"""Tokens of a reply, as in 2512.23213; listwise at least these, and 12 for each candidate."""

LADDER = range(2, 11)
"""The numbers of levels for which every level has words of its own."""

_BYTES_PER_TOKEN = 4
_CUT = "\n[… {n} characters left out …]\n"


@dataclass(frozen=True)
class Judging:
    """How candidates are judged. `views`: orders that a listwise judge sees; `longest`: characters of a candidate that
    are shown, its beginning and its end."""

    mode: Mode = "triple"
    levels: int = 5
    unread: Unread = "middle"
    views: int = 2
    longest: int = 12_000

    def __post_init__(self) -> None:
        if self.levels not in LADDER:
            raise BadParameter("levels", self.levels, f"must be in [{LADDER.start}, {LADDER.stop - 1}]")
        for name, value, least in (("views", self.views, 1), ("longest", self.longest, 100)):
            if value < least:
                raise BadParameter(name, value, f"must be at least {least}")

    def mode_for(self, n: int) -> Mode:
        """The mode for n candidates: triple needs three, pair and listwise need two; else the next smaller one.

        >>> [Judging("triple").mode_for(n) for n in (4, 2, 1)]
        ['triple', 'pair', 'single']
        """
        if self.mode in ("single", "reward"):
            return self.mode
        if n < 2:
            return "single"
        return "pair" if self.mode == "triple" and n < 3 else self.mode

    def n_views(self, n: int) -> int:
        """How often each judge is asked about n candidates."""
        mode = self.mode_for(n)
        return {"single": n, "pair": n * (n - 1), "triple": 2 * n, "listwise": self.views, "reward": 1}[mode]

    def loads(self, query: Query, n: int, judges: Sequence[Seat]) -> dict[str, Load]:
        """The most that judging n candidates asks of each judge, by name.

        A judge's prompt holds the answers, so it counts as so many prompts of the query as it is long.
        """
        found: dict[str, Load] = {}
        mode, calls = self.mode_for(n), self.n_views(n)
        own = len(query.text.encode()) // _BYTES_PER_TOKEN + 1
        shown = {"single": 1, "pair": 2, "triple": 3, "listwise": n, "reward": 1}[mode]
        answers = shown * min(query.max_tokens or 0, self.longest)
        words = len(prompts()["several"] + "".join(prompts()["ladder"])) // _BYTES_PER_TOKEN
        for seat in judges:
            if rates(seat, mode):
                load = Load(1, n * -(-(own + answers) // own), 0)
            else:
                load = Load(calls, calls * -(-(words + own + answers) // own), calls * _tokens(mode, n))
            found[seat.name] = found.get(seat.name, Load()) + load
        return found


@dataclass(frozen=True)
class Judged:
    """What the judges said of n candidates.

    `scores` (j, n): mean level of each candidate by each judge, NaN where nothing could be read; `views` (j, v, n):
    each single level, NaN where it was not shown or not read; `places` (j, v, n): at which place it was shown,
    from 0, −1: not shown, or rated. `asked` and `unread` count single levels, `calls` the calls, `cut` the candidates
    that were too long to be shown whole, `failed` the judges of whom no call came back, with the first error.
    `wanted`: the mode that was asked for, where the number of candidates allowed only a smaller one.
    """

    judges: tuple[str, ...]
    scores: Floats
    views: Floats
    places: NDArray[np.int64]
    mode: Mode
    asked: int = 0
    unread: int = 0
    calls: int = 0
    cut: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    wanted: Mode | None = None

    @property
    def remark(self) -> str:
        """What a reader of the verdict has to know; "" where all went as it should."""
        said = []
        if self.wanted not in (None, self.mode):
            said.append(
                f"{self.scores.shape[1]} answers are too few for {self.wanted} and were judged as {self.mode}"
            )
        if self.unread:
            said.append(f"{self.unread} of {self.asked} scores unread")
        if self.cut:
            said.append(
                f"{self.cut} long answer{'s were' if self.cut > 1 else ' was'} shortened for the judges"
            )
        said += [f"judge {name} failed ({error})" for name, error in self.failed.items()]
        return "; ".join(said)


def judged(
    query: Query, texts: Sequence[str], judges: Sequence[Seat], how: Judging, rng: Rng
) -> Asking[Judged]:
    """Asks every judge for every view, all at once. If no call of any judge comes back, the first error is raised.

    A judge that can rate and cannot write is asked to rate(query, texts) in every mode; its first column is taken as it
    is, in its own scale.

    >>> from septet.testing.scripted import drive, seat
    >>> from septet.core.types import Completion
    >>> asked = judged(Query.of("2+3?"), ["5", "6"], [seat("eve")], Judging("listwise"), np.random.default_rng(0))
    >>> def script(ask):
    ...     first = "1 " in ask.args["query"].text.split("\\n5\\n")[0][-20:]
    ...     return [Completion(member="eve", text='{"1": 5, "2": 1}' if first else '{"1": 1, "2": 5}')]
    >>> found, _ = drive(asked, script)
    >>> found.scores.tolist(), found.calls, found.unread
    ([[5.0, 1.0]], 2, 0)
    """
    if not texts or not judges:
        raise BadParameter("texts" if judges else "judges", [], "must hold at least one")
    n, nonce = len(texts), nonce_of(rng)
    mode = how.mode_for(n)
    shown = [shortened(text, how.longest) for text in texts]
    asks: list[Ask] = []
    orders: list[list[tuple[int, ...]]] = []
    for seat in judges:
        if rates(seat, mode):
            orders.append([])
            asks.append(seat.rate(query, list(texts), purpose="judgement"))
            continue
        orders.append(_orders(mode, n, how.views, rng))
        for order in orders[-1]:
            said = prompt(query, [shown[i] for i in order], how.levels, nonce)
            put = Query.of(said, temperature=0.0, max_tokens=_tokens(mode, n), tenant=query.tenant)
            asks.append(seat.complete(put, purpose="judgement"))
    replies = iter((yield asks))
    n_views = max(1, *(len(of) for of in orders))
    views = np.full((len(judges), n_views, n), np.nan)
    places = np.full((len(judges), n_views, n), -1, dtype=np.int64)
    failed: dict[str, str] = {}
    errors: list[SeptetError] = []
    n_asked = 0
    for j, (seat, own) in enumerate(zip(judges, orders, strict=True)):
        came = 0
        for v, order in enumerate(own or [tuple(range(n))]):
            reply = next(replies)
            n_asked += len(order)
            if own:
                places[j, v, list(order)] = range(len(order))
            if reply.error is not None:
                errors.append(reply.error)
                failed.setdefault(seat.name, str(reply.error))
                continue
            came += 1
            if own:
                views[j, v, list(order)] = levels_in(reply.value[0].text, len(order), how.levels)
            else:
                views[j, v] = np.asarray(reply.value, dtype=np.float64).reshape(n, -1)[:, 0]
        if came:
            failed.pop(seat.name, None)
    if len(errors) == len(asks):
        raise errors[0]
    gone = [seat.name in failed for seat in judges]
    return Judged(
        judges=tuple(seat.name for seat in judges),
        scores=_means(views, places, how, gone),
        views=views,
        places=places,
        mode=mode,
        asked=n_asked,
        unread=n_asked - int((~np.isnan(views)).sum()),
        calls=len(asks),
        cut=sum(a != b for a, b in zip(shown, texts, strict=True)),
        failed=failed,
        wanted=how.mode,
    )


def rates(seat: Seat, mode: Mode) -> bool:
    """Whether a judge is asked to rate, and not in words."""
    return mode == "reward" or (seat.caps.rate and not seat.caps.text)


def _tokens(mode: Mode, n: int) -> int:
    return max(TOKENS[mode], 12 * n) if mode == "listwise" else TOKENS[mode]


def _orders(mode: Mode, n: int, views: int, rng: Rng) -> list[tuple[int, ...]]:
    """Which candidates each view shows, in which order.

    >>> len(_orders("triple", 4, 2, np.random.default_rng(0))), len(_orders("pair", 4, 2, np.random.default_rng(0)))
    (8, 12)
    """
    if mode == "single":
        return [(i,) for i in range(n)]
    if mode == "pair":
        return [(i, j) for i in range(n) for j in range(n) if i != j]
    if mode == "triple":
        ring = rng.permutation(n).tolist()
        windows = [(ring[k], ring[(k + 1) % n], ring[(k + 2) % n]) for k in range(n)]
        return [*windows, *(window[::-1] for window in windows)]
    found: list[tuple[int, ...]] = []
    while len(found) < views:
        order = tuple(rng.permutation(n).tolist())
        found += [order, order[::-1]]
    return found[:views]


def _means(views: Floats, places: NDArray[np.int64], how: Judging, gone: Sequence[bool]) -> Floats:
    """(j, n) mean over the views in which a candidate was shown; a judge who failed has said nothing."""
    filled = views
    if how.unread == "middle":
        middle = (how.levels + 1) / 2
        filled = np.where(np.isnan(views) & (places >= 0), middle, views)
    known = ~np.isnan(filled)
    total, count = np.where(known, filled, 0.0).sum(axis=1), known.sum(axis=1)
    found: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    found[np.asarray(gone, dtype=bool)] = np.nan
    return found


# --- the prompt ----------------------------------------------------------------------------------------


def prompt(query: Query, texts: Sequence[str], levels: int, nonce: str) -> str:
    """What a judge is told: the question, each candidate in its block, and words for every level."""
    n = len(texts)
    reply = "{" + ", ".join(f'"{i}": score' for i in range(1, n + 1)) + "}"
    said: str = prompts()["one" if n == 1 else "several"]
    return said.format(
        n=n,
        nonce=nonce,
        question=_conversation(query),
        answers=blocks(texts, nonce),
        scale=scale(levels),
        levels=levels,
        reply=reply,
    ).strip()


def _conversation(query: Query) -> str:
    """The question; where there is more than one turn, all of them."""
    turns = [m for m in query.messages if m.role != "system"]
    return query.text if len(turns) < 2 else "\n".join(f"{m.role}: {m.content}" for m in query.messages)


def scale(levels: int) -> str:
    """A line for every level, from the lowest.

    >>> scale(2)
    '1: wrong, empty or about something else\\n2: right, complete and to the point'
    """
    ladder = prompts()["ladder"]
    places = np.linspace(0, len(ladder) - 1, levels).round().astype(int).tolist()
    return "\n".join(f"{k}: {ladder[place]}" for k, place in enumerate(places, start=1))


def shortened(text: str, longest: int) -> str:
    """A text of at most about `longest` characters: its beginning and its end, where the answer often stands.

    >>> shortened("a" * 60 + "b" * 60, 100)[45:81]
    'aaaaa\\n[… 20 characters left out …]\\nb'
    """
    if len(text) <= longest:
        return text
    head = longest // 2
    tail = longest - head
    return text[:head] + _CUT.format(n=len(text) - longest) + text[-tail:]


@cache
def prompts() -> Mapping[str, Any]:
    """The prompts by kind, and the words for levels; `version` changes with any of them."""
    text = files("septet.parts.answers").joinpath("judging.prompts.toml").read_text(encoding="utf-8")
    return {name: said for name, said in tomllib.loads(text).items() if name != "version"}


# --- the reply -----------------------------------------------------------------------------------------

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_DICT, _LIST = re.compile(r"\{[^{}]*\}"), re.compile(r"\[[^\[\]]*\]")
_PAIR = re.compile(rf"(?:(?P<key>[^,:={{}}\n]*?)\s*[:=])\s*[\"']?(?P<value>{_NUMBER})[\"']?\s*(?=[,;}}\n]|$)")
_PLAIN = re.compile(rf"\s*{_NUMBER}(?:\s*[,;\s]\s*{_NUMBER})*\s*")
_ANY = re.compile(
    rf"(?<![\w.])(?<!answer )(?<!Answer ){_NUMBER}(?![\w]|\.\d|[\"']?\s*:)"
)  # no number of a candidate


def levels_in(text: str, n: int, levels: int) -> Floats:
    """(n,) the levels in a judge's reply, NaN where there is none or where it is none of 1..K.

    Read, in this order: the first dict or list that says something of the n candidates, with prose around it; lines
    such as "Answer 2: 4"; a line of nothing but n numbers; for one candidate the only number of the reply, or "4/5".
    Fractions, repeated numbers of candidates and a wrong count are not read.

    >>> levels_in('Here: {"1": 4, "2": 9}. I hope that helps.', 2, 5).tolist()
    [4.0, nan]
    >>> levels_in("[3, 1]", 2, 3).tolist(), levels_in("Both are fine.", 2, 3).tolist()
    ([3.0, 1.0], [nan, nan])
    """
    for found in _readings(text, n, levels):
        if found is not None:
            return np.array([_level(number, levels) for number in found])
    return np.full(n, np.nan)


def _readings(text: str, n: int, levels: int) -> Any:
    """Each way to read a reply, in order: (n,) numbers as written, None for a candidate that is not named; or None."""
    spans = sorted([*_DICT.finditer(text), *_LIST.finditer(text)], key=lambda m: m.start())
    for span in spans:
        inside = span.group()[1:-1]
        if span.group()[0] == "{":
            yield _of_pairs(inside, n, ordered=True)
        elif _PLAIN.fullmatch(inside):
            yield _of_list(inside, n)
    yield _of_pairs(text, n, ordered=False)
    for line in text.splitlines():
        if _PLAIN.fullmatch(line):
            yield _of_list(line, n)
    if n == 1:
        out_of = re.findall(rf"({_NUMBER})\s*(?:/|out of)\s*{levels}(?!\d)", text)
        numbers = out_of or _ANY.findall(text)
        yield numbers if len(numbers) == 1 else None


def _of_list(text: str, n: int) -> list[str] | None:
    numbers = re.findall(_NUMBER, text)
    return numbers if len(numbers) == n else None


def _of_pairs(text: str, n: int, *, ordered: bool) -> list[str | None] | None:
    """Numbers by the number in their keys, or by their order where keys have none and there are n of them."""
    pairs = [(re.findall(r"\d+", m["key"]), m["value"]) for m in _PAIR.finditer(text)]
    by_number = [(int(key[0]), value) for key, value in pairs if len(key) == 1 and 1 <= int(key[0]) <= n]
    keys = [key for key, _ in by_number]
    if by_number and len(by_number) == len(pairs) and len(set(keys)) == len(keys):
        named = dict(by_number)
        return [named.get(i) for i in range(1, n + 1)]
    if ordered and len(pairs) == n and not any(key for key, _ in pairs):
        return [value for _, value in pairs]
    return None


def _level(number: str | None, levels: int) -> float:
    value = float(number) if number is not None else np.nan
    return value if value in range(1, levels + 1) else np.nan


# --- what judges are swayed by -------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """What sways one judge, in levels, with bootstrap intervals over questions; None: nothing to tell it from.

    `position`: how much higher a candidate is scored where it is shown first than where it is shown last.
    `preference`: how much higher the judge scores its own answer than its peers do, see `preferences`.
    """

    judge: str
    position: Estimate | None
    preference: Estimate | None


def effects(asked: Sequence[Judged], members: Sequence[Sequence[str]], rng: Rng) -> list[Effect]:
    """Position effect and self-preference of every judge over several questions of the same judges.

    `members`: per question, who gave each candidate; a judge's own one is that of its name.
    """
    if not asked or len(asked) != len(members) or any(a.judges != asked[0].judges for a in asked):
        raise BadParameter(
            "asked", len(asked), "must be one or more questions of the same judges, with members"
        )
    own = np.array([preferences(a.scores, a.judges, by) for a, by in zip(asked, members, strict=True)])
    found = []
    for j, judge in enumerate(asked[0].judges):
        moved = np.array([_moved(a.views[j], a.places[j]) for a in asked])
        estimates = [None if np.isnan(x).all() else bootstrap_mean(x, rng) for x in (moved, own[:, j])]
        found.append(Effect(judge, *estimates))
    return found


def _moved(views: Floats, places: NDArray[np.int64]) -> float:
    """Mean over candidates of (mean level when shown first − mean level when shown last), views and places (v, n)."""
    last = places.max(axis=1, keepdims=True)
    there = ~np.isnan(views) & (last > 0)
    first = [views[there[:, i] & (places[:, i] == 0), i] for i in range(views.shape[1])]
    end = [views[there[:, i] & (places[:, i] == last[:, 0]), i] for i in range(views.shape[1])]
    found = [float(a.mean() - b.mean()) for a, b in zip(first, end, strict=True) if len(a) and len(b)]
    return float(np.mean(found)) if found else float("nan")


def preferences(scores: Floats, judges: Sequence[str], members: Sequence[str]) -> Floats:
    """(j,) how much more each judge thinks of its own answer than its peers do, from scores (j, n); NaN: unknown.

    P_j = mean_{k≠j} [(s_j,own − mean_c s_j,c) − (s_k,own − mean_c s_k,c)], c over the answers of neither j nor k: how
    strict a judge is cancels out, and so does what the peers think of their own.

    >>> s = np.array([[5., 3, 3], [3, 4, 3], [3, 3, 4]])
    >>> preferences(s, ("a", "b", "c"), ("a", "b", "c")).tolist()
    [2.0, 1.0, 1.0]
    """
    found = np.full(len(judges), np.nan)
    by = np.array(members)
    for j, judge in enumerate(judges):
        own = np.flatnonzero(by == judge)
        peers = [k for k in range(len(judges)) if judges[k] != judge]
        gaps = []
        for k in peers:
            rest = np.flatnonzero((by != judge) & (by != judges[k]))
            if len(own) and len(rest):
                lead = [scores[i, own].mean() - scores[i, rest].mean() for i in (j, k)]
                gaps.append(lead[0] - lead[1])
        known = [gap for gap in gaps if not np.isnan(gap)]
        if known:
            found[j] = float(np.mean(known))
    return found
