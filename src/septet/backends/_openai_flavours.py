"""What OpenAI-compatible servers can do beyond the common wire format, as one table, and how each is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from septet.core.caps import Caps


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """The facts about a kind of server.

    topk: alternatives per token that it reports unless it was started with another limit · many: several
    samples in one call · seeded: the same seed gives the same answer · continues: how a partial answer of a
    chat is continued: "message", an unfinished assistant turn; "rendered", the server renders the prompt and
    completes it as text; "", not at all · names_stop: the reply says which stop string ended it · scores:
    log-probabilities of the tokens of the prompt · spells_end: the END of an answer is listed by its
    spelling, not as an empty token · streaming: fields that make every event of a stream state the usage, so
    that it is known where the stream is cut.
    """

    name: str
    topk: int
    many: bool
    seeded: bool
    continues: Literal["", "message", "rendered"] = ""
    names_stop: bool = False
    scores: bool = False
    spells_end: bool = False
    streaming: Mapping[str, Any] = field(default_factory=lambda: {"stream_options": {"include_usage": True}})


GENERIC = Flavour(name="generic", topk=20, many=True, seeded=False)

FLAVOURS: Mapping[str, Flavour] = {
    flavour.name: flavour
    for flavour in (
        GENERIC,
        Flavour(
            name="vllm",
            topk=20,
            many=True,
            seeded=True,
            continues="message",
            names_stop=True,
            scores=True,
            spells_end=True,
            streaming={"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        ),
        # `n` of llama-server is limited by its number of slots, so samples are asked for one by one
        Flavour(
            name="llama-server",
            topk=100,
            many=False,
            seeded=True,
            continues="rendered",
            streaming={"stream_options": {"include_usage": True}, "timings_per_token": True},
        ),
        Flavour(name="ollama", topk=20, many=False, seeded=True),
    )
}
"""Every flavour by name."""

END_SPELLINGS = frozenset(
    (
        "</s>",
        "<eos>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end|>",
        "<|return|>",
        "<end_of_turn>",
        "<turn|>",
        "<|END_OF_TURN_TOKEN|>",
        "<｜end▁of▁sentence｜>",
    )
)
"""How models spell the tokens that end an answer. A plain text is never one token with such a spelling."""

PROBES: tuple[tuple[str, str, str], ...] = (
    ("ollama", "/api/version", "version"),
    ("llama-server", "/props", "default_generation_settings"),
    ("vllm", "/version", "version"),
)
"""Flavour, path below the server's root, and the key that only this server's answer there has; in order."""


def offers(flavour: Flavour, *, plain: bool, topk: int, context: int, echo: bool) -> Caps:
    """What a member offers. `plain`: its prompts are plain texts, which any server continues; `echo`: the
    completions endpoint gives the log-probabilities of a prompt back."""
    together = bool(flavour.continues)
    return Caps(
        text=True,
        samples=True,
        stream=True,
        logprobs=True,
        seed=flavour.seeded,
        continues=together or plain,
        tools=not plain,
        topk=topk if together else 0,
        fork=together,
        score=flavour.scores or (echo and plain),
        prompt_scores=flavour.scores,
        context=context,
    )
