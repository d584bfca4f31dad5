"""Bits per byte of members and of their byte-exact mixtures along given texts, with intervals by document.

A text is known beforehand, so all tokenisations of it are: the distributions along a member's own reading are read
`CHUNK` tokens per forward, and only the heads beside it that hold more than `epsilon` cost a forward each. Every
member is scored as a model of the next byte (`byte-exact`, 2506.14123), so numbers of different tokenizers compare.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.core.actor import Pool
from septet.core.errors import BadParameter, ConfigError, UnfitPool
from septet.core.session import Session
from septet.core.types import Floats, Query
from septet.engine.house import House
from septet.engine.members import Member
from septet.engine.prepared import prepared
from septet.methods.b1_token.byte_exact import ByteExact
from septet.parts.decoding.byte_members import Lattices
from septet.parts.decoding.covering_tree import CoveringTree, Row, Symbols
from septet.parts.decoding.covering_tree import Path as Ids
from septet.parts.decoding.next_bytes import N_SYMBOLS
from septet.parts.decoding.pretokenise import Lattice
from septet.parts.stats.intervals import Estimate

CHUNK = 32
"""Tokens of a member's own reading per forward: 32 rows of 262,144 entries are 34 MB."""

LN2 = float(np.log(2))

Progress = Callable[[str, int, int], None]
"""Told the kind of text, how many of its bytes are done, and how many there are."""


@dataclass(frozen=True)
class Document:
    """A text of some kind. `context`: what comes before it, which every member reads and none is scored on."""

    kind: str
    context: str
    text: bytes
    number: int


@dataclass(frozen=True, eq=False)
class Read:
    """A document under n members: `logp` (n, bytes, 257) of every symbol at every byte, natural logs; `own` (n,)
    the log-probability of the tokenizer's own reading as tokens, without any mask; `dropped` (n,) the largest
    share of the mass that a step did not look at; `counts` (n,) of the tokens read."""

    document: Document
    logp: NDArray[np.float32]
    own: Floats
    dropped: Floats
    counts: tuple[Count, ...]

    @property
    def typed(self) -> NDArray[np.float64]:
        """(n, bytes) the log-probability of each byte that stands there."""
        there = np.frombuffer(self.document.text, dtype=np.uint8)
        return self.logp[:, np.arange(len(there)), there].astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the table: a model of bytes on one kind of text. `bits` per byte; `dropped`: the largest share
    of a step's mass that was not looked at."""

    kind: str
    model: str
    bits: Estimate
    n_bytes: int
    n_documents: int
    weights: tuple[float, ...] = ()
    dropped: float = 0.0
    tokens: float = float("nan")


# --- documents -----------------------------------------------------------------------------------------


