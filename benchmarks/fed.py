"""What is fed: the prompt once, and for an answer hardly more tokens than the answer has."""

from __future__ import annotations

import asyncio

from decoding import Decoded, decode, measured
from figures import Section, Setting, figure

from septet.core.types import Query

PIECES = 200

PROMPTS = {
    "prose": "The history of the city of Paris begins with a small settlement on an island in the river. In the",
    "story": "Once upon a time, in a village at the foot of a high mountain, there lived an old clockmaker who",
    "essay": "There are several reasons why people learn a second language when they are adults. One of them",
    "letter": "Dear Ms Miller,\n\nthank you for your letter of 3 May. I am sorry to hear that the parcel did not",
    "emoji": "My holiday in emoji, day by day, ten for every day:\nDay 1: 🏖️🌊🐚☀️🦀👩‍👩‍👧😎🍉🇮🇹🎉\nDay 2: 🚲🌲🦊🏕️🔥",
    "tabs": (
        "/* Lists the primes below n. */\nint primes(int n)\n{\n\tint count = 0;\n\tfor (int i = 2; i < n; i++) {\n"
        "\t\tif (is_prime(i)) {\n\t\t\tcount++;\n\t\t}\n\t}\n\treturn count;\n}\n\n"
        "/* Sorts the numbers. */\nvoid sort(int *a, int n)\n{\n"
    ),
    "blank lines": "My shopping list, with an empty line after every entry:\n\n- bread\n\n- milk\n\n- eggs\n\n-",
}


def run(setting: Setting) -> Section:
    """One answer to each prompt."""
    return asyncio.run(_run(setting))


async def _run(setting: Setting) -> Section:
    kinds, pieces = (list(PROMPTS)[-3:], 8) if setting.quick else (list(PROMPTS), PIECES)
    async with measured(setting.config, setting.ensemble) as asked:
        runs = [
            await decode(asked, Query(raw=PROMPTS[kind], max_tokens=pieces), in_turn=False) for kind in kinds
        ]
        names = [member.name for member in asked.ensemble.members]
        method = asked.ensemble.method.name
    figures = []
    for i, name in enumerate(names):
        prompt = [d.shares[i].prompt_fed / d.shares[i].prompt_tokens for d in runs]
        answer = [_ratio(d, i) for d in runs]
        figures += [
            figure(f"{name}: prompt tokens fed ÷ prompt tokens", prompt, aim=1.0, judged="worst"),
            figure(f"{name}: answer tokens fed ÷ tokens of the answer", answer, aim=1.05),
            figure(f"{name}: the same, worst prompt", [max(answer)], aim=1.30, judged="worst"),
        ]
    setting_ = f"{method} of {' and '.join(names)}, {len(kinds)} answers of up to {pieces} pieces, greedy"
    notes = tuple(_line(kind, d) for kind, d in zip(kinds, runs, strict=True))
    return Section("fed", setting_, tuple(figures), notes)


def _ratio(decoded: Decoded, i: int) -> float:
    share = decoded.shares[i]
    return share.answer_fed / share.answer_tokens


def _line(kind: str, decoded: Decoded) -> str:
    members = "; ".join(
        f"{s.member} fed {s.answer_fed} of {s.answer_tokens} ({s.answer_fed / s.answer_tokens:.3f}), "
        f"{s.rollbacks} rollbacks"
        for s in decoded.shares
    )
    return f"{kind}, {decoded.pieces} pieces: {members}"
