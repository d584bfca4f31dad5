"""Candidates as long as their writer is certain: its own words, and where it hesitates other beginnings, too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from septet.core.method import Ask, Asking, Seat
from septet.core.session import END, Draft, Next, Sampler
from septet.core.types import Tokens
from septet.methods.b2_span._together import Candidate, Together, merged, spelling
from septet.parts.decoding.spans import margin, starts_word, whole_characters, word_ends

FIRST_TOKENS = 8
"""Tokens that a member writes at first: enough for most spans of three words."""

NOTHING = Draft(b"", Tokens((), np.zeros(0)), False)

Drafts = Mapping[int, Draft]
"""Member → what it has written beyond the shared text, its own greedy continuation, kept for the next span."""


@dataclass(frozen=True, slots=True)
class Adaptive:
    """A span has up to `words` words. Each is begun with p(1) − p(2) ≥ `certain`; where that is less, the word
    is written with each of the `branches` best first tokens, and the span ends with it. A span has at most
    `max_tokens` tokens."""

    words: int
    certain: float
    branches: int
    max_tokens: int


def adaptive(together: Together, how: Adaptive, drafts: Drafts) -> Asking[tuple[list[Candidate], Drafts]]:
    """Every member's candidates, and its draft as far as it is written by now."""
    longest = min(how.max_tokens, together.left)
    firsts = yield from together.each({i: seat.next(max(2, how.branches)) for i, seat in together.everyone()})
    paths = {
        i: _Path(together.sessions[i], how, longest, [first], *_cut_to(drafts.get(i, NOTHING), longest))
        for i, first in firsts.items()
    }
    while asks := {i: ask for i, path in paths.items() if (ask := path.ask()) is not None}:
        values = yield from together.each(asks)
        for i in asks:
            if i not in values:
                del paths[i]
            elif asks[i].do == "write":
                paths[i].took(values[i], asks[i].args["max_tokens"])
            else:
                paths[i].looked(values[i])
    branches = [branch for i, path in paths.items() for branch in path.branches(i)]
    while growing := [branch for branch in branches if not branch.done]:
        looks = yield from together.all_of([(b.member, b.ask()) for b in growing])
        for branch, nexts in zip(growing, looks, strict=True):
            branch.grew(None if nexts is None else nexts[-1])
    paths = {i: path for i, path in paths.items() if i in together.sessions}
    found = [path.straight(i) for i, path in paths.items()]
    found += [branch.candidate() for branch in branches if branch.member in together.sessions]
    written = {i: path.draft for i, path in paths.items()}
    return [_spelled_by_all(c, written) for c in merged([c for c in found if c is not None])], written


def after(drafts: Drafts, chosen: Candidate) -> Drafts:
    """What is left of the drafts behind a committed span: of those that begin with it, token by token."""
    left = {}
    for i, draft in drafts.items():
        own = spelling(draft, chosen.text)
        if own and chosen.spelled.get(i) == own:
            tokens = Tokens(draft.tokens.texts[len(own) :], draft.tokens.logp[len(own) :])
            left[i] = Draft(draft.text[len(chosen.text) :], tokens, draft.ended)
    return left


@dataclass(slots=True)
class _Branch:
    """One beginning of the word at which a member hesitates: the tokens before the word, and the word's."""

    member: int
    seat: Seat
    before: tuple[bytes, ...]
    pieces: tuple[bytes, ...]
    longest: int
    ended: bool = False
    done: bool = False

    def ask(self) -> Ask:
        """What comes next."""
        return self.seat.look([*self.before, *self.pieces], 1)

    def grew(self, following: Next | None) -> None:
        """One token more, or the end of the word; None: the member has failed."""
        best = None if following is None else _pieces(self.seat, following, 1)[0]
        self.ended = best == END
        full = len(self.before) + len(self.pieces) >= self.longest
        self.done = best is None or full or starts_word(best, b"".join(self.pieces))
        if best is not None and not self.done:
            self.pieces += (best,)

    def candidate(self) -> Candidate:
        """The words before and this one."""
        own = (*self.before, *self.pieces)
        text = b"".join(own) if self.ended else whole_characters(b"".join(own))
        spelled = {self.member: own} if own and text == b"".join(own) else {}
        return Candidate(text, self.ended, (self.member,), len(own), spelled)


