"""Recorded answers as a world needs them: texts, samples, judgements and option probabilities of a set, part by part.

A part is what one pool of members has answered: `peerreview/gsm8k`, `mot_cascade/date`. A set of one pool has one part,
which bears its name. Any file or folder of outcomes with texts or answers is a set too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.bench import tables
from septet.bench.sets import Recorded, data_folder
from septet.core.errors import ConfigError, UnknownName
from septet.core.table import Objects, Table
from septet.core.types import Floats


@dataclass(frozen=True, eq=False)
class Answers:
    """The recorded answers of one pool.

    `recorded`: the table, whose texts are what a member says in a replay. `judgements`: what each of `judges` gave each
    member's answer (j, q, m), NaN unknown, where it saw that one alone ("single") or several ("several"), on a scale
    from 1 to `scale` (q,). `letters` and `options` (r, k): the probabilities of the options
    at the first token of each row; () and None where none are recorded. `own`: sample 0 is what a member says in its
    own way, by which it is judged alone; else it is judged by all its samples.
    """

    recorded: Recorded
    judges: tuple[str, ...] = ()
    judgements: Mapping[str, Floats] = field(default_factory=dict)
    scale: Floats | None = None
    letters: tuple[str, ...] = ()
    options: Floats | None = None
    own: bool = False

    @property
    def table(self) -> Table:
        """The outcomes."""
        return self.recorded.table

    def alone(self) -> Table:
        """The rows by which members are judged alone."""
        table = self.table
        if not self.own:
            return table
        first = table.sample == 0
        has = np.zeros(len(table.members), dtype=np.bool_)
        has[table.member[first]] = True
        return table.rows(first | ~has[table.member])

    def samples(self) -> NDArray[np.int64]:
        """(m,) how many samples every question has of each member at least, among those that have any."""
        table = self.table
        n = len(table.members)
        count = np.bincount(table.query * n + table.member, minlength=n * len(table.queries)).reshape(-1, n)
        known = np.where(count > 0, count, count.max(initial=0))
        found: NDArray[np.int64] = known.min(axis=0).astype(np.int64)
        return found


def names(of: str) -> list[str]:
    """The parts of a set by name, or the set or path itself.

    >>> names("mot_cascade"), names("nq6")
    (['mot_cascade/date', 'mot_cascade/gsm', 'mot_cascade/crepe'], ['nq6'])
    """
    return [f"{of}/{part}" for part in PARTS[of]] if of in PARTS else [of]


@lru_cache(maxsize=2)
def open_answers(of: str, limit: int = 0) -> Answers:
    """The answers of a part by name, or at a path; with a limit, at most so many questions to fit and to test on."""
    read = READ[of](_folder(of.partition("/")[0])) if of in READ else _plain(of)
    found = _complete(read)
    most = limit or LIMITS.get(of, 0)
    return _sampled(found, most) if most else found


def _folder(name: str) -> Path:
    folder = data_folder() / name
    if not (folder / "outcomes.parquet").is_file():
        raise ConfigError(f"no recorded answers at {folder} (SEPTET_DATA says where sets are)")
    return folder


def _plain(of: str) -> Answers:
    """Any file or folder of outcomes, or one of the shared sets that needs nothing more than reading."""
    path = Path(of)
    if not path.exists():
        path = data_folder() / of
    if not path.exists():
        raise UnknownName("set of answers", of, [*READ, *PARTS])
    name = path.resolve().name if path.is_dir() else path.stem
    return Answers(Recorded(name, tables.read(path), _sha256(path)))


def _sha256(path: Path) -> str:
    """Of a file; of a folder, over all its tables."""
    if path.is_file():
        return tables.sha256_of(path)
    digests = "".join(tables.sha256_of(file) for file in sorted(path.glob("*.parquet")))
    return hashlib.sha256(digests.encode()).hexdigest()


def _complete(found: Answers) -> Answers:
    """Answers stand for texts that are not recorded; what cannot be measured is refused."""
    table, name = found.table, found.recorded.name
    text = said(table.text, table.answer)
    if all(t is None for t in text):
        raise ConfigError(f"{name} holds neither responses nor answers, so no method can be replayed on it")
    if np.isnan(table.score).all():
        raise ConfigError(f"{name} holds no scores, so nothing that is chosen can be marked")
    if len(table.members) < 2:
        raise ConfigError(f"{name} holds the answers of one member: an ensemble needs two or more")
    if not any(table.questions):
        raise ConfigError(f"{name} holds no questions: members are asked by their text")
    # fits read what plans see: the texts, from which both take final answers in the same way
    table = replace(table, text=text, answer=np.broadcast_to(np.array(None, dtype=object), text.shape))
    return replace(found, recorded=replace(found.recorded, table=table))


def said(text: Objects, answer: Objects) -> Objects:
    """(r,) the texts, and where there is none the answers.

    >>> said(np.array(["It is 4.", None], dtype=object), np.array(["4", "5"], dtype=object)).tolist()
    ['It is 4.', '5']
    """
    found = np.empty(len(text), dtype=object)
    found[:] = [t if t is not None else a for t, a in zip(text, answer, strict=True)]
    return found


def _sampled(found: Answers, most: int) -> Answers:
    """At most so many questions of each part of the split, drawn with seed 0."""
    table = found.table
    marks = np.array(table.splits)
    keep = np.zeros(len(marks), dtype=np.bool_)
    rng = np.random.default_rng(0)
    for part in dict.fromkeys(table.splits):
        place = np.flatnonzero(marks == part)
        keep[rng.permutation(place)[:most]] = True
    if keep.all():
        return found
    note = f"a sample of at most {most} questions to train on and as many to test on, drawn with seed 0"
    return _of_queries(found, keep, note)


def _of_queries(found: Answers, keep: NDArray[np.bool_], *notes: str) -> Answers:
    rows = keep[found.table.query]
    recorded = replace(
        found.recorded, table=found.table.of_queries(keep), notes=(*found.recorded.notes, *notes)
    )
    return replace(
        found,
        recorded=recorded,
        judgements={scheme: scores[:, keep] for scheme, scores in found.judgements.items()},
        scale=None if found.scale is None else found.scale[keep],
        options=None if found.options is None else found.options[rows],
    )


# --- the shared sets ------------------------------------------------------------------------------------


def _peerreview(task: str) -> Callable[[Path], Answers]:
    def read(folder: Path) -> Answers:
        whole = tables.read(folder)
        table = whole.of_queries(np.array([t == task for t in whole.tasks]))
        usd = table.completion_tokens * PER_TOKEN_8B
        notes = (
            "cost is a proxy: 0.20 USD, a list price by size, per million tokens that members write and judges read",
            "judgements are the recorded ones: one answer at a time, or the mean over triples where it sees several;"
            " judges mark themselves, too",
        )
        table = replace(table, numbers={**table.numbers, "usd": usd})
        return _judged(folder, Answers(Recorded(f"peerreview/{task}", table, _sha256(folder), notes)))

    return read


PER_TOKEN_8B = 0.2e-6
"""USD per token of a model of seven or eight billion parameters: the price tier by size in the README of the data."""


SCHEMES: Mapping[str, str] = {"single": "single", "triple": "several"}
"""How a judge of peerreview saw an answer, by the name in the file."""


def _judged(folder: Path, found: Answers) -> Answers:
    """The answers with what judges gave them."""
    table = found.table
    columns = ["query_id", "model", "judge", "scheme", "scale_max", "judge_score"]
    rows = _columns(folder / "judgements.parquet", columns, query_id=table.queries)
    judges = tuple(dict.fromkeys(rows["judge"]))
    query, member = _places(table.queries), _places(table.members)
    shape = (len(judges), len(table.queries), len(table.members))
    scores = {scheme: np.full(shape, np.nan) for scheme in SCHEMES.values()}
    scale = np.full(len(table.queries), np.nan)
    for q, m, judge, scheme, most, score in zip(*(rows[c] for c in columns), strict=True):
        scale[query[q]] = most
        if score is not None:
            scores[SCHEMES[scheme]][judges.index(judge), query[q], member[m]] = score
    return replace(found, judges=judges, judgements=scores, scale=scale)


def _more_qa(folder: Path) -> Answers:
    notes = ("an answer is all that is recorded of a text; confidence is the authors' random forest's",)
    return Answers(Recorded("more_qa", tables.read(folder), _sha256(folder), notes))


MOT: Mapping[str, tuple[tuple[str, str], ...]] = {
    "date": (("gpt-3.5-turbo", "cot1"), ("gpt-3.5-turbo", "pot1"), ("gpt-4", "cot1")),
    "gsm": (("llama-2-13b", "pot1"), ("llama-2-13b", "pot2"), ("gpt-4", "cot1")),
    "crepe": (("llama-2-13b", "pot1"), ("llama-2-13b", "pot2"), ("gpt-4", "cot1")),
}
"""Members, model and prompt, of each task: the weak ones first."""

MOT_PRICES: Mapping[str, float] = {"gpt-3.5-turbo": 0.002e-3, "gpt-4": 0.06e-3, "llama-2-13b": 0.3e-6}
"""USD per output token: the rule of the released code; Llama's is a price tier by size."""


