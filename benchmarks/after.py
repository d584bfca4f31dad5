"""What comparing and weighing whole answers costs: similarities, truth inference, an ensemble of instant members.

The straightforward loop is written here with the same library: one call of sacreBLEU, or one product of two rows, per
pair of candidates, and Dawid and Skene's EM cell by cell.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
from figures import Figure, Section, Setting, figure

from septet.backends.toy import ToyActor, ToyEndpoint
from septet.core.money import Usage
from septet.core.types import Completion, Floats, Query
from septet.parts.answers.bleu import bleu_matrix
from septet.parts.answers.crowd import Labels, dawid_skene
from septet.parts.answers.similarity import cosines
from septet.testing.toys import toy_config, toy_house

CANDIDATES = 16
ROUNDS = 10

MODELS = ("dawid_skene", "one_coin", "glad", "mace")

_MEMORY = """
import sys
import numpy as np
from septet.parts.answers import crowd
items, workers, kinds = {items}, 50, 4
rng = np.random.default_rng(0)
truth = rng.integers(kinds, size=items)
item = np.repeat(np.arange(items), workers)
label = np.where(rng.random(items * workers) < .7, truth[item], rng.integers(kinds, size=items * workers))
labels = crowd.Labels(item, np.tile(np.arange(workers), items), label, items, workers, kinds)
crowd.{model}(labels, rounds={rounds})
try:
    # Linux carries ru_maxrss over from the process that started this one
    status = open("/proc/self/status").read()
    print(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9)
except FileNotFoundError:
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6))
"""


class Instant(ToyActor):
    """A member that has its answer ready and generates nothing."""

    async def complete(self, query: Query, *, n: int = 1, logprobs: int = 0) -> list[Completion]:
        usage = Usage(prompt_tokens=8, completion_tokens=4)
        text = f"The answer is {len(query.text) % 3}."
        return [Completion(member=self.name, text=text, usage=usage, sample=i) for i in range(n)]


def run(setting: Setting) -> Section:
    """Ratios of processor seconds, the peak of memory, and milliseconds of a whole ask."""
    n, items = (20, 2_000) if setting.quick else (1_000, 100_000)
    rng = np.random.default_rng(0)
    texts = [_candidates(rng) for _ in range(n)]
    rows = [_unit(rng.normal(size=(CANDIDATES, 384))) for _ in range(n)]
    labels = _labels(n, rng)
    took, busy = asyncio.run(_asks(20 if setting.quick else 400))
    return Section(
        "after",
        f"{n:,} questions × {CANDIDATES} candidates of 20 to 60 words; 384 dimensions; 4 kinds of labels",
        (
            _against("BLEU", lambda: [bleu_matrix(t) for t in texts], lambda: [_bleus(t) for t in texts]),
            _against("cosine", lambda: [cosines(z) for z in rows], lambda: [_products(z) for z in rows]),
            _against(
                "Dawid–Skene",
                lambda: dawid_skene(labels, rounds=ROUNDS, tolerance=0.0),
                lambda: _cell_by_cell(labels),
            ),
            *(
                figure(
                    f"{model}, EM on {items:,} items × 50 labels, peak memory",
                    [_peak(items, model)],
                    unit="GB",
                    aim=1.0,
                )
                for model in MODELS
            ),
            figure("vote of three instant members, a whole ask", took, unit="ms", aim=6.0),
            figure("the same, processor time of all threads", [busy], unit="ms"),
        ),
        (
            f"Dawid–Skene: {ROUNDS} rounds of each. The peak includes the interpreter, numpy and scipy.",
            "A whole ask has its budget, trace and store. How long replaying recorded answers takes is in their table.",
        ),
    )


def _against(what: str, ours: Callable[[], object], loop: Callable[[], object]) -> Figure:
    """Processor seconds of ours ÷ those of the loop, three times ours against one loop."""
    ours()  # what is imported and compiled at the first call is counted for neither
    slow = _seconds(loop)
    return figure(f"{what}: ours ÷ the pairwise loop", [_seconds(ours) / slow for _ in range(3)], aim=0.2)


def _seconds(work: Callable[[], object]) -> float:
    began = process_time()
    work()
    return process_time() - began


def _candidates(rng: np.random.Generator) -> list[str]:
    """Answers that share words, as answers to one question do."""
    return [
        " ".join(f"word{w}" for w in rng.zipf(1.5, int(rng.integers(20, 60))) % 300)
        for _ in range(CANDIDATES)
    ]


def _unit(z: Floats) -> Floats:
    found: Floats = z / np.linalg.norm(z, axis=1, keepdims=True)
    return found


def _bleus(texts: list[str]) -> list[list[float]]:
    from sacrebleu.metrics import BLEU

    bleu = BLEU(effective_order=True)
    return [[bleu.sentence_score(a, [b]).score for b in texts] for a in texts]


def _products(z: Floats) -> list[list[float]]:
    return [[float(a @ b) for b in z] for a in z]


def _labels(n: int, rng: np.random.Generator) -> Labels:
    truth = rng.integers(4, size=n)
    right = rng.random((n, CANDIDATES)) < 0.6
    table = np.where(right, truth[:, None], rng.integers(4, size=(n, CANDIDATES)))
    return Labels.of(table.astype(np.float64), 4)


def _cell_by_cell(labels: Labels) -> Floats:
    """EM as it is written down: a loop over the labels in both steps."""
    k = labels.n_labels
    cells = list(zip(labels.item.tolist(), labels.worker.tolist(), labels.label.tolist(), strict=True))
    posterior = np.full((labels.n_items, k), 1e-9)
    for i, _, said in cells:
        posterior[i, said] += 1
    posterior /= posterior.sum(axis=1, keepdims=True)
    for _ in range(ROUNDS):
        matrix = np.full((labels.n_workers, k, k), 0.01)
        for i, w, said in cells:
            matrix[w, :, said] += posterior[i]
        matrix /= matrix.sum(axis=2, keepdims=True)
        log_p = np.tile(np.log(posterior.mean(axis=0)), (labels.n_items, 1))
        for i, w, said in cells:
            log_p[i] += np.log(matrix[w, :, said])
        posterior = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
    return posterior


def _peak(items: int, model: str) -> float:
    """GB that a process of its own has taken at most. Rounds take time and no memory; each of GLAD's is a search."""
    code = _MEMORY.replace("{items}", str(items)).replace("{model}", model)
    code = code.replace("{rounds}", "2" if model == "glad" else "5")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


async def _asks(n: int) -> tuple[list[float], float]:
    """Milliseconds of asks, one after the other, and of processor time for each; the first ten are not counted."""
    took, busy = list[float](), 0.0
    with TemporaryDirectory() as folder:
        text = toy_config("agent-forest", {"samples": 1}, folder=Path(folder))
        async with toy_house(text) as house:
            for name in house.config.ensembles["toys"].members:
                member = house.builder.member(name)
                endpoint = house.builder.endpoints[member.endpoint]
                assert isinstance(endpoint, ToyEndpoint)
                house.builder.members[name] = replace(member, actor=Instant(endpoint, member.spec))
            for i in range(n + 10):
                busy = process_time() if i == 10 else busy
                began = perf_counter()
                await house["toys"].ask(Query.of(f"What is {i}+3?"), seed=i)
                took.append((perf_counter() - began) * 1e3)
            busy = process_time() - busy
    return took[10:], busy / n * 1e3
