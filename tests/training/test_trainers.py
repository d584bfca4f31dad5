"""Fine-tuning a tiny encoder: the loss falls, the state and its weights belong together, and asking uses them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.backends.encoder import Encoder
from septet.core.backend import Place
from septet.core.errors import BadParameter, ConfigError, MissingExtra, NotFitted, UnfitPool
from septet.core.facets import Facets, Family, Goal, Granularity, Strategy
from septet.core.method import Card, method
from septet.core.table import Table
from septet.core.types import Floats
from septet.engine.house import House
from septet.engine.training import train
from septet.methods.a1_pretrained._network import (
    Batch,
    Epochs,
    LearningRate,
    MaxLength,
    NetworkKind,
    NetworkRouter,
    Penalty,
)
from septet.methods.a1_pretrained.routellm import RouteLLM
from septet.methods.a1_pretrained.router_dc import RouterDc
from septet.parts.learning.features import FeatureKind
from septet.parts.learning.targets import Targets
from septet.parts.routing.records import Known
from septet.testing.toys import toy_config, toy_house
from septet.training import _fine_tune, _frozen
from tiny_encoder import save_tiny_causal, save_tiny_encoder

pytestmark = pytest.mark.local


@method(
    Card(
        paper="toy",
        title="one probability per member",
        facets=Facets(
            family=Family.PRETRAINED,
            strategy=Strategy.SELECTION,
            granularity=Granularity.RESPONSE,
            goal=Goal.PERFORMANCE,
            supervised=True,
        ),
        trained=True,
    )
)
class Plain(NetworkRouter):
    network: NetworkKind = "encoder"
    l2: Penalty = 0.01
    lr: LearningRate = 1e-3
    epochs: Epochs = 3
    batch: Batch = 8
    max_length: MaxLength = 32
    features: FeatureKind = "lsa"

    def targets(self, known: Known) -> Targets:
        return Targets.even(known.scores, "bce")


DC = {"network": "encoder", "steps": 40, "batch": 12, "lr": 1e-3, "max_length": 32}
BERT = {"router": "bert", "epochs": 3, "batch": 8, "lr": 1e-3, "max_length": 32}
GRADES = BERT | {"router": "causal", "max_length": 64}
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (Plain, {}),
    "router-dc": (RouterDc, DC),
    "routellm": (RouteLLM, BERT),
}
BOTH_TRAINERS = ("plain", "router-dc")


def sums_and_poems(n: int = 48) -> Table:
    """ada is right on sums, bob on poems."""
    words = ["two", "three", "four", "five", "sea", "sky", "plus", "and"]
    rows = []
    for i in range(n):
        kind = "add" if i % 2 == 0 else "write a poem about"
        query = f"{kind} {words[i % 8]} {words[(i // 8) % 8]} {words[(i * 3) % 7]}"
        for member, right in (("ada", i % 2 == 0), ("bob", i % 2 == 1)):
            rows.append(
                {
                    "query": f"{query} {i}",
                    "task": "t",
                    "model": member,
                    "score": float(right),
                    "cost_usd": 1e-4,
                }
            )
    return Table.of(rows)


ADD, POEM = "add three and two 77", "write a poem about sky sea 77"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp("tiny"))


def config(name: str, tiny: Path, folder: Path, ensembles: Sequence[str] = ("toys",)) -> str:
    """The toy pool, an encoder, and ensembles of ada and bob whose role it is."""
    record, parameters = METHODS[name]
    text = toy_config(
        record.name, parameters, order=("ada", "bob"), roles={"encoder": ["mini"]}, folder=folder
    )
    head, _, rest = text.partition("[ensembles.toys]\n")
    body, _, tail = rest.partition("\n\n")
    mini = f'mini = {{ backend = "encoder", model = "{tiny}", device = "cpu" }}\n\n'
    made = [f"[ensembles.{e}]\n" + body.replace("/state", f"/state-{e}") for e in ensembles]
    return head.rstrip() + "\n" + mini + "\n\n".join(made) + "\n\n" + tail


def house(name: str, tiny: Path, folder: Path, ensembles: Sequence[str] = ("toys",)) -> House:
    record, _ = METHODS[name]
    return toy_house(config(name, tiny, folder, ensembles), {record.name: record})


async def asked(made: House, ensemble: str = "toys") -> tuple[list[Floats], list[str]]:
    answers = [await made[ensemble].ask(q, seed=1) for q in (ADD, POEM)]
    return [a.verdict.weights for a in answers], [a.verdict.reason for a in answers]


@pytest.mark.parametrize("name", METHODS)
async def test_an_ensemble_is_fitted_saved_loaded_and_asked(name: str, tiny: Path, tmp_path: Path) -> None:
    said: list[str] = []
    async with house(name, tiny, tmp_path) as made:
        with pytest.raises(NotFitted):
            await made["toys"].ask(ADD)
        learned = await made["toys"].fit(sums_and_poems(), progress=said.append)
        weights, reasons = await asked(made)
        assert [w.tolist() for w in weights] == [[1.0, 0.0], [0.0, 1.0]]
        assert learned.provenance["encoder"] == str(tiny)
    assert said[0].startswith("reading the ")
    assert "held-out loss" in said[-1]
    folder = tmp_path / "state-toys"
    assert sorted(p.name for p in (folder / learned.weights).iterdir()) == ["head.json", "model.safetensors"]
    async with house(name, tiny, tmp_path) as again:
        reread, said_again = await asked(again)
        np.testing.assert_array_equal(reread, weights)
        assert said_again == reasons
        await again["toys"].fit(sums_and_poems(), seed=3)  # the second version takes the place of the first
        assert [p.name for p in folder.glob("weights-*")] == [again["toys"].ensemble.cell.learned.weights]
        assert [w.tolist() for w in (await asked(again))[0]] == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("name", BOTH_TRAINERS)
async def test_the_same_seed_gives_the_same_weights(name: str, tiny: Path, tmp_path: Path) -> None:
    record, parameters = METHODS[name]
    async with house(name, tiny, tmp_path) as made:
        roles = made.builder.trainable(made["toys"].ensemble)
        first, second, other = [
            await train(record(**parameters), sums_and_poems(24), roles, seed) for seed in (5, 5, 6)
        ]
    files = []
    for i, trained in enumerate((first, second, other)):
        (tmp_path / str(i)).mkdir()
        trained.write(tmp_path / str(i))
        files.append((tmp_path / str(i) / "model.safetensors").read_bytes())
    assert first.facts == second.facts
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("name", BOTH_TRAINERS)
async def test_training_lowers_the_loss(
    name: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("septet.training.encoder.fit_head", wild_head)  # else the probe has it all
    async with house(name, tiny, tmp_path) as made:
        learned = await made["toys"].fit(sums_and_poems())
    report = learned.provenance["training"]
    assert report["batch_loss"][-1] < 0.95 * report["batch_loss"][0]
    assert min(report["held_out_loss"]) < 0.8 * report["held_out_loss"][0]
    assert report["kept_at_step"] > 0


def wild_head(x: Floats, targets: Targets, l2: float) -> tuple[Floats, Floats]:
    """A head that knows nothing, and is sure of it."""
    c = targets.y.shape[1]
    return np.random.default_rng(0).normal(0, 5, (x.shape[1], c)), np.zeros(c)


async def test_two_ensembles_on_one_member_have_weights_of_their_own(tiny: Path, tmp_path: Path) -> None:
    async with house("plain", tiny, tmp_path, ("one", "two")) as made:
        table = sums_and_poems()
        turned = Table.of(
            [
                {"query": table.questions[q], "task": "t", "model": m, "score": s, "cost_usd": 1e-4}
                for q, m, s in zip(
                    table.query, np.array(["bob", "ada"])[table.member], table.score, strict=True
                )
            ]
        )
        await made["one"].fit(table)
        await made["two"].fit(turned)
        assert [w.tolist() for w in (await asked(made, "one"))[0]] == [[1.0, 0.0], [0.0, 1.0]]
        assert [w.tolist() for w in (await asked(made, "two"))[0]] == [[0.0, 1.0], [1.0, 0.0]]
        (row,) = (await made.builder.member("mini").actor.embed([ADD])).value
    async with house("plain", tiny, tmp_path) as fresh:
        (before,) = (await fresh.builder.member("mini").actor.embed([ADD])).value
    np.testing.assert_array_equal(row, before)  # the member itself has stayed as it was


async def test_a_state_whose_weights_are_missing_is_refused(tiny: Path, tmp_path: Path) -> None:
    async with house("plain", tiny, tmp_path) as made:
        learned = await made["toys"].fit(sums_and_poems(16))
    shutil.rmtree(tmp_path / "state-toys" / learned.weights)
    async with house("plain", tiny, tmp_path) as made:
        with pytest.raises(ConfigError, match=r"needs the trained weights 'weights-000001-.*missing"):
            made["toys"]


async def test_a_state_that_names_a_folder_elsewhere_is_refused(tiny: Path, tmp_path: Path) -> None:
    async with house("plain", tiny, tmp_path) as made:
        await made["toys"].fit(sums_and_poems(16))
    file = tmp_path / "state-toys" / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"weights": "../state-toys"}))
    async with house("plain", tiny, tmp_path) as made:
        with pytest.raises(ConfigError, match="which are missing"):
            made["toys"]


async def test_a_fit_that_fails_leaves_the_old_state_and_no_half_of_a_new_one(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house("plain", tiny, tmp_path) as made:
        first = await made["toys"].fit(sums_and_poems(16))

        def full(*_: Any) -> None:
            raise OSError("no space left")

        monkeypatch.setattr("septet.training.encoder.write_weights", full)
        with pytest.raises(OSError, match="no space left"):
            await made["toys"].fit(sums_and_poems(16))
    assert sorted(p.name for p in (tmp_path / "state-toys").iterdir() if p.is_dir()) == [first.weights]
    async with house("plain", tiny, tmp_path) as made:
        assert made["toys"].ensemble.cell.learned.version == 1


def test_a_member_that_cannot_be_trained_is_refused_before_any_call(tiny: Path, tmp_path: Path) -> None:
    text = config("plain", tiny, tmp_path).replace('["mini"]', '["cyd"]')
    with pytest.raises(UnfitPool, match=r"cyd \(as encoder\) cannot be fine-tuned, as test-trainers wants"):
        toy_house(text, {Plain.name: Plain})["toys"]


async def test_a_fit_without_torch_says_how_to_install_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    async with house("plain", tiny, tmp_path) as made:
        with pytest.raises(MissingExtra, match=r"torch is not installed.*septet\[train\]"):
            await made["toys"].fit(sums_and_poems(16))


@pytest.mark.parametrize("name", BOTH_TRAINERS)
async def test_a_table_of_one_question_is_refused(name: str, tiny: Path, tmp_path: Path) -> None:
    async with house(name, tiny, tmp_path) as made:
        with pytest.raises(BadParameter, match="at least two questions with a score, got 1"):
            await made["toys"].fit(sums_and_poems(1))


async def test_frozen_layers_stay_as_they_were(tiny: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    text = config("plain", tiny, tmp_path).replace(
        'device = "cpu"', 'device = "cpu", trained_layers = 1, max_length = 16'
    )
    async with toy_house(text, {Plain.name: Plain}) as made:
        learned = await made["toys"].fit(sums_and_poems())
    assert learned.provenance["training"]["kept_at_step"] > 0
    folder = tmp_path / "state-toys" / learned.weights
    assert (
        json.loads((folder / "head.json").read_text())["max_length"] == 16
    )  # the member's limit, not the 32
    before, after = load_file(tiny / "model.safetensors"), load_file(folder / "model.safetensors")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("encoder.layer.1.") for name in changed)


async def test_a_language_model_learns_grades_and_its_frozen_layers_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import load_file

    monkeypatch.setitem(METHODS, "causal", (RouteLLM, GRADES))
    monkeypatch.setattr("septet.training.encoder.fit_head", wild_head)  # else the probe has it all
    causal = save_tiny_causal(tmp_path / "model")
    text = config("causal", causal, tmp_path).replace('device = "cpu"', 'device = "cpu", trained_layers = 1')
    text = text.replace("epochs = 3", "epochs = 20")
    async with toy_house(text, {RouteLLM.name: RouteLLM}) as made:
        learned = await made["toys"].fit(sums_and_poems())
        weights, _ = await asked(made)
        assert [w.tolist() for w in weights] == [[1.0, 0.0], [0.0, 1.0]]
    report = learned.provenance["training"]
    assert min(report["held_out_loss"]) < 0.5 * report["held_out_loss"][0]
    folder = tmp_path / "state-toys" / learned.weights
    before, after = load_file(causal / "model.safetensors"), load_file(folder / "model.safetensors")
    changed = {
        name for name in after if name in before or f"model.{name}" in before
        if not np.array_equal(before[f"model.{name}"], after[name])
    }  # fmt: skip
    assert changed
    assert all(name.startswith("layers.2.") for name in changed)
    assert after["head.weight"].shape == (5, 32)
    async with toy_house(text, {RouteLLM.name: RouteLLM}) as again:
        np.testing.assert_array_equal((await asked(again))[0], weights)


@pytest.mark.parametrize(
    ("save", "layers"), [(save_tiny_encoder, 1), (save_tiny_causal, 2), (save_tiny_causal, 0)]
)
@pytest.mark.parametrize("limit", [0, _frozen.KEPT_BYTES])
def test_what_frozen_layers_said_is_kept_and_changes_neither_rows_nor_gradients(
    save: Any, layers: int, limit: int, tmp_path: Path
) -> None:
    model = Encoder(model=str(save(tmp_path)), device="cpu").connect(Place()).load()
    texts = ["add two and three", "faust", "write a poem about the sea and the sky", "faust"]
    _, stack = _frozen.stack_of(model)
    parameters = _fine_tune._trained(model, layers)

    def pooled() -> tuple[Any, list[Any]]:
        model.model.zero_grad()
        found = model.pooled(model.read(texts))
        if parameters:
            (found * found.detach().cos()).sum().backward()
        return found.detach(), [p.grad.clone() for p in parameters.values()]

    rows, slopes = pooled()
    reads = []
    inner = stack[0].self_attn if hasattr(stack[0], "self_attn") else stack[0].attention
    inner.register_forward_hook(lambda *_: reads.append(1))
    frozen = _frozen.Frozen(model, layers, limit)
    model.through = frozen.states
    for _ in range(3):
        again, slopes_again = pooled()
        np.testing.assert_allclose(again, rows, atol=1e-5)
        for slope, before in zip(slopes_again, slopes, strict=True):
            np.testing.assert_allclose(slope, before, atol=1e-4)
    assert len(reads) == (1 if limit else 3)
    assert len(frozen._kept) == (3 if limit else 0)


def test_an_epoch_has_every_question_once_and_like_lengths_together() -> None:
    index, lengths = np.arange(3, 73), [i % 10 for i in range(73)]
    batches = _fine_tune.epochs(index, lengths, 4, np.random.default_rng(0))
    n = _fine_tune.steps_per_epoch(70, 4)
    assert n == 18  # two times eight full batches, and six questions
    for _ in range(2):
        epoch = [next(batches) for _ in range(n)]
        assert sorted(np.concatenate(epoch).tolist()) == index.tolist()
        spans = [max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in epoch]
        assert np.mean(spans) < 3
