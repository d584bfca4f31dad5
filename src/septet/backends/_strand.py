"""One answer on one sequence of a loaded model: feed, look, commit, cut back.

Blocking, on the worker thread. Only `push` and `append` never call the model, so a push may be made elsewhere
while the worker does nothing with the strand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from septet.backends._runtime import Begun, Logits, Runtime
from septet.core.errors import BackendError
from septet.core.money import Usage
from septet.core.session import END, Ids, Meter, Next
from septet.core.types import Floats, Tokens
from septet.parts.decoding.commit import Commit, Rule, commit, exactly
from septet.parts.decoding.topk import Row, log_normaliser, read_row
from septet.parts.decoding.vocabulary import PackedVocab, Unspellable

PROMPT_CHUNK = 512
"""Prompt tokens per hop to the worker: others get their turn between. Equal chunks give equal logits."""

KEPT_ROWS = 16
"""Distributions of looked-at or written tokens that are kept in case the same tokens follow: 1 MB each at 262,144."""

SCORED_CHUNK = 64
"""Tokens per hop where every row is read: 64 rows of 262,144 entries are 67 MB."""


@dataclass(frozen=True)
class Mark:
    """A place to come back to."""

    ids: tuple[int, ...]
    byte_end: tuple[int, ...]
    text: bytes
    row: Row | None


@dataclass(frozen=True)
class _Guess:
    """A commit that was made before the member's own id at its place was known."""

    piece: bytes
    step: Commit
    n_ids: int  # answer tokens before it
    n_bytes: int  # answer bytes before it