def _mot(task: str) -> Callable[[Path], Answers]:
    def read(folder: Path) -> Answers:
        asked = _columns(folder / "queries.parquet", ["query_id", "task", "query", "split"])
        facts = {i: (q, s) for i, t, q, s in zip(*(asked[c] for c in asked), strict=True) if t == task}
        columns = [
            "query_id",
            "model",
            "prompt",
            "sampling",
            "sample_id",
            "answer",
            "score",
            "completion_tokens",
        ]
        models, prompts = zip(*MOT[task], strict=True)
        held = _columns(
            folder / "outcomes.parquet",
            columns,
            query_id=facts,
            model=models,
            prompt=prompts,
            sampling=("default", "greedy"),
        )
        rows = []
        for q, model, prompt, sampling, sample, answer, score, tokens in zip(
            *(held[c] for c in columns), strict=True
        ):
            if (model, prompt) not in MOT[task]:
                continue
            rows.append(
                {
                    "query_id": q,
                    "query": facts[q][0],
                    "task": task,
                    "split": facts[q][1],
                    "model": f"{model}/{prompt}",
                    "sample_id": 0 if sampling == "greedy" else sample + 1,
                    "response": f"Answer: {answer}" if answer else "",
                    "score": score,
                    "completion_tokens": tokens,
                    "cost_usd": tokens * MOT_PRICES[model],
                }
            )
        order = [f"{model}/{prompt}" for model, prompt in MOT[task]]
        rows.sort(key=lambda r: (order.index(r["model"]), r["sample_id"]))
        table = Table.of(rows, f"mot_cascade/{task}").of_members(order)
        notes = (
            "an answer is all that is given of a text, as programs are recorded with what they print",
            "the first sample of gpt-4 is the greedy one, by which it is judged alone",
            "cost is a proxy: list price of output × estimated tokens; prompts with demonstrations are left out",
        )
        found = Answers(Recorded(f"mot_cascade/{task}", table, _sha256(folder), notes), own=True)
        return _of_queries(found, _all_samples(table))

    return read


