"""OpenAI's wire format in both directions: what a call asks for, and what its reply says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from septet.backends._openai_errors import Source
from septet.backends._openai_flavours import Flavour
from septet.backends._openai_tokens import Entry, entries_of, spelling
from septet.core.errors import BackendError
from septet.core.money import Usage
from septet.core.types import Completion, Finish, Message, Tokens

OWN_FIELDS = frozenset(
    (
        *("model", "messages", "prompt", "n", "best_of", "stop", "seed", "temperature", "top_p"),
        *("max_tokens", "max_completion_tokens", "stream", "stream_options", "logprobs", "top_logprobs"),
        *("echo", "prompt_logprobs", "continue_final_message", "add_generation_prompt"),
        "include_stop_str_in_output",
    )
)
"""Fields that this backend writes itself; a query's `extra` may not."""

CHAT_ONLY = frozenset(("tools", "tool_choice", "parallel_tool_calls"))
"""Fields that only the chat endpoint knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an answer is drawn, with nothing left open except the seed (None: the server's own)."""

    max_tokens: int
    temperature: float
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def fields(self, limit: str, sample: int = 0) -> dict[str, Any]:
        """The body's fields; sample j has a seed of its own. `limit` is the name of the token limit."""
        found: dict[str, Any] = {
            limit: self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }
        if self.stop:
            found["stop"] = list(self.stop)
        if self.seed is not None:
            found["seed"] = self.seed + sample
        return found


@dataclass(frozen=True, slots=True)
class Call:
    """A path below base_url and the fields that say what is continued: messages or a prompt."""

    path: str
    body: Mapping[str, Any]

    @property
    def chat(self) -> bool:
        """Whether this is the chat endpoint."""
        return self.path == "/chat/completions"

    def asking(self, k: int) -> dict[str, Any]:
        """The fields that ask for log-probabilities with k alternatives; none for 0."""
        if not k:
            return {}
        return {"logprobs": True, "top_logprobs": k} if self.chat else {"logprobs": k}


def chat_call(messages: Sequence[Message], prefix: str = "") -> Call:
    """The chat endpoint; with a prefix, an assistant turn that is to be continued."""
    turns = [{"role": m.role, "content": m.content, **m.extra} for m in messages]
    if not prefix:
        return Call("/chat/completions", {"messages": turns})
    turns.append({"role": "assistant", "content": prefix})
    unfinished = {"continue_final_message": True, "add_generation_prompt": False}
    return Call("/chat/completions", {"messages": turns, **unfinished})


def text_call(prompt: str | Sequence[int | str]) -> Call:
    """The completions endpoint; a prompt may hold token ids where the server takes them."""
    return Call("/completions", {"prompt": prompt if isinstance(prompt, str) else list(prompt)})


def extras(extra: Mapping[str, Any], call: Call) -> Mapping[str, Any]:
    """A query's extra fields, as they go to the server; those that this backend or this endpoint has no
    place for are refused."""
    own = sorted(set(extra) & OWN_FIELDS)
    if own:
        raise BackendError(f"the query's extra fields may not set {', '.join(own)}", status=400)
    chat_only = sorted(set(extra) & CHAT_ONLY)
    if chat_only and not call.chat:
        raise BackendError(f"a plain text prompt cannot carry {', '.join(chat_only)}", status=400)
    return extra


@dataclass
class Reading:
    """One choice as it is read, whole or piece by piece."""

    text: str = ""
    finish: str | None = None
    stopped_by: str = ""
    entries: list[Entry] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, choice: Mapping[str, Any], flavour: Flavour) -> str:
        """Takes in a choice or a piece of one; returns the new text."""
        said = choice.get("message") or choice.get("delta") or {}
        said = said if isinstance(said, Mapping) else {}
        new = well_formed(said.get("content") or choice.get("text") or "")
        self.text += new
        self._add_rest(said)
        more = entries_of(choice.get("logprobs"), flavour)
        if more is not None:
            self.entries = [*(self.entries or ()), *more]
        if choice.get("finish_reason") is not None:
            self.finish = str(choice["finish_reason"])
        if isinstance(choice.get("stop_reason"), str):
            self.stopped_by = choice["stop_reason"]
        return new

    def _add_rest(self, said: Mapping[str, Any]) -> None:
        for name, kept in (
            ("reasoning_content", "reasoning"),
            ("reasoning", "reasoning"),
            ("refusal", "refusal"),
        ):
            if isinstance(said.get(name), str) and said[name]:
                self.extra[kept] = self.extra.get(kept, "") + well_formed(said[name])
        calls = said.get("tool_calls")
        if isinstance(calls, list):
            _join_calls(self.extra.setdefault("tool_calls", []), calls)

    def ended_by(self, until: Sequence[str]) -> None:
        """Where the server names the stop string and it is one of these, it belongs to the text."""
        if self.stopped_by in until:
            self.text += self.stopped_by
            self.finish = "until"

    def cut(self, until: Sequence[str]) -> bool:
        """Ends the text after the first of these strings that is complete, if one is."""
        ends = [self.text.find(u) + len(u) for u in until if u in self.text]
        if ends:
            self.text, self.finish = self.text[: min(ends)], "until"
        return bool(ends)

    def tokens(self, *, top: bool = True) -> Tokens | None:
        """The tokens that spell the text; None where the server gave no log-probabilities."""
        if self.entries is None:
            return None
        return spelling(self.text.encode(), self.entries, top=top)

    def completion(
        self, member: str, sample: int, usage: Usage, source: Source, *, asked: bool
    ) -> Completion:
        """The completion. `asked`: log-probabilities were asked for, so a reply without them is an error."""
        tokens = self.tokens() if asked else None
        if asked and tokens is None:
            if self.text:
                raise source.wrong("gave no log-probabilities, although they were asked for")
            tokens = spelling(b"", ())
        finish = finish_of(self, source)
        extra = {**self.extra, **({"notes": self.notes} if self.notes else {})}
        if "tool_calls" in extra:
            extra["tool_calls"] = [{k: v for k, v in c.items() if k != "index"} for c in extra["tool_calls"]]
        return Completion(
            member=member,
            text=self.text,
            finish=finish,
            usage=usage,
            tokens=tokens,
            sample=sample,
            extra=extra,
        )