@dataclass(slots=True)
class _Path:
    """One member's way through its own next words; `starts[j]` is what it thinks where word j begins.

    `asked`: how many tokens the draft was to have; what has fewer does not get longer.
    """

    seat: Seat
    how: Adaptive
    longest: int
    starts: list[Next]
    draft: Draft
    asked: int

    def took(self, draft: Draft, asked: int) -> None:
        """A longer draft."""
        self.draft, self.asked = draft, asked

    def looked(self, nexts: Sequence[Next]) -> None:
        """The distributions along the words that were shown."""
        ends = np.cumsum([0, *map(len, self._shown())])
        places = {0, *np.cumsum([len(word) for word in self._words()]).tolist()}
        self.starts = [following for end, following in zip(ends, nexts, strict=True) if int(end) in places]

    @property
    def exhausted(self) -> bool:
        """Whether the draft does not get longer: it ended, or is as long as may be, or the context is full."""
        return self.draft.ended or bool(
            self.asked and (self.asked >= self.longest or _n_tokens(self.draft) < self.asked)
        )

    @property
    def n_certain(self) -> int:
        """How many words were begun for certain before the first that was not."""
        unsure = (j for j, start in enumerate(self.starts) if margin(start) < self.how.certain)
        return next(unsure, len(self.starts))

    def ask(self) -> Ask | None:
        """What it has to know next; None: it knows its span, or where it hesitates."""
        n_words, n_known = len(self._words()), len(self.starts)
        if self.n_certain < n_known:
            return None
        if n_words < n_known and not self.exhausted:
            n_tokens = min(self.longest, max(FIRST_TOKENS, 2 * _n_tokens(self.draft)))
            return self.seat.write((), n_tokens, Sampler())
        if n_known == self.how.words or n_words <= n_known - (not self.exhausted):
            return None
        return self.seat.look(self._shown(), max(2, self.how.branches))

    def _words(self) -> list[bytes]:
        """The complete words of the draft; where it does not get longer its rest is one."""
        ends = [0, *word_ends(self.draft)]
        found = [self.draft.text[a:b] for a, b in pairwise(ends)]
        rest = self.draft.text[ends[-1] :]
        if self.exhausted and rest:
            found.append(rest if self.draft.ended else whole_characters(rest))
        return found

    def _shown(self) -> tuple[bytes, ...]:
        """The words behind which another may begin, as the member's own tokens."""
        words = self._words()
        return self._spelled(words[: min(len(words) - self.exhausted, self.how.words - 1)])

    def _spelled(self, words: Sequence[bytes]) -> tuple[bytes, ...]:
        return spelling(self.draft, b"".join(words)) or tuple(words)

    def straight(self, member: int) -> Candidate | None:
        """The candidate of a member that was certain to the end."""
        if self.n_certain < len(self.starts):
            return None
        return self._of(member, self._words()[: self.n_certain])

    def _of(self, member: int, words: Sequence[bytes]) -> Candidate:
        text = b"".join(words)
        own = spelling(self.draft, text)
        ended = self.draft.ended and text == self.draft.text
        return Candidate(text, ended, (member,), len(own) or len(words), {member: own} if own else {})

    def branches(self, member: int) -> Iterable[_Branch]:
        """The beginnings of the word at which it hesitates, the best first; what the draft holds is not
        written again."""
        n, words = self.n_certain, self._words()
        if n == len(self.starts):
            return
        before = self._spelled(words[:n])
        for piece in _pieces(self.seat, self.starts[n], self.how.branches):
            branch = _Branch(member, self.seat, before, (piece,), self.longest)
            if piece == END:
                branch.pieces, branch.ended, branch.done = (), True, True
            elif n < len(words) and (own := self._spelled(words[: n + 1])[len(before) :])[:1] == (piece,):
                whole = self._of(member, words[: n + 1])
                branch.pieces, branch.ended, branch.done = own, whole.ended, True
            yield branch


def _pieces(seat: Seat, following: Next, n: int) -> list[bytes]:
    """The n most probable next tokens as bytes; impossible ones are left out, the best is always there."""
    vocab = seat.vocab
    assert vocab is not None  # an open session has one
    best = [int(i) for i, logp in zip(following.ids[:n], following.logp[:n], strict=True) if logp > -np.inf]
    return [vocab.bytes_of(i) for i in best or [int(following.ids[0])]]


def _n_tokens(draft: Draft) -> int:
    return sum(1 for piece in draft.tokens.texts if piece)


def _cut_to(draft: Draft, longest: int) -> tuple[Draft, int]:
    """A kept draft and how long it was to be; one that is longer than may be is cut."""
    n_tokens = _n_tokens(draft)
    if n_tokens <= longest:
        return draft, longest if n_tokens == longest else 0
    tokens = Tokens(draft.tokens.texts[:longest], draft.tokens.logp[:longest])
    return Draft(b"".join(tokens.texts), tokens, False), longest


def _spelled_by_all(candidate: Candidate, drafts: Drafts) -> Candidate:
    """With the tokens of every member whose own draft begins with the candidate: it keeps to its path."""
    own = {i: spelling(draft, candidate.text) for i, draft in drafts.items()}
    return candidate._replace(
        spelled={**{i: pieces for i, pieces in own.items() if pieces}, **candidate.spelled}
    )