def _all_samples(table: Table) -> NDArray[np.bool_]:
    """(q,) whether a question has as many samples of every member as any question has."""
    n = len(table.members)
    count = np.bincount(table.query * n + table.member, minlength=n * len(table.queries)).reshape(-1, n)
    found: NDArray[np.bool_] = (count == count.max(axis=0)).all(axis=1)
    return found


ALPACA: Mapping[str, tuple[str, ...]] = {
    "fusechat": (
        "FuseChat-Gemma-2-9B-Instruct",
        "FuseChat-Llama-3.1-8B-Instruct",
        "FuseChat-Llama-3.2-1B-Instruct",
        "FuseChat-Llama-3.2-3B-Instruct",
        "FuseChat-Qwen-2.5-7B-Instruct",
    ),
    "level": (
        "claude",
        "claude-2",
        "claude-2.1",
        "claude-instant-1.2",
        "gpt-3.5-turbo-1106",
        "OpenHermes-2.5-Mistral-7B",
        "humpback-llama2-70b",
    ),
}
"""Pools among the 54 members that are near each other."""


def _alpaca(pool: str) -> Callable[[Path], Answers]:
    def read(folder: Path) -> Answers:
        table = tables.read(folder).of_members(ALPACA[pool])
        table = _with_responses(folder, table)
        notes = (f"the {len(ALPACA[pool])} of 54 members that are near each other (README of the data)",)
        return Answers(Recorded(f"alpaca_eval/{pool}", table, _sha256(folder), notes))

    return read


def _with_responses(folder: Path, table: Table) -> Table:
    """The table with the texts that stand in a file of their own."""
    columns = ["query_id", "model", "response"]
    rows = _columns(folder / "responses.parquet", columns, model=table.members)
    query, member = _places(table.queries), _places(table.members)
    texts = {
        (query[q], member[m]): t for q, m, t in zip(*rows.values(), strict=True) if q in query and m in member
    }
    text = np.empty(len(table), dtype=object)
    text[:] = [texts.get(key) for key in zip(table.query.tolist(), table.member.tolist(), strict=True)]
    return replace(table, text=text)


STRONGEST = 8
"""Members of misguided that make up its pool."""