_FINISHES: Mapping[str, Finish] = {
    "stop": "stop",
    "until": "until",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


def finish_of(reading: Reading, source: Source) -> Finish:
    """The server's finish reason as ours; one that we do not know counts as "stop" and is noted."""
    reason = reading.finish
    if reason in ("error", "abort"):
        raise source.wrong(f"ended the answer with {reason!r}", retryable=True)
    known = _FINISHES.get(reason or "")
    if known is None:
        reading.notes.append(f"finish reason {reason!r} of the server")
        return "tool_calls" if reading.extra.get("tool_calls") else "stop"
    return known


def choices_of(reply: Mapping[str, Any], source: Source) -> list[Mapping[str, Any]]:
    """The choices of a reply, in the order of their index; none is an error."""
    choices = reply.get("choices")
    if not isinstance(choices, list) or not all(isinstance(c, Mapping) for c in choices):
        raise source.wrong(f"sent no list of choices but {str(choices)[:80]!r}")
    if not choices:
        raise source.wrong("answered without any choice", retryable=True)
    for choice in choices:
        if not isinstance(choice.get("message") or choice.get("text", ""), Mapping | str):
            raise source.wrong("sent a choice without a message or a text")
        if "message" not in choice and "text" not in choice:
            raise source.wrong("sent a choice without a message or a text")
    return sorted(choices, key=lambda c: c.get("index") if isinstance(c.get("index"), int) else 0)


def usage_of(reply: Mapping[str, Any]) -> Usage | None:
    """The usage that a reply states; None where it states none."""
    stated = reply.get("usage")
    if not isinstance(stated, Mapping):
        return _usage_of_timings(reply.get("timings"))
    details = stated.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0
    prompt, own = _count(stated.get("prompt_tokens")), _count(stated.get("completion_tokens"))
    return Usage(prompt, own, cached, max(prompt - cached, 0) + own) if prompt or own else None


def _usage_of_timings(timings: Any) -> Usage | None:
    """The usage in llama-server's `timings`, which every event of its streams may carry."""
    if not isinstance(timings, Mapping) or "prompt_n" not in timings:
        return None
    cached, fed, own = (_count(timings.get(name)) for name in ("cache_n", "prompt_n", "predicted_n"))
    return Usage(cached + fed, own, cached, fed + own)


def shared_usage(stated: Usage | None, readings: Sequence[Reading]) -> list[Usage]:
    """The usage of each choice: the first carries the prompt; the answers' tokens are shared by their
    listed tokens where there are some, else evenly. What the server did not state is counted and noted."""
    listed = [len(r.entries or ()) for r in readings]
    if stated is None:
        for reading in readings:
            reading.notes.append("the server stated no usage; only listed tokens are counted")
        return [Usage(completion_tokens=n, fed_tokens=n) for n in listed]
    weights = listed if all(listed) else [1] * len(readings)
    own = _shares(stated.completion_tokens, weights)
    first = replace(stated, completion_tokens=0, fed_tokens=stated.fed_tokens - stated.completion_tokens)
    return [(first if i == 0 else Usage()) + Usage(0, n, 0, n) for i, n in enumerate(own)]


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """A total in whole numbers by weight; the sum is the total."""
    marks = [total * sum(weights[:i]) // sum(weights) for i in range(len(weights) + 1)]
    return [b - a for a, b in pairwise(marks)]


def _count(value: Any) -> int:
    """A count of tokens; 0 for anything that is none."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53
    return int(value) if known else 0


def _join_calls(known: list[dict[str, Any]], pieces: Sequence[Any]) -> None:
    """Tool calls, whole or in pieces: pieces of one index belong together, and their arguments are joined."""
    for piece in pieces:
        if not isinstance(piece, Mapping):
            continue
        index = piece.get("index", len(known))
        at = next((c for c in known if c["index"] == index), None)
        stated = piece.get("function")
        function: Mapping[str, Any] = stated if isinstance(stated, Mapping) else {}
        if at is None:
            at = {"index": index, "id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            known.append(at)
        at["id"] = piece.get("id") or at["id"]
        at["function"]["name"] = function.get("name") or at["function"]["name"]
        at["function"]["arguments"] += function.get("arguments") or ""


def well_formed(text: Any) -> str:
    """A text without lone surrogates, which JSON can hold and UTF-8 cannot."""
    return str(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
