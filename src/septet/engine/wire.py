"""Queries, completions and answers as plain JSON: for the trace, the cache and `--json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from septet.core.money import Usage
from septet.core.trace import PieceEvent
from septet.core.types import Answer, Completion, Message, Piece, Query, Tokens, Verdict


def number(value: float | None) -> float | None:
    """A number that JSON can hold: NaN and infinities become None."""
    return None if value is None or not math.isfinite(value) else float(value)


def usage_json(usage: Usage) -> dict[str, int]:
    """Token counts by name."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "fed_tokens": usage.fed_tokens,
    }


def query_json(query: Query) -> dict[str, Any]:
    """Every field of a query that is not at its default."""
    found: dict[str, Any] = {}
    if query.raw is not None:
        found["raw"] = query.raw
    else:
        found["messages"] = [
            {"role": m.role, "content": m.content, **({"extra": dict(m.extra)} if m.extra else {})}
            for m in query.messages
        ]
    for name in ("prefix", "max_tokens", "temperature", "top_p", "seed", "task", "prefer", "tenant"):
        value = getattr(query, name)
        if value not in (None, ""):  # a seed, a temperature or a price of 0 says something
            found[name] = value
    for name in ("stop", "until"):
        if getattr(query, name):
            found[name] = list(getattr(query, name))
    if query.extra:
        found["extra"] = dict(query.extra)
    return found


def query_of(data: Mapping[str, Any]) -> Query:
    """The query that `query_json` wrote down."""
    fields = dict(data)
    messages = tuple(Message(m["role"], m["content"], m.get("extra", {})) for m in fields.pop("messages", ()))
    for name in ("stop", "until"):
        fields[name] = tuple(fields.get(name, ()))
    return Query(messages=messages, **fields)


def tokens_json(tokens: Tokens | None) -> dict[str, Any] | None:
    """Tokens with their bytes in Latin-1, so that no byte is lost."""
    if tokens is None:
        return None
    top = None
    if tokens.top is not None:
        top = [[[piece.decode("latin-1"), number(logp)] for piece, logp in row] for row in tokens.top]
    texts = [t.decode("latin-1") for t in tokens.texts]
    return {"texts": texts, "logp": [number(float(x)) for x in tokens.logp], "top": top}


def tokens_of(data: Mapping[str, Any] | None) -> Tokens | None:
    """The tokens that `tokens_json` wrote down."""
    if data is None:
        return None
    logp = np.array([math.nan if x is None else x for x in data["logp"]], dtype=np.float64)
    top = None
    if data.get("top") is not None:
        top = tuple(
            tuple((p.encode("latin-1"), -math.inf if x is None else x) for p, x in row) for row in data["top"]
        )
    return Tokens(tuple(t.encode("latin-1") for t in data["texts"]), logp, top)


def step_json(event: PieceEvent) -> dict[str, Any]:
    """How a piece came about, with all bytes in Latin-1; probabilities have six digits."""
    candidates = [
        [piece.decode("latin-1"), _brief(p), {name: _brief(own) for name, own in owns.items()}]
        for piece, p, owns in event.candidates
    ]
    return {
        "request": event.request,
        "path": event.path,
        "number": event.number,
        "at": event.at,
        "piece": event.piece.decode("latin-1"),
        "logp": number(event.logp),
        "support": {name: _brief(share) for name, share in event.support.items()},
        "candidates": candidates,
        "asked": list(event.asked),
        "fed": dict(event.fed),
        "forward_seconds": {name: round(s, 6) for name, s in event.forward_seconds.items()},
        "seconds": event.seconds,
        "drafted": event.drafted,
    }


def step_of(data: Mapping[str, Any]) -> PieceEvent:
    """The piece that `step_json` wrote down."""
    return PieceEvent(
        **{k: data[k] for k in ("request", "path", "number", "at", "support", "fed", "forward_seconds")},
        piece=data["piece"].encode("latin-1"),
        logp=math.nan if data["logp"] is None else data["logp"],
        candidates=tuple((piece.encode("latin-1"), p, owns) for piece, p, owns in data["candidates"]),
        asked=tuple(data["asked"]),
        seconds=data["seconds"],
        drafted=bool(data["drafted"]),
    )


