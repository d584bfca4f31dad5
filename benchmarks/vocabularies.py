"""Vocabularies and their union: how large the tables are, how long they take to build, to load and at a step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from figures import Section, Setting, figure

import septet
from septet.backends._llama_cache import vocabulary_of
from septet.backends._llama_runtime import LlamaRuntime
from septet.backends._local import LocalActor
from septet.backends._runtime import Runtime
from septet.core.state import pack, unpack
from septet.parts.decoding.union import UnionTable
from septet.parts.decoding.vocabulary import PackedVocab

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


def run(setting: Setting) -> Section:
    """The tables of the members of an ensemble, all of which are models in this process."""
    return asyncio.run(_run(setting))


async def _run(setting: Setting) -> Section:
    n = setting.samples
    with TemporaryDirectory() as kept:
        async with septet.load(setting.config, set=[f"store.path={kept}/traces.db"]) as house:
            members = house[setting.ensemble].ensemble.members
            loaded = {m.name: await _loaded(m.actor) for m in members}
            folder = Path(kept)
            read = [_seconds(lambda r=r: _read(r, folder)) for r in loaded.values()]
            vocabs = [r.vocab for r in loaded.values()]
            joined = [_seconds(lambda: UnionTable.of(vocabs)) for _ in range(n)]
            table = UnionTable.of(vocabs)
            arrays, facts = pack(table)
            tables = [*(v.arrays() for v in vocabs), arrays]
            files = [_store(folder / f"{i}.npz", made) for i, made in enumerate(tables)]
            loads = [_seconds(lambda: _load(files, vocabs, facts)) * 1e3 for _ in range(n)]
            gathers = {
                name: [ms for _ in range(n) for ms in [_gather(table, i, vocab)]]
                for i, (name, vocab) in enumerate(zip(loaded, vocabs, strict=True))
            }
    sizes = [sum(a.nbytes for a in made.values()) / 1e6 for made in tables]
    entries = " + ".join(str(v.size) for v in vocabs)
    return Section(
        "vocabularies",
        f"{' and '.join(loaded)}: {entries} entries, {len(table.strings)} strings",
        (
            figure("vocabularies and union, size", [sum(sizes)], unit="MB", aim=8),
            figure("vocabularies and union, built", [sum(read) + t for t in joined], unit="s", aim=4),
            figure("vocabularies and union, loaded", loads, unit="ms", aim=50),
            figure("size ÷ that of a matrix of 4 bytes a pair", [sum(sizes) / _matrix_mb(vocabs)]),
            *(figure(f"{name}: a step's row over the union", ms, unit="ms") for name, ms in gathers.items()),
        ),
        (
            "Built: each vocabulary read from its loaded model once, and the union; hashing is not counted.",
            "MB: " + ", ".join(f"{name} {s:.1f}" for name, s in zip([*loaded, "union"], sizes, strict=True)),
        ),
    )


async def _loaded(actor: Any) -> Runtime:
    assert isinstance(actor, LocalActor), "the tables of a model that runs elsewhere are not known"
    return await actor._endpoint.runtime()


def _read(runtime: Runtime, folder: Path) -> None:
    """Reads a vocabulary anew; of a toy, which has no file, it is put together from its pieces."""
    vocab = runtime.vocab
    if isinstance(runtime, LlamaRuntime):
        vocabulary_of(runtime._model, folder / "anew")
    else:
        pieces = [vocab.bytes_of(i) for i in range(vocab.size)]
        PackedVocab.of(pieces, end_ids=vocab.end_ids, tokenise=vocab.tokenise)


def _store(file: Path, arrays: Arrays) -> Path:
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file


def _load(files: list[Path], vocabs: list[PackedVocab], facts: Mapping[str, Any]) -> None:
    """Reads all of them and looks one string up in each."""
    for file, vocab in zip(files, vocabs, strict=False):
        with np.load(file, allow_pickle=False) as stored:
            found = PackedVocab.of_arrays({name: stored[name] for name in stored.files}, vocab.tokenise)
        found.ids_of(b"a")
    with np.load(files[-1], allow_pickle=False) as stored:
        unpack(UnionTable, {name: stored[name] for name in stored.files}, facts).strings.find(b"a")


def _gather(table: UnionTable, i: int, vocab: PackedVocab) -> float:
    """Milliseconds for one row."""
    logp = np.random.default_rng(0).normal(size=vocab.size).astype(np.float32)
    return median(_seconds(lambda: table.gather(i, logp)) for _ in range(5)) * 1e3


def _matrix_mb(vocabs: list[PackedVocab]) -> float:
    return float(np.prod([v.size for v in vocabs[:2]], dtype=np.float64)) * 4 / 1e6


def _seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began
