"""Answers in OpenAI's shape: whole, and as the chunks of a stream. `usage` is the sum over all member calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from septet.core.money import Usage
from septet.core.types import Answer, Tokens
from septet.engine.wire import number
from septet.server.asking import Ledger, Spent

FINISH = {"length": "length", "tool_calls": "tool_calls"}
"""Our word for how an answer ended → OpenAI's; all others are "stop"."""

UNKNOWN_LOGP = -9999.0
"""What servers write where JSON has no minus infinity."""

Json = dict[str, Any]


class Form(Protocol):
    """How one kind of endpoint writes a choice."""

    prefix: str
    whole: str
    chunk: str
    opens: bool

    def choice(self, answer: Answer, top: int | None) -> Json:
        """The content of one complete answer."""

    def delta(self, text: str | None, *, role: bool = False) -> Json:
        """The content of one chunk."""

    def last(self, answer: Answer, top: int | None) -> Json:
        """The content of the chunk that ends an answer: what the pieces did not carry."""


class Chat:
    """`chat.completion`: a message, or deltas that begin with the role."""

    prefix, whole, chunk, opens = "chatcmpl", "chat.completion", "chat.completion.chunk", True

    def choice(self, answer: Answer, top: int | None) -> Json:
        calls = answer.extra.get("tool_calls")
        message: Json = {
            "role": "assistant",
            "content": answer.text or (None if calls else ""),
            "refusal": None,
        }
        if calls:
            message["tool_calls"] = calls
        return {"message": message, "logprobs": self._logprobs(answer, top)}

    def delta(self, text: str | None, *, role: bool = False) -> Json:
        delta: Json = {"role": "assistant"} if role else {}
        if text is not None:
            delta["content"] = text
        return {"delta": delta, "logprobs": None}

    def last(self, answer: Answer, top: int | None) -> Json:
        calls = answer.extra.get("tool_calls")
        delta = {"tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]} if calls else {}
        return {"delta": delta, "logprobs": self._logprobs(answer, top)}

    def _logprobs(self, answer: Answer, top: int | None) -> Json | None:
        tokens = _shown(answer, top)
        if tokens is None:
            return None
        rows = tokens.top or ((),) * len(tokens)
        content = [
            {**_token(t, lp), "top_logprobs": [_token(*pair) for pair in row[:top]]}
            for t, lp, row in zip(tokens.texts, tokens.logp.tolist(), rows, strict=True)
        ]
        return {"content": content, "refusal": None}


class Text:
    """`text_completion`: plain text; its chunks look like whole answers."""

    prefix, whole, chunk, opens = "cmpl", "text_completion", "text_completion", False

    def choice(self, answer: Answer, top: int | None) -> Json:
        return {"text": answer.text, "logprobs": self._logprobs(answer, top)}

    def delta(self, text: str | None, *, role: bool = False) -> Json:
        return {"text": text or "", "logprobs": None}

    def last(self, answer: Answer, top: int | None) -> Json:
        return {"text": "", "logprobs": self._logprobs(answer, top)}

    def _logprobs(self, answer: Answer, top: int | None) -> Json | None:
        tokens = _shown(answer, top)
        if tokens is None:
            return None
        texts = [_text(t) for t in tokens.texts]
        rows = tokens.top or ((),) * len(tokens)
        return {
            "tokens": texts,
            "token_logprobs": [_logp(lp) for lp in tokens.logp.tolist()],
            "top_logprobs": [{_text(t): _logp(lp) for t, lp in row[:top]} for row in rows],
            "text_offset": list(accumulate(map(len, texts), initial=0))[:-1],
        }


@dataclass(frozen=True)
class Reply:
    """Writes the answers of one HTTP request. `created`: seconds since 1970."""

    form: Form
    id: str
    created: int
    model: str
    top: int | None
    include_usage: bool

    def whole(self, answers: Sequence[Answer], ledgers: Sequence[Ledger]) -> Json:
        """The body of an answer that is not streamed."""
        choices = [
            {"index": i, **self.form.choice(a, self.top), **self._ending(a)} for i, a in enumerate(answers)
        ]
        return {
            **self._head(self.form.whole),
            "choices": choices,
            "usage": usage_json(answers),
            "septet": house_json(answers, ledgers),
        }

    def opening(self, index: int) -> Json | None:
        """The chunk that says who speaks, where the form has one."""
        return self._chunk(index, self.form.delta("", role=True)) if self.form.opens else None

    def piece(self, index: int, text: str) -> Json:
        """A chunk of text."""
        return self._chunk(index, self.form.delta(text))

    def ending(self, index: int, answer: Answer) -> Json:
        """The chunk that says how one answer ended."""
        return self._chunk(index, {**self.form.last(answer, self.top), **self._ending(answer)})

    def closing(self, answers: Sequence[Answer], ledgers: Sequence[Ledger]) -> Json | None:
        """The last chunk, where usage was asked for: no choices, all usage."""
        if not self.include_usage:
            return None
        usage = {"usage": usage_json(answers), "septet": house_json(answers, ledgers)}
        return {**self._head(self.form.chunk), "choices": [], **usage}

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, index: int, content: Json) -> Json:
        choice = {"index": index, "finish_reason": None, **content}
        usage = {"usage": None} if self.include_usage else {}
        return {**self._head(self.form.chunk), "choices": [choice], **usage}

    def _ending(self, answer: Answer) -> Json:
        return {"finish_reason": FINISH.get(answer.finish, "stop"), "septet": answer_json(answer)}


def usage_json(answers: Sequence[Answer]) -> Json:
    """OpenAI's usage: the sum over all calls of all members, each in its own tokens."""
    used = sum((a.usage for a in answers), Usage())
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens},
    }


def answer_json(answer: Answer) -> Json:
    """What the house knows about one answer."""
    return {
        "trace_id": answer.trace_id,
        "reason": answer.verdict.reason,
        "confidence": number(answer.verdict.confidence),
        "usd": answer.usd,
        "seconds": round(answer.seconds, 6),
    }


def house_json(answers: Sequence[Answer], ledgers: Sequence[Ledger]) -> Json:
    """What all answers took together, and each member's part in it; trace id and reason are the first's."""
    members: dict[str, Spent] = {}
    for ledger in ledgers:
        for name, spent in ledger.members.items():
            members[name] = members.get(name, Spent()) + spent
    return {
        "ensemble": answers[0].ensemble,
        **answer_json(answers[0]),
        "usd": sum(a.usd for a in answers),
        "seconds": round(max(a.seconds for a in answers), 6),
        "members": {name: _spent_json(spent) for name, spent in members.items()},
    }


def _spent_json(spent: Spent) -> Mapping[str, float]:
    return {
        "calls": spent.calls,
        "prompt_tokens": spent.usage.prompt_tokens,
        "completion_tokens": spent.usage.completion_tokens,
        "usd": spent.usd,
    }


def _shown(answer: Answer, top: int | None) -> Tokens | None:
    """The tokens of the text that was sent: what a stop string cut off is left out."""
    if top is None or answer.tokens is None:
        return None
    tokens, length, start, kept = answer.tokens, len(answer.text.encode("utf-8", "replace")), 0, 0
    for text in tokens.texts:
        if start >= length:
            break
        start, kept = start + len(text), kept + 1
    return Tokens(tokens.texts[:kept], tokens.logp[:kept], tokens.top[:kept] if tokens.top else None)


def _token(piece: bytes, logp: float) -> Json:
    return {"token": _text(piece), "logprob": _logp(logp), "bytes": list(piece)}


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _logp(logp: float) -> float:
    return logp if math.isfinite(logp) else UNKNOWN_LOGP
