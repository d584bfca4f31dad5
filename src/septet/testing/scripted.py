"""Driving a method without a model: scripted replies for plans, and views made of a few strings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from septet.core.caps import Caps
from septet.core.errors import SeptetError
from septet.core.method import Ask, Asking, Emit, Reply, Seat
from septet.core.session import Next, View
from septet.core.types import Completion
from septet.parts.decoding.vocabulary import PackedVocab

T = TypeVar("T")

Answers = Callable[[Ask], Any]
"""What an ask is answered with: a value, or an exception for a failed call."""


def seat(name: str, **caps: Any) -> Seat:
    """A seat of a plan's pool; without caps it offers text and samples."""
    return Seat(name, Caps(**caps) if caps else Caps(text=True, samples=True))


def drive(plan: Asking[T], answers: Answers | Mapping[str, Any]) -> tuple[T, list[list[Ask | Emit]]]:
    """Runs a plan with scripted replies; returns its value and the lists that it yielded.

    `answers`: a function of the ask, or for plans that only ask for completions a mapping from member to
    its text or texts.

    >>> from septet.core.types import Query
    >>> def both(pool):
    ...     replies = yield [m.complete(Query.of("?")) for m in pool]
    ...     return [r.value[0].text for r in replies]
    >>> drive(both([seat("a"), seat("b")]), {"a": "yes", "b": "no"})[0]
    ['yes', 'no']
    """
    script = answers if callable(answers) else texts(answers)
    yielded: list[list[Ask | Emit]] = []
    replies: list[Reply] | None = None
    while True:
        try:
            items = plan.send(replies)  # type: ignore[arg-type]
        except StopIteration as stop:
            return stop.value, yielded
        yielded.append(list(items))
        replies = [_reply(script(item)) for item in items if isinstance(item, Ask)]


def texts(answers: Mapping[str, Any]) -> Answers:
    """Completions by member: a text, a list of texts (one per sample), a Completion, or a SeptetError."""

    def answer(ask: Ask) -> Any:
        said = answers[ask.to.name]
        if isinstance(said, SeptetError):
            return said
        found = [said] if isinstance(said, str | Completion) else list(said)
        n = ask.args.get("n", 1)
        return [
            t if isinstance(t, Completion) else Completion(member=ask.to.name, text=t, sample=i)
            for i, t in enumerate((found * n)[:n])
        ]

    return answer


def _reply(value: Any) -> Reply:
    return Reply(error=value) if isinstance(value, SeptetError) else Reply(value)


def vocabulary(pieces: Sequence[bytes]) -> PackedVocab:
    """A vocabulary of these strings, read greedily from the left, longest first; id 0 is END."""

    def tokenise(text: bytes) -> list[int]:
        ids = []
        while text:
            length = max(len(p) for p in pieces if p and text.startswith(p))
            ids.append(1 + list(pieces).index(text[:length]))
            text = text[length:]
        return ids

    return PackedVocab.of([b"", *pieces], end_ids=[0], tokenise=tokenise)


def view(p: Mapping[bytes, float], name: str = "member", extra: Sequence[bytes] = ()) -> View:
    """A member's view of these next-token probabilities (b"" is END). `extra`: strings that its vocabulary
    has with probability zero. What it has no token for is −inf, or with `first` its first sub-token's."""
    known = [piece for piece in (*p, *extra) if piece]
    vocab = vocabulary([*known, *(bytes([b]) for b in range(256) if bytes([b]) not in known)])
    logp = {piece: float(np.log(value)) if value > 0 else -np.inf for piece, value in p.items()}

    def lookup(piece: bytes, first: bool) -> float | None:
        if first and piece and piece not in logp:
            piece = vocab.bytes_of(vocab.first_id(piece))
        return logp.get(piece, -np.inf)

    order = sorted(logp, key=lambda piece: (-logp[piece], piece))
    ids = np.array([vocab.ids_of(piece)[0] for piece in order], dtype=np.int32)
    following = Next(0, ids, np.array([logp[piece] for piece in order], dtype=np.float32), lookup)
    nobody: Any = object()  # a seat at a session: its asks are looked at, never made
    return View(following, vocab, Seat(name, Caps(text=True), vocab=vocab, session=nobody))
