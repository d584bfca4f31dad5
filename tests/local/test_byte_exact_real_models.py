"""Exact bytes on the real models: every reading is possible, probabilities sum to one, copies change nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from real_models import MEMBERS

import septet
from septet.core.types import Query
from septet.engine.house import House
from septet.parts.decoding.byte_members import Lattices
from septet.parts.decoding.covering_tree import CoveringTree
from septet.parts.decoding.pretokenise import Lattice

pytestmark = [pytest.mark.local, pytest.mark.asyncio(loop_scope="module")]

CONFIG = (
    MEMBERS
    + """
[ensembles.smol_once]
method = "byte-exact"
members = ["smol"]

[ensembles.smol_twice]
method = "byte-exact"
members = ["smol", "smol2"]
aggregate = "geometric"

[ensembles.gemma_once]
method = "byte-exact"
members = ["gemma"]

[ensembles.gemma_twice]
method = "byte-exact"
members = ["gemma", "gemma2"]

[ensembles.all_gemma]
method = "byte-exact"
members = ["smol", "gemma"]
weights = { gemma = 1.0 }
"""
)

NASTY = [
    "it's we'll 'tis x'S don't they're I'd ''s 'sun -'s 1's \n's  's",
    "a\n\nb \n c\n\n\n  d\r\n\r\ne\t\tf  \t g\n\n",
    "def f(x):\n\tif x == 10:\n\t\treturn  x + 1234567 # café\n\n\n",
    "1 12 123 1234567 a1b2 3.14 ½ x² 1,000",
    "日本語のテキスト、 한국어 مرحبا بالعالم 😀🎉🚀 👩‍👩‍👧 e\u0301 naïve",
    "“quoted” — dash… ‘x’ \u00a0 nbsp\u3000ideo \u2003em",
    "a" + " " * 60 + "b" + "\n" * 40 + "c" + "\t" * 35 + "d",
    "<table><tr> </s> <s>x &amp; [multimodal]",
]

PROMPTS = ["Repeat: 😀🎉 hello 😀", "for i in range(3):\n\tprint(i)\n\n"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("bytes")
    (folder / "bytes.toml").write_text(CONFIG)
    async with septet.load(folder / "bytes.toml", set=[f"store.path={folder}/t.db"]) as made:
        yield made


async def lattice(house: House, model: str) -> Lattice:
    ensemble = house[f"{model}_once"].ensemble
    await ensemble.members[0].actor.ready()  # type: ignore[union-attr]
    prepared: Lattices = await ensemble.prepared()
    return prepared.of[0]


@pytest.mark.parametrize("model", ["smol", "gemma"])
async def test_k25_whatever_the_tokenizer_reads_is_possible_at_every_token(house: House, model: str) -> None:
    made = await lattice(house, model)
    vocab = house[model].ensemble.members[0].actor.vocab  # type: ignore[union-attr]
    place = {int(i): j for j, i in enumerate(made.order.ids)}
    grammar = made.grammar
    assert grammar is not None
    source = Path(septet.__file__).read_text() + Path(__file__).read_text()
    for text in (*NASTY, source):
        state = grammar.start()
        for token in vocab.tokenise(text.encode()):
            assert grammar.allowed(state)[place[token]], (text[:40], vocab.bytes_of(token), state)
            state = grammar.step(state, place[token])
        assert grammar.may_end(state)


@pytest.mark.parametrize("model", ["smol", "gemma"])
async def test_of_two_tokens_that_may_follow_each_other_the_tokenizer_reads_both(
    house: House, model: str
) -> None:
    made = await lattice(house, model)
    vocab = house[model].ensemble.members[0].actor.vocab  # type: ignore[union-attr]
    grammar, order = made.grammar, made.order
    assert grammar is not None
    rng, n_checked = np.random.default_rng(0), 0
    for left in rng.choice(len(order), 40, replace=False).tolist():
        if not grammar.allowed(grammar.start())[left]:
            continue
        may = grammar.allowed(grammar.step(grammar.start(), left))
        for right in rng.choice(len(order), 60, replace=False).tolist():
            both = order.bytes_at(left) + order.bytes_at(right)
            if "\ufffd" in both.decode("utf-8", "replace"):
                continue
            wanted = [int(order.ids[left]), int(order.ids[right])]
            readings = [vocab.tokenise(both + end)[:2] for end in (b"", b"a", b" ", b"1", b"!", b"\n")]
            assert bool(may[right]) is (wanted in readings), (order.bytes_at(left), order.bytes_at(right))
            n_checked += 1
    assert n_checked > 500


@pytest.mark.parametrize("model", ["smol", "gemma"])
async def test_all_symbols_share_the_mass_of_what_was_typed(house: House, model: str) -> None:
    made = await lattice(house, model)
    session = await house[model].ensemble.members[0].actor.open(Query(raw="The capital of"))  # type: ignore[union-attr]
    try:
        tree = CoveringTree.begun(made.order, made.grammar, "masked")
        for byte in (*b" Fr", None):
            while wanted := tree.wanted(0.0):
                for path, following in zip(wanted, await session.after(wanted), strict=True):
                    tree = tree.told(path, following.logp, session.vocab.end_ids[0])
            symbols = tree.symbols()
            assert symbols.dropped == 0
            assert symbols.total == pytest.approx(1, abs=1e-6)
            assert np.exp(symbols.logp).sum() == pytest.approx(1, abs=1e-9)
            if byte is not None:
                longer = tree.typed(byte)
                while wanted := longer.wanted(0.0):
                    for path, following in zip(wanted, await session.after(wanted), strict=True):
                        longer = longer.told(path, following.logp, session.vocab.end_ids[0])
                assert longer.log_z - tree.log_z == pytest.approx(float(symbols.logp[byte]), abs=1e-6)
                tree = longer
    finally:
        await session.close()


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("model", ["smol", "gemma"])
async def test_k2_a_copy_beside_it_changes_no_probability(house: House, model: str, prompt: str) -> None:
    once = await house[f"{model}_once"].ask(prompt, max_tokens=12, temperature=0.0)
    twice = await house[f"{model}_twice"].ask(prompt, max_tokens=12, temperature=0.0)
    assert once.text == twice.text
    assert once.tokens is not None
    assert twice.tokens is not None
    np.testing.assert_allclose(once.tokens.logp, twice.tokens.logp, atol=1e-5)


async def test_k3_with_weight_one_it_writes_as_that_member_alone(house: House) -> None:
    alone = await house["gemma_once"].ask(PROMPTS[0], max_tokens=16, temperature=0.0)
    weighted = await house["all_gemma"].ask(PROMPTS[0], max_tokens=16, temperature=0.0)
    assert alone.text == weighted.text