def _brief(p: float | None) -> float | None:
    known = number(p)
    return None if known is None else float(f"{known:.6g}")


def value_json(value: Any) -> Any:
    """What score, embed, rate, compare and run gave: arrays as lists, tokens as `tokens_json`."""
    if isinstance(value, Tokens):
        return tokens_json(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [value_json(v) for v in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def completion_json(c: Completion, *, tokens: bool = False) -> dict[str, Any]:
    """A completion; with `tokens`, everything that is needed to restore it."""
    found: dict[str, Any] = {
        "member": c.member,
        "text": c.text,
        "finish": c.finish,
        "usage": usage_json(c.usage),
        "usd": number(c.usd),
        "seconds": number(c.seconds),
        "weight": number(c.weight),
        "confidence": number(c.confidence),
        "sample": c.sample,
        "cached": c.cached,
    }
    if c.tokens is not None and len(c.tokens):
        known = c.tokens.logp[~np.isnan(c.tokens.logp)]
        found["logp"] = number(float(known.mean())) if len(known) else None
    if c.extra:
        found["extra"] = dict(c.extra)
    if tokens:
        found["tokens"] = tokens_json(c.tokens)
    return found


def completion_of(data: Mapping[str, Any]) -> Completion:
    """The completion that `completion_json(…, tokens=True)` wrote down."""
    return Completion(
        member=data["member"],
        text=data["text"],
        finish=data["finish"],
        usage=Usage(**data["usage"]),
        usd=data["usd"] or 0.0,
        seconds=data["seconds"] or 0.0,
        weight=1.0 if data["weight"] is None else data["weight"],
        confidence=data["confidence"],
        tokens=tokens_of(data.get("tokens")),
        sample=data["sample"],
        cached=data["cached"],
        extra=data.get("extra", {}),
    )


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """What the method decided."""
    posterior = None
    if verdict.posterior is not None:
        p = verdict.posterior
        posterior = {"classes": list(p.classes), "p": [number(float(x)) for x in p.p], "of": list(p.of)}
    return {
        "chosen": verdict.chosen,
        "weights": None if verdict.weights is None else [number(float(w)) for w in verdict.weights],
        "confidence": number(verdict.confidence),
        "reason": verdict.reason,
        "abstained": verdict.abstained,
        "posterior": posterior,
    }


def piece_json(piece: Piece) -> dict[str, Any]:
    """A streamed piece with each member's share."""
    support = {name: round(float(share), 6) for name, share in piece.support.items()}
    return {"text": piece.text, "support": support, "logp": number(piece.logp)}


def answer_json(answer: Answer) -> dict[str, Any]:
    """The answer as `--json` prints it."""
    return {
        "text": answer.text,
        "ensemble": answer.ensemble,
        "verdict": verdict_json(answer.verdict),
        "candidates": [completion_json(c) for c in answer.candidates],
        "pieces": [piece_json(p) for p in answer.pieces],
        "finish": answer.finish,
        "usage": usage_json(answer.usage),
        "usd": answer.usd,
        "seconds": round(answer.seconds, 6),
        "trace_id": answer.trace_id,
    }


def answer_of(data: Mapping[str, Any]) -> Answer:
    """An answer from its JSON: what a resumed `ask_many` gives back."""
    v = data["verdict"]
    weights = v["weights"]
    return Answer(
        text=data["text"],
        verdict=Verdict(
            chosen=v["chosen"],
            weights=None if weights is None else np.array([math.nan if w is None else w for w in weights]),
            confidence=v["confidence"],
            reason=v["reason"],
            abstained=v["abstained"],
        ),
        candidates=tuple(completion_of(c) for c in data["candidates"]),
        pieces=tuple(
            Piece(p["text"], p["support"], math.nan if p["logp"] is None else p["logp"])
            for p in data["pieces"]
        ),
        finish=data["finish"],
        usage=Usage(**data["usage"]),
        usd=data["usd"],
        seconds=data["seconds"],
        trace_id=data["trace_id"],
        ensemble=data["ensemble"],
    )