def _misguided(folder: Path) -> Answers:
    table = tables.read(folder)
    n = len(table.members)
    count = np.bincount(table.query * n + table.member, minlength=n * len(table.queries)).reshape(-1, n)
    score = table.of_queries(np.array([s == "train" for s in table.splits])).matrix("score").mean(axis=0)
    score[(count < 3).any(axis=0)] = -1
    strongest = np.sort(np.argsort(-score, kind="stable")[:STRONGEST])
    table = table.of_members([table.members[i] for i in strongest])
    table = table.rows(table.sample < 3 + table.sample.min())
    notes = (
        f"the {STRONGEST} members of 55 that are best on train, of those with three samples of everything",
    )
    return Answers(Recorded("misguided", table, _sha256(folder), notes))


def _mmlu_pro(folder: Path) -> Answers:
    table = tables.read(folder)
    with_text = set(_columns(folder / "responses.parquet", ["model"])["model"])
    table = table.of_members([m for m in table.members if m in with_text])
    table = _with_responses(folder, table)
    return Answers(
        Recorded("mmlu_pro", table, _sha256(folder), ("the ten members whose texts are recorded",))
    )


def _mmlu_pro_answers(folder: Path) -> Answers:
    table = tables.read(folder)
    letters = np.empty(len(table), dtype=object)
    letters[:] = [a or "" for a in table.answer]
    notes = ("all 28 members; an answer is a letter, and nothing where none could be read",)
    recorded = Recorded("mmlu_pro/answers", replace(table, text=letters), _sha256(folder), notes)
    return Answers(recorded)


def _mmlu_probs(folder: Path) -> Answers:
    table = tables.read(folder)
    letters = tuple("ABCD")
    columns = ["query_id", "model", *(f"p_{x.lower()}" for x in letters)]
    rows = _columns(folder / "outcomes.parquet", columns)
    query, member = _places(table.queries), _places(table.members)
    p = np.full((len(table.queries), len(table.members), len(letters)), np.nan)
    for q, m, *values in zip(*(rows[c] for c in columns), strict=True):
        p[query[q], member[m]] = values
    questions = tuple("\n".join([q, *(f"{x}. (not recorded)" for x in letters)]) for q in table.queries)
    notes = (
        "the texts of the questions are not recorded: methods that read them see an id and four letters",
    )
    recorded = Recorded("mmlu_probs", replace(table, questions=questions), _sha256(folder), notes)
    return Answers(recorded, letters=letters, options=p[table.query, table.member])


def _places(keys: Sequence[str]) -> dict[str, int]:
    return {key: i for i, key in enumerate(keys)}


def _columns(path: Path, columns: Sequence[str], **among: Iterable[str]) -> dict[str, list[Any]]:
    """Columns of a file; of rows whose value in some columns is among those given."""
    _, pq = tables.arrow()
    wanted = [(name, "in", set(values)) for name, values in among.items()]
    held = pq.read_table(path, columns=list(columns), filters=wanted or None)
    found: dict[str, list[Any]] = held.to_pydict()
    return {name: found[name] for name in columns}


PARTS: Mapping[str, tuple[str, ...]] = {
    "peerreview": ("trivia_qa", "gsm8k", "math", "alpaca"),
    "mot_cascade": tuple(MOT),
    "alpaca_eval": tuple(ALPACA),
}
"""The parts of the shared sets that have several pools."""

READ: Mapping[str, Callable[[Path], Answers]] = {
    **{f"peerreview/{task}": _peerreview(task) for task in PARTS["peerreview"]},
    **{f"mot_cascade/{task}": _mot(task) for task in MOT},
    **{f"alpaca_eval/{pool}": _alpaca(pool) for pool in ALPACA},
    "more_qa": _more_qa,
    "misguided": _misguided,
    "mmlu_pro": _mmlu_pro,
    "mmlu_pro/answers": _mmlu_pro_answers,
    "mmlu_probs": _mmlu_probs,
}
"""How the parts are read that need more than reading; nq6 and third parties' files do not."""

LIMITS: Mapping[str, int] = {"mmlu_pro": 300, "mmlu_pro/answers": 1000, "more_qa": 1000, "mmlu_probs": 1000}
"""Questions to train and to test on, at most, unless a run says otherwise: what two cores do in minutes."""

EVERY: tuple[str, ...] = (
    *(f"{of}/{part}" for of, parts in PARTS.items() for part in parts),
    "more_qa",
    "misguided",
    "nq6",
    "mmlu_pro",
    "mmlu_pro/answers",
    "mmlu_probs",
)
"""All parts of the shared sets."""