def documents(source: str, *, context: int, window: int, most: int = 0) -> list[Document]:
    """The documents of "KIND=PATH" or a path: a file of JSON lines with a "text" each, else one text.

    A long text is cut into windows of `window` bytes, each a document's part (`number` is the document's), that
    begin after `context` bytes, at a space where there is one. `most`: bytes scored in all, 0: no limit.
    """
    kind, _, path = source.rpartition("=")
    file = Path(path)
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the text {path}: {error}") from None
    texts = (
        [json.loads(line)["text"] for line in content.splitlines()] if file.suffix == ".jsonl" else [content]
    )
    found, total = list[Document](), 0
    for number, text in enumerate(texts):
        for part in _windows(text, context, window):
            if most and total >= most:
                return found
            cut = _border(part, min(context, len(part) // 2))
            found.append(Document(kind or file.stem, part[:cut], part[cut:].encode(), number))
            total += len(found[-1].text)
    return found


def _windows(text: str, context: int, window: int) -> list[str]:
    parts, at = [], 0
    while at < len(text):
        parts.append(text[max(0, at - context) : at + window])
        at += window
    return [part for part in parts if len(part) > 1]


def _border(text: str, near: int) -> int:
    """The first space at or behind a place that no space stands before, so that no token goes across."""
    for i in range(max(near, 1), len(text)):
        if text[i] == " " and not text[i - 1].isspace():
            return i
    return max(near, 1)


# --- reading -------------------------------------------------------------------------------------------


@dataclass
class Count:
    """How many tokens a member's own reading had, and how many distributions beside it were read."""

    own: int = 0
    beside: int = 0


async def read_along(
    session: Session, lattice: Lattice, method: ByteExact, text: bytes, count: Count | None = None
) -> AsyncIterator[tuple[Symbols, float]]:
    """The distribution before each byte of a text, and what the own reading's next token costs there (0 inside)."""
    vocab = session.vocab
    ids = vocab.tokenise(text)
    if count is not None:
        count.own += len(ids)
    ends = np.cumsum([0, *(len(vocab.bytes_of(i)) for i in ids)]).tolist()
    grammar = lattice.grammar if method.variant != "full" else None
    tree = CoveringTree.begun(lattice.order, grammar, method.variant if grammar is not None else "full")
    end_id = vocab.end_ids[0] if vocab.end_ids else None
    rows: dict[Ids, Any] = {}
    made: dict[Ids, Row] = {}
    for first in range(0, len(ids), CHUNK):
        last = min(first + CHUNK, len(ids))
        chain = [tuple(ids[:k]) for k in range(first, last)]
        rows |= {p: n.logp for p, n in zip(chain, await session.after(chain), strict=True)}
        at = ends[first]
        while at < ends[last]:
            step = _Walk(tree, rows, made, method, end_id, text, ends[last])
            await asyncio.to_thread(step.go)
            for symbols in step.found:
                k = ends.index(at) if at in ends else -1
                yield symbols, float(rows[tuple(ids[:k])][ids[k]]) if k >= 0 else 0.0
                at += 1
            tree = step.tree
            if count is not None:
                count.beside += len(step.missing)
            if step.missing:
                twin = await session.fork()
                try:
                    paths = list(step.missing)
                    rows |= {p: n.logp for p, n in zip(paths, await twin.after(paths), strict=True)}
                finally:
                    await twin.close()
        live = {head.path for head in tree.heads}
        rows = {p: row for p, row in rows.items() if p in live}
        made = {p: row for p, row in made.items() if p in live}


class _Walk:
    """Goes along the text as far as the rows reach; from the first place where one is missing it only collects
    what else will be wanted, so that all of it can be read at once."""

    def __init__(
        self,
        tree: CoveringTree,
        rows: Mapping[Ids, Any],
        made: dict[Ids, Row],
        method: ByteExact,
        end_id: int | None,
        text: bytes,
        stop: int,
    ) -> None:
        self.tree, self.rows, self.made, self.method, self.end_id = tree, rows, made, method, end_id
        self.text, self.stop = text, stop
        self.found: list[Symbols] = []
        self.missing: dict[Ids, None] = {}

    def go(self) -> None:
        tree = self.tree
        most = self.method.heads if tree.variant == "full" else N_SYMBOLS
        while tree.n < self.stop:
            tree = self._told(tree, most)
            if not self.missing:
                tree = tree.settled(most)
                self.found.append(tree.symbols())
            tree = tree.typed(self.text[tree.n])
            if not tree.heads:
                raise UnfitPool("bits", "byte-exact", [f"no token spells {self.text[: tree.n][-8:]!r}"])
            if not self.missing:
                self.tree = tree
            elif tree.variant == "full":
                return  # its beams cannot be foreseen

    def _told(self, tree: CoveringTree, most: int) -> CoveringTree:
        while True:
            wanted = tree.wanted(self.method.epsilon, most)
            here = [path for path in wanted if path in self.rows]
            self.missing |= dict.fromkeys(path for path in wanted if path not in self.rows)
            if not here:
                return tree
            for path in here:
                if path not in self.made:
                    self.made[path] = tree.row(path, self.rows[path], self.end_id)
                tree = tree.informed(path, self.made[path])


async def read_document(
    members: Sequence[Member], lattices: Sequence[Lattice], method: ByteExact, document: Document
) -> Read:
    """A document under every member, concurrently."""

    async def one(member: Member, lattice: Lattice) -> tuple[Any, float, float, Count]:
        session = await member.actor.open(Query(raw=document.context))
        try:
            logp = np.empty((len(document.text), N_SYMBOLS), dtype=np.float32)
            own = dropped = 0.0
            i, count = 0, Count()
            async for symbols, token in read_along(session, lattice, method, document.text, count):
                logp[i], own, dropped = symbols.logp, own + token, max(dropped, symbols.dropped)
                i += 1
            return logp, own, dropped, count
        finally:
            await session.close()

    parts = await asyncio.gather(*(one(m, lattice) for m, lattice in zip(members, lattices, strict=True)))
    logp, own, dropped, counts = zip(*parts, strict=True)
    return Read(document, np.array(logp), np.array(own), np.array(dropped), counts)


# --- mixtures ------------------------------------------------------------------------------------------


def mixed(read: Read, weights: Floats, aggregate: str) -> Floats:
    """(bytes,) the log-probability of each byte under a mixture of the members."""
    with np.errstate(divide="ignore"):
        if aggregate == "arithmetic":
            return np.logaddexp.reduce(read.typed + np.log(weights)[:, None], axis=0)  # type: ignore[no-any-return]
    used = weights > 0
    score = np.einsum("n,nbs->bs", weights[used], read.logp[used].astype(np.float64))
    there = np.frombuffer(read.document.text, dtype=np.uint8)
    return score[np.arange(len(there)), there] - np.logaddexp.reduce(score, axis=1)  # type: ignore[no-any-return]


GRID = np.linspace(0.0, 1.0, 41)
"""The weights of the first of two members that are tried."""


def fitted(reads: Sequence[Read], aggregate: str) -> Floats:
    """The weights of two members that give these documents the fewest bits, on a grid of fortieths."""
    pairs = [np.array([w, 1 - w]) for w in GRID]
    nats = [sum(-mixed(read, pair, aggregate).sum() for read in reads) for pair in pairs]
    return pairs[int(np.argmin(nats))]


# --- the table -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Bits:
    """The bits and the bytes of each document, windows of one document together."""

    bits: Floats
    n_bytes: Floats

    @classmethod
    def of(cls, reads: Sequence[Read], nats: Sequence[float]) -> _Bits:
        numbers = sorted({r.document.number for r in reads})
        bits, sizes = dict.fromkeys(numbers, 0.0), dict.fromkeys(numbers, 0)
        for read, value in zip(reads, nats, strict=True):
            bits[read.document.number] += value / LN2
            sizes[read.document.number] += len(read.document.text)
        return cls(np.array(list(bits.values())), np.array(list(sizes.values()), dtype=np.float64))

    def estimate(self, other: _Bits | None = None, *, draws: int = 2000) -> Estimate:
        """Bits per byte, or how many more than another's, with a percentile interval over documents."""
        more = self.bits - (0.0 if other is None else other.bits)
        n = len(more)
        picked = np.random.default_rng(0).integers(0, n, size=(draws, n))
        low, high = np.quantile(more[picked].sum(axis=1) / self.n_bytes[picked].sum(axis=1), [0.025, 0.975])
        return Estimate(float(more.sum() / self.n_bytes.sum()), float(low), float(high), n)


def lines(
    names: Sequence[str], reads: Sequence[Read], weights: Mapping[str, Floats | None], kind: str
) -> list[Line]:
    """The rows of one kind of text: every member, then the mixtures; `weights` by aggregate, None: not fitted."""
    n_bytes, n_documents = sum(len(r.document.text) for r in reads), len({r.document.number for r in reads})

    def line(model: str, nats: Sequence[float], **more: Any) -> Line:
        bits = _Bits.of(reads, nats).estimate()
        return Line(kind=kind, model=model, bits=bits, n_bytes=n_bytes, n_documents=n_documents, **more)

    found = []
    for i, name in enumerate(names):
        own = float(-sum(r.own[i] for r in reads) / LN2 / n_bytes)
        dropped = float(max(r.dropped[i] for r in reads))
        found.append(line(name, [-r.typed[i].sum() for r in reads], dropped=dropped, tokens=own))
    if len(names) < 2:
        return found
    uniform = np.full(len(names), 1 / len(names))
    for aggregate, fit in weights.items():
        for said, w in (("uniform", uniform), ("fitted", fit)):
            if w is not None:
                nats = [-mixed(r, w, aggregate).sum() for r in reads]
                found.append(line(f"{aggregate}, {said}", nats, weights=tuple(w.tolist())))
    return found


def differences(names: Sequence[str], reads: Sequence[Read], found: Sequence[Line]) -> dict[str, Estimate]:
    """Of each mixture, how many bits per byte more it takes than the better member, paired by document."""
    members = [_Bits.of(reads, [-r.typed[i].sum() for r in reads]) for i in range(len(names))]
    best = min(members, key=lambda m: float(m.bits.sum()))
    gaps = {}
    for row in found:
        if row.weights:
            aggregate = row.model.partition(",")[0]
            nats = [-mixed(r, np.array(row.weights), aggregate).sum() for r in reads]
            gaps[row.model] = _Bits.of(reads, nats).estimate(best)
    return gaps


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a run measured. `over`: of each kind and mixture, bits per byte beyond the better member's."""

    members: tuple[str, ...]
    lines: tuple[Line, ...]
    over: Mapping[str, Mapping[str, Estimate]]
    epsilon: float
    variant: str
    bytes_per_second: float
    forwards_per_token: tuple[float, ...] = ()

    def record(self) -> dict[str, Any]:
        """As JSON: numbers only, no texts."""
        return asdict(self)


async def bits(
    house: House,
    names: Sequence[str],
    texts: Sequence[Document],
    fit: Sequence[Document] = (),
    *,
    method: ByteExact | None = None,
    progress: Progress = lambda kind, done, total: None,
) -> Results:
    """Bits per byte of members, and of arithmetic and geometric byte-exact mixtures of them.

    `fit` are texts of the same kinds on which two members' one weight is fitted, per kind; they must be others.
    """
    method = method or ByteExact()
    members = [_member(house, name) for name in names]
    if not texts:
        raise BadParameter("text", [], "must name at least one text to score")
    seen = {(d.context, d.text) for d in texts}
    if any((d.context, d.text) in seen for d in fit):
        raise BadParameter("fit", "a text", "must not be among the texts that are scored")
    lattices = [await _prepared(house, member, method) for member in members]
    began, total = perf_counter(), sum(len(d.text) for d in (*texts, *fit))
    done, found, over = 0, list[Line](), dict[str, dict[str, Estimate]]()
    for kind in dict.fromkeys(d.kind for d in texts):
        fits, reads = list[Read](), list[Read]()
        for document in (*(d for d in fit if d.kind == kind), *(d for d in texts if d.kind == kind)):
            read = await read_document(members, lattices, method, document)
            (fits if document in fit else reads).append(read)
            done += len(document.text)
            progress(kind, done, total)
        both = len(names) == 2 and bool(fits)
        weights = {a: fitted(fits, a) if both else None for a in ("arithmetic", "geometric")}
        rows = lines(names, reads, weights, kind)
        found += rows
        over[kind] = differences(names, reads, rows)
    return Results(
        members=tuple(names),
        lines=tuple(found),
        over=over,
        epsilon=method.epsilon,
        variant=method.variant,
        bytes_per_second=total / (perf_counter() - began),
    )


def _member(house: House, name: str) -> Member:
    ensemble = house[name].ensemble
    (member, *rest) = ensemble.members
    if rest or not isinstance(member, Member):
        raise BadParameter("member", name, "must be a member, not an ensemble; name its members instead")
    if not member.caps.full:
        raise UnfitPool(name, "byte-exact", [f"{name} does not offer full distributions"])
    return member


async def _prepared(house: House, member: Member, method: ByteExact) -> Lattice:
    ready = getattr(member.actor, "ready", None)
    if ready is not None:
        await ready()
    pool = Pool((member.actor,))
    found: Lattices = await asyncio.to_thread(prepared, method, pool, house[member.name].ensemble.cache)
    return found.of[0]


def members_of(house: House, names: Sequence[str]) -> list[str]:
    """The members named, those of an ensemble in its place, each once."""
    found: dict[str, None] = {}
    for name in names:
        for member in house[name].ensemble.members:
            found[_member(house, member.name).name] = None
    return list(found)


def rows_of(record: Mapping[str, Any]) -> tuple[tuple[str, ...], list[list[str]]]:
    """The table of a record: its columns and its rows of text."""

    def said(estimate: Mapping[str, Any]) -> str:
        return f"{estimate['value']:.4f} [{estimate['low']:.4f}, {estimate['high']:.4f}]"

    rows = []
    for line in record["lines"]:
        over = record["over"][line["kind"]].get(line["model"])
        weights = "/".join(f"{w:.3g}" for w in line["weights"])
        rows.append(
            [
                line["kind"],
                line["model"],
                weights,
                said(line["bits"]),
                "" if over is None else said(over),
                str(line["n_bytes"]),
                str(line["n_documents"]),
            ]
        )
    return ("text", "model", "weights", "bits per byte", "over the better member", "bytes", "documents"), rows