class Strand:
    """A prompt and the answer after it, as tokens in one sequence of the KV cache.

    `ids` are the answer's tokens, `byte_end` where each ends in `text`, the committed bytes; the first
    `fed` of them are in the cache. Invariant: the bytes of `ids` are `text`. `row` is the distribution after
    the last token, None while tokens wait to be fed with the next forward.

    The cache holds the answer tokens `_held`. Those beyond `fed` were taken back, after a look at a draft for
    instance: if they are what follows after all, they need no second forward; else they are cut off before
    the next one. `_rows` are some of the distributions after so many held tokens.
    """

    def __init__(self, runtime: Runtime, name: str, *, reported: bool = True) -> None:
        self.runtime, self.name, self.meter = runtime, name, Meter()
        self.reported = reported  # False: like a server, it tells nothing beyond the top k
        self.seq: int | None = None
        self.n_prompt = self.fed = self._prompt_end = 0
        self._held: list[int] = []
        self._rows: dict[int, Row] = {}
        self._keeping = False
        self._prompt: tuple[int, ...] = ()
        self._hidden_at = -1  # the runtime's hidden state is that after so many answer tokens; −1: of others
        self.ids: list[int] = []
        self.byte_end: list[int] = []
        self.text = b""
        self.row: Row | None = None

    @property
    def vocab(self) -> PackedVocab:
        return self.runtime.vocab

    @property
    def room(self) -> int:
        """How many more tokens the context holds."""
        if not self.runtime.context:
            return 1 << 30
        return self.runtime.context - self.n_prompt - len(self.ids)

    # --- the prompt --------------------------------------------------------------------------------

    def begin(self, ids: Sequence[int], *, anew: bool = False) -> int:
        """Takes a sequence for a prompt, or says that it cannot fit; gives how many of its tokens are there already.
        `anew`: none, since something is wanted of all of them."""
        n_prompt = len(ids)
        if self.runtime.context and n_prompt >= self.runtime.context:
            raise BackendError(
                f"{self.name}: the prompt has {n_prompt} tokens, and a context of {self.runtime.context} "
                "holds prompt and answer",
                status=400,
                hint="ask a shorter question, or give the member a larger context",
            )
        begun = Begun(self.runtime.open()) if anew else self.runtime.begin(ids)
        self.seq, self.row, self._prompt = begun.seq, begun.row, tuple(ids)
        if begun.n:
            self._prompted(ids[: begun.n])
            self.meter.usage += Usage(cached_tokens=begun.n)
        return begun.n

    def prompt(self, ids: Sequence[int], *, last: bool) -> None:
        """Feeds a chunk of the prompt; after the last one the first distribution is known."""
        with self._clock():
            logits = self._feed(ids, "last" if last else "none")
            self.row = self._read(logits[-1]) if last else None
        self._hidden_at = 0 if last else -1
        self._prompted(ids)
        if self.row is not None:
            self.runtime.keep(self._open, self._prompt, self.row)

    def scored_prompt(self, ids: Sequence[int], following: int | None) -> list[float]:
        """Feeds a chunk and gives the log-probability of what follows each of its tokens.

        Nothing is masked here: a chat template's control tokens are part of the prompt.
        """
        targets = [*ids[1:], *([] if following is None else [following])]
        with self._clock():
            logits = self._feed(ids, "all")
            pairs = zip(logits, targets, strict=False)
            logp = [float(row[target]) - log_normaliser(row) for row, target in pairs]
            self.row = self._read(logits[-1]) if following is None else None
        self._hidden_at = 0 if following is None else -1
        self._prompted(ids)
        return logp

    def _prompted(self, ids: Sequence[int]) -> None:
        self.n_prompt += len(ids)
        self._prompt_end = ids[-1]
        self.meter.usage += Usage(prompt_tokens=len(ids))

    # --- distributions -----------------------------------------------------------------------------

    def head(self) -> Row:
        """The distribution after everything committed; waiting tokens are fed now."""
        if self.row is None:
            self._reuse()
            whole = self.fed == len(self.ids)
            self.row = self._rows.get(self.fed) if whole else None
            if self.row is None:
                if whole:  # it is in the cache, but its distribution was let go
                    self._cut(len(self.ids) - 1)
                with self._clock():
                    self.row = self._read(self._flush("last")[-1])
        if self._keeping:
            self._keep(len(self.ids), self.row)
        return self.row

    def _keep(self, n: int, row: Row) -> None:
        self._rows.pop(n, None)
        self._rows[n] = row
        if len(self._rows) > KEPT_ROWS:
            del self._rows[next(iter(self._rows))]

    def _reuse(self, *, with_rows: bool = False) -> None:
        """Counts as fed what the cache still holds of the waiting tokens; `with_rows`: only while the
        distributions after them are known too."""
        most = min(len(self.ids), len(self._held))
        while self.fed < most and self._held[self.fed] == self.ids[self.fed]:
            if with_rows and self.fed + 1 not in self._rows:
                return
            self.fed += 1

    def next(self, k: int | None, agreeing: bytes = b"", hidden: bool = False) -> Next:
        """What `Session.next` gives."""
        if hidden:
            self.runtime.show_hidden(self._open)
        following = self._next_of(self.head(), len(self.text), k, agreeing)
        return replace(following, hidden=self.hidden()) if hidden else following

    def hidden(self) -> Floats:
        """(d,) at the last committed position, which is fed anew where others were fed after it, or where
        the model did not keep it."""
        self.runtime.show_hidden(self._open)
        self.head()
        found = self.runtime.hidden(self._open) if self._hidden_at == len(self.ids) else None
        return self._hidden_again() if found is None else found

    def _hidden_again(self) -> Floats:
        if self.ids:
            self._cut(len(self.ids) - 1)
            self._trim()  # so that it is not found in the cache
            self.row = None
            self.head()
        else:
            self.runtime.cut(self._open, self.n_prompt - 1)
            self._cached = 0
            with self._clock():
                self.row = self._read(self._feed([self._prompt_end], "last")[-1])
            self._hidden_at = 0
        found = self.runtime.hidden(self._open)
        if found is None:
            raise BackendError(f"{self.name}: the model gave no hidden state after its last token")
        return found

    def _next_of(self, row: Row, at: int, k: int | None, agreeing: bytes = b"") -> Next:
        with self._clock():
            if agreeing:
                kept = self.vocab.agreeing(agreeing)
                some = np.full_like(row.logits, -np.inf)
                some[kept] = row.logits[kept]
                shown = Row(some, row.normaliser)
            else:
                shown = row
            if k is None:
                ids: Ids = np.arange(self.vocab.size, dtype=np.int32)
                return Next(at, ids, shown.full(), self._lookup(row, None), full=True)
            ids = shown.top(k)
            return Next(at, ids, shown.logp(ids), self._lookup(row, None if self.reported else ids))

    def _lookup(self, row: Row, seen: Ids | None) -> Callable[[bytes, bool], float | None]:
        """Reads the kept row; with `seen`, only what the top k showed."""
        vocab = self.vocab
        known = None if seen is None else frozenset(seen.tolist())

        def logp_of(piece: bytes, first: bool) -> float | None:
            if first and piece != END:
                try:
                    piece = vocab.bytes_of(vocab.first_id(piece))
                except Unspellable:
                    return float("-inf")  # a text that it cannot spell has no first token
            ids = vocab.ids_of(piece)
            if known is not None and ids:
                ids = tuple(i for i in ids if i in known)
                return row.logp_of(ids) if ids else None
            return row.logp_of(ids)

        return logp_of

    # --- committing --------------------------------------------------------------------------------

    def push(self, piece: bytes, rule: Rule, token_id: int | None = None) -> None:
        """Commits a piece; its tokens wait for the next forward."""
        if token_id is not None and piece != END:
            self._apply(exactly(self.vocab, self.ids, piece, token_id), piece)
            return
        row = self._known()
        self._apply(self._rule(rule, piece, None if row is None else row.best()), piece)

    def _known(self) -> Row | None:
        """The distribution after everything committed, if it needs no forward."""
        if self.row is None and self._held[self.fed : len(self.ids)] == self.ids[self.fed :]:
            return self._rows.get(len(self.ids))
        return self.row

    def append(self, token_id: int) -> bytes:
        """Commits one of the member's own tokens; gives its bytes."""
        piece = self.vocab.bytes_of(token_id)
        self._apply(Commit(len(self.ids), (token_id,)), piece)
        return piece

    def _rule(self, rule: Rule, piece: bytes, own_id: int | None) -> Commit:
        if piece == END:
            raise BackendError(f"{self.name}: END ends an answer; it cannot be committed to it")
        return commit(rule, self.vocab, self.ids, self.byte_end, self.text, piece, own_id)

    def _apply(self, step: Commit, piece: bytes) -> None:
        start = self.byte_end[step.keep - 1] if step.keep else 0
        text = self.text + piece
        if self.vocab.join(step.append) != text[start:]:
            raise BackendError(f"{self.name}: its tokens for {text[start:]!r} have other bytes")
        self.meter.rollbacks += step.keep < self.fed
        self._cut(step.keep)
        self._count(len(self.ids), step.keep + len(step.append))
        del self.ids[step.keep :], self.byte_end[step.keep :]
        for token_id in step.append:
            start += len(self.vocab.bytes_of(token_id))
            self.ids.append(token_id)
            self.byte_end.append(start)
        self.text, self.row = text, None

    def _count(self, before: int, after: int) -> None:
        """Completion tokens are those of the answer as it stands; what was tried shows in fed_tokens."""
        self.meter.usage += Usage(completion_tokens=after - before)

    # --- trying without committing -----------------------------------------------------------------

    def mark(self) -> Mark:
        """The present place, with everything fed, so that coming back costs no forward. What is read until
        then is kept, as far as it goes."""
        self._keeping = True
        return Mark(tuple(self.ids), tuple(self.byte_end), self.text, self.head())

    def restore(self, mark: Mark) -> None:
        """Back to a place; tokens that a rollback took from the cache wait to be fed again."""
        same = 0
        for here, there in zip(self.ids, mark.ids, strict=False):
            if here != there:
                break
            same += 1
        self._cut(same)
        self._count(len(self.ids), len(mark.ids))
        self.ids, self.byte_end = list(mark.ids), list(mark.byte_end)
        self.text, self.row = mark.text, mark.row
        self._keeping = False

    def look(self, pieces: Sequence[bytes], k: int | None, rule: Rule) -> list[Next]:
        """Distributions now and after each successive push, as pushing one by one would give them.

        The pieces are appended and fed together, each as the token that the member would most likely use;
        where its own ranking then says otherwise (or a piece rolls tokens back), the rest is fed again from
        there. So it is one forward wherever each piece is one token of this member, and none where this
        member has just written or looked at them.
        """
        here = Mark(tuple(self.ids), tuple(self.byte_end), self.text, self.row)
        try:
            rows, places = self._try(pieces, rule)
            here = replace(here, row=rows[0])
            left = pieces[len(rows) - 1 :]
            while left:
                more, further = self._try(left, rule)
                rows, places = [*rows, *more[1:]], [*places, *further[1:]]
                left = left[len(more) - 1 :]
        finally:
            self.restore(here)
        return [self._next_of(row, at, k) for row, at in zip(rows, places, strict=True)]

    def _try(self, pieces: Sequence[bytes], rule: Rule) -> tuple[list[Row], list[int]]:
        """Commits as many of the pieces as one forward can: the rows now and after each, and their places."""
        if self.fed == len(self.ids):
            self.head()
        now, n_ids, at = self.row, len(self.ids), len(self.text)
        guesses = self._guess(pieces, rule)
        self._reuse(with_rows=True)
        base = self.fed
        with self._clock():
            logits = self._flush("all") if len(self.ids) > base else None
        rows, places = [now if now is not None else self._at(logits, base, n_ids)], [at]
        for number, guess in enumerate(guesses):
            known = number == 0 and now is not None
            if not known and not self._holds(guess, rows[-1], rule):
                self._back_to(guess, rows[-1])
                return rows, places
            rows.append(self._at(logits, base, guess.step.keep + len(guess.step.append)))
            places.append(guess.n_bytes + len(guess.piece))
        self.row = rows[-1]
        return rows, places

    def _guess(self, pieces: Sequence[bytes], rule: Rule) -> list[_Guess]:
        """Commits pieces, up to one that rolls tokens back: that has to wait until what it cuts was read.

        The first is committed by the rule where the distribution is known; for the others the member's own
        id is taken to be the piece itself, if it is a token.
        """
        guesses: list[_Guess] = []
        for piece in pieces:
            n_ids, row = len(self.ids), self.row
            if row is not None:
                step = self._rule(rule, piece, row.best())
            else:
                step = self._rule(rule, piece, next(iter(self.vocab.ids_of(piece)), None))
                if step.keep < n_ids:
                    break
            guesses.append(_Guess(piece, step, n_ids, len(self.text)))
            self._apply(step, piece)
        return guesses

    def _at(self, logits: Logits | None, base: int, n: int) -> Row:
        """The row after the first n answer tokens, of which those beyond `base` were just fed; kept for later."""
        if n <= base:
            return self._rows[n]
        if logits is None:
            raise BackendError(f"{self.name}: a distribution was asked for where nothing was fed")
        with self._clock():
            row = self._read(logits[n - base - 1].copy())
        self._keep(n, row)
        return row

    def _holds(self, guess: _Guess, row: Row, rule: Rule) -> bool:
        """Whether the rule, knowing the member's own ranking, would have committed the same."""
        ids, ends = self.ids[: guess.n_ids], self.byte_end[: guess.n_ids]
        text = self.text[: guess.n_bytes]
        return commit(rule, self.vocab, ids, ends, text, guess.piece, row.best()) == guess.step

    def _back_to(self, guess: _Guess, row: Row) -> None:
        """Takes back a guess and all after it."""
        self._cut(guess.n_ids)
        self._count(len(self.ids), guess.n_ids)
        del self.ids[guess.n_ids :], self.byte_end[guess.n_ids :]
        self.text, self.row = self.text[: guess.n_bytes], row

    def after(self, paths: Sequence[Sequence[int]]) -> list[Next]:
        """The full distribution after the prompt and exactly these ids, for each path; nothing is committed.

        A path that begins another one is read off the same forward. The others go from the one that shares
        most with what the cache holds to the one that shares least, so that nothing is fed twice.
        """
        here = Mark(tuple(self.ids), tuple(self.byte_end), self.text, self.row)
        wanted = sorted({tuple(path) for path in paths}, reverse=True)
        found = {here.ids: self._next_of(here.row, len(here.text), None)} if here.row is not None else {}
        wanted = [path for path in wanted if path not in found]
        chains = [p for i, p in enumerate(wanted) if not i or wanted[i - 1][: len(p)] != p]
        chains.sort(key=lambda chain: -_same(chain, self._held))
        try:
            for chain in chains:
                found |= self._along([p for p in wanted if p not in found and chain[: len(p)] == p])
        finally:
            self.ids, self.byte_end = list(here.ids), list(here.byte_end)
            self.text, self.row = here.text, here.row
            self.fed = min(_same(self._held, self.ids), len(self.ids))
        return [found[tuple(path)] for path in paths]

    def _along(self, chain: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Next]:
        """The distributions after paths of which each begins the one before it."""
        if not chain:
            return {}
        longest, shortest = chain[0], len(chain[-1])
        if not shortest:
            return {**self._along(chain[:-1]), (): self._at_start()}
        self.row, self.ids = None, list(longest[: shortest - 1])
        self.fed = _same(self.ids, self._held)
        self._make_room(len(longest) - shortest + 1)
        with self._clock():
            if len(self.ids) > self.fed:
                self._flush("none")
            self.ids = list(longest)
            logits = self._flush("all")
            rows = {p: self._read(logits[len(p) - shortest].copy()) for p in chain}
        return {p: self._next_of(row, len(self.vocab.join(p)), None) for p, row in rows.items()}

    def _at_start(self) -> Next:
        """The distribution after the prompt, whose last token is fed anew."""
        self.ids, self.fed = [], 0
        self.runtime.cut(self._open, self.n_prompt - 1)
        self._cached = 0
        with self._clock():
            row = self._read(self._feed([self._prompt_end], "last")[-1])
        return self._next_of(row, 0, None)

    def score(self, span: bytes) -> Tokens:
        """The tokens of a span after the committed text, as the tokenizer reads it on its own."""
        ids = self.vocab.tokenise(span)
        if not ids:
            return Tokens((), np.zeros(0))
        self._make_room(len(ids) - 1)
        logp = [float(self.head().logp(ids[:1])[0])]
        step = self.runtime.group or SCORED_CHUNK
        try:
            for start in range(0, len(ids) - 1, step):
                part = ids[start : min(start + step, len(ids) - 1)]
                with self._clock():
                    for logits, target in zip(self._feed(part, "all"), ids[start + 1 :], strict=False):
                        logp.append(float(self._read(logits).logp([target])[0]))
        finally:
            self.runtime.cut(self._open, self.n_prompt + self.fed)
            self._cached = self.fed
        return Tokens(tuple(map(self.vocab.bytes_of, ids)), np.array(logp))

    # --- the sequence ------------------------------------------------------------------------------

    def copy_of(self, other: Strand) -> None:
        """Becomes a copy of another strand, which shares its cache; usage counts from here on."""
        self.seq = self.runtime.fork(other._open)
        self._held, self._hidden_at = list(other._held), other._hidden_at
        self.n_prompt, self.fed, self.text, self.row = other.n_prompt, other.fed, other.text, other.row
        self.ids, self.byte_end = list(other.ids), list(other.byte_end)
        self._prompt_end = other._prompt_end

    def close(self) -> None:
        """Gives the sequence back; twice is allowed."""
        if self.seq is not None:
            seq, self.seq = self.seq, None
            self.runtime.close(seq)

    @property
    def _open(self) -> int:
        if self.seq is None:
            raise BackendError(f"{self.name}: the session is closed")
        return self.seq

    def _make_room(self, n: int) -> None:
        """Room for n tokens beyond the answer's, or an error before anything is fed."""
        if n > self.room:
            used = self.n_prompt + len(self.ids)
            raise BackendError(
                f"{self.name}: {used + n} tokens of prompt and answer exceed its context of "
                f"{self.runtime.context}",
                status=400,
                hint="ask for a shorter answer, or give the member a larger context",
            )

    def _flush(self, rows: str) -> Logits:
        """Feeds what waits, in groups that change no logit; (n, V) rows, or (1, V) for "last"."""
        self._make_room(0)
        waiting = self.ids[self.fed :]
        step = self.runtime.group or len(waiting)
        parts = []
        for start in range(0, len(waiting), step):
            part = waiting[start : start + step]
            final = start + step >= len(waiting)
            parts.append(self._feed(part, rows if final or rows == "all" else "none"))
            self._held[self.fed :] = part
            self.fed += len(part)
        self._hidden_at = -1 if rows == "none" else self.fed
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _feed(self, ids: Sequence[int], rows: str) -> Logits:
        self._trim()
        self._hidden_at = -1
        logits = self.runtime.feed(self._open, ids, rows)
        self.meter.forwards += 1
        self.meter.usage += Usage(fed_tokens=len(ids))
        return logits

    def _cut(self, keep: int) -> None:
        """Rolls the answer back to its first `keep` tokens; the cache is told before the next forward."""
        self.fed = min(self.fed, keep)

    def _trim(self) -> None:
        """Cuts off the cache what was taken back."""
        if self._cached > self.fed:
            self.runtime.cut(self._open, self.n_prompt + self.fed)
            self._cached = self.fed

    @property
    def _cached(self) -> int:
        """How many answer tokens the cache holds; to set it says that the others were cut off."""
        return len(self._held)

    @_cached.setter
    def _cached(self, n: int) -> None:
        del self._held[n:]
        self._rows = {count: row for count, row in self._rows.items() if count <= n}

    def _read(self, logits: Logits) -> Row:
        """A distribution from logits, or an error where they are none: not numbers, or no token is possible."""
        try:
            row = read_row(logits, end_ids=self.vocab.end_ids, masked_ids=self.vocab.masked_ids)
        except BackendError as error:
            raise BackendError(f"{self.name}: {error}") from None
        if row.normaliser == float("-inf"):
            raise BackendError(f"{self.name}: the model gives no token any probability")
        return row

    @contextmanager
    def _clock(self) -> Iterator[None]:
        """Adds to the seconds spent in forwards and in reading their rows."""
        began = perf_counter()
        try:
            yield
        finally:
            self.meter.forward_seconds += perf_counter() - began


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two sequences begin with in common."""
    n = 0
    for here, there in zip(one, other, strict=False):
        if here != there:
            break
        n += 1
    return n
