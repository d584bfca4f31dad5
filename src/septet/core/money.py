"""What a call used, what that costs, and how much a request may spend."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call or of many, each in its own member's tokens.

    `fed_tokens` counts what really went through a forward pass, prompt included; it exceeds
    prompt + completion where text was re-tokenised and falls below where the prompt was cached.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    fed_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.fed_tokens + other.fed_tokens,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens - other.prompt_tokens,
            self.completion_tokens - other.completion_tokens,
            self.cached_tokens - other.cached_tokens,
            self.fed_tokens - other.fed_tokens,
        )


@dataclass(frozen=True, slots=True)
class Price:
    """What a member charges: USD per million tokens in and out, and USD per second of its time.

    >>> Price(usd_per_mtok_in=1.0, usd_per_mtok_out=2.0).of(Usage(500_000, 250_000), seconds=1.0)
    1.0
    """

    usd_per_mtok_in: float = 0.0
    usd_per_mtok_out: float = 0.0
    usd_per_second: float = 0.0

    def of(self, usage: Usage, seconds: float) -> float:
        """USD of one call."""
        tokens = usage.prompt_tokens * self.usd_per_mtok_in + usage.completion_tokens * self.usd_per_mtok_out
        return tokens / 1e6 + seconds * self.usd_per_second


def dollars(usd: float) -> str:
    """An amount with as many digits as it needs.

    >>> dollars(0.0), dollars(0.0061), dollars(0.0000125), dollars(12.5)
    ('$0', '$0.0061', '$0.0000125', '$12.50')
    """
    if usd == 0:
        return "$0"
    if usd >= 1:
        return f"${usd:.2f}"
    if usd < 5e-9:
        return "<$0.00000001"
    return f"${usd:.4f}" if usd >= 0.001 else f"${usd:.8f}".rstrip("0")


@dataclass(frozen=True, slots=True)
class Budget:
    """What one request may spend; None is no limit."""

    usd: float | None = None
    seconds: float | None = None
    calls: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """The most that one request asks of one member: calls, prompts fed, and completion tokens."""

    calls: int = 0
    prompts: int = 0
    tokens: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(self.calls + other.calls, self.prompts + other.prompts, self.tokens + other.tokens)
