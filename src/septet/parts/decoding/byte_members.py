"""The members of a byte-level ensemble along one answer: what was typed, what has to be asked, what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from septet.core.errors import RunError
from septet.core.method import Asking
from septet.core.session import Sampler, View, Vocab
from septet.core.types import Floats
from septet.parts.decoding.covering_tree import CoveringTree, Path, Symbols, Variant
from septet.parts.decoding.next_bytes import N_SYMBOLS
from septet.parts.decoding.pretokenise import Lattice, lattice_of
from septet.parts.decoding.vocabulary import PackedVocab

FULL: Variant = "full"

NO_TOKENS: Path = ()


@dataclass(frozen=True, eq=False)
class Lattices:
    """What each member's byte distributions are made with, by place in the pool; kept on disk."""

    names: tuple[str, ...]
    of: tuple[Lattice, ...]


@dataclass(frozen=True, eq=False)
class Typed:
    """The request so far: each member's tree after `text` (None: not begun, or the member is gone), rows that
    a draft has brought ahead of the text, and what the verdict says."""

    lattices: Lattices
    weights: Floats
    trees: tuple[CoveringTree | None, ...]
    ahead: Mapping[tuple[int, Path], Any]
    drafted: bytes = b""
    text: bytes = b""
    dropped: float = 0.0
    asked: int = 0


@dataclass(frozen=True)
class Sparing:
    """How much is asked. `epsilon`: the share of the mass that a step may leave unasked for; `heads`: how many
    are kept where the covers cannot be told apart; `draft`: tokens that the first member proposes."""

    variant: Variant
    epsilon: float
    heads: int
    draft: int = 0

    def advanced(self, views: Sequence[View | None], s: Typed) -> Asking[tuple[Typed, list[Symbols | None]]]:
        """The request after all that is committed, with each member's next symbol; None for those that are gone
        or have no weight."""
        text = next(v.text for v in views if v is not None)
        trees = [self._typed(i, v, s) for i, v in enumerate(views)]
        s = replace(s, text=text, trees=tuple(trees), ahead=s.ahead if s.drafted.startswith(text) else {})
        s = yield from self._asking(views, s)
        settled = tuple(t if t is None else t.settled(self.heads) for t in s.trees)
        found = [None if t is None else t.symbols() for t in settled]
        dropped = max((symbols.dropped for symbols in found if symbols is not None), default=0.0)
        return replace(s, trees=settled, dropped=max(s.dropped, dropped)), found

    def _typed(self, i: int, view: View | None, s: Typed) -> CoveringTree | None:
        """A member's tree after all that is committed; where none of its covers is left, it begins anew from
        the tokenizer's own reading of the text."""
        if view is None or not s.weights[i]:
            return None
        tree = s.trees[i] or self._begun(s.lattices.of[i], view.vocab, s.text)
        if not view.text.startswith(s.text):
            return self._begun(s.lattices.of[i], view.vocab, view.text)
        for byte in view.text[tree.n :]:
            tree = tree.typed(byte)
        return tree if tree.heads else self._begun(s.lattices.of[i], view.vocab, view.text)

    def _begun(self, lattice: Lattice, vocab: Vocab, text: bytes) -> CoveringTree:
        exact = lattice.grammar is not None and self.variant != "full"
        grammar, kind = (lattice.grammar, self.variant) if exact else (None, FULL)
        if not text:
            return CoveringTree.begun(lattice.order, grammar, kind)
        place = {int(token): j for j, token in enumerate(lattice.order.ids)}
        places = [place[token] for token in vocab.tokenise(text)]
        return CoveringTree.at(lattice.order, grammar, kind, places, len(text))

    def _asking(self, views: Sequence[View | None], s: Typed) -> Asking[Typed]:
        """Asks for distributions until no member leaves more than `epsilon` of its mass unknown."""
        drafts = self.draft > 0 and not (s.drafted.startswith(s.text) and len(s.drafted) > len(s.text))
        while True:
            wanted = {
                i: paths
                for i, tree in enumerate(s.trees)
                if tree is not None and (paths := tree.wanted(self.epsilon, self._most(tree)))
            }
            if not wanted:
                return s
            new = {i: [p for p in paths if (i, p) not in s.ahead] for i, paths in wanted.items()}
            if drafts and any(new.values()):
                drafts, s = False, (yield from self._drafted(views, s))
            else:
                s = yield from self._told(views, s, wanted, {i: p for i, p in new.items() if p})

    def _drafted(self, views: Sequence[View | None], s: Typed) -> Asking[Typed]:
        """What the first member would write, and every member's distributions at all tokens of its own reading
        of that, in one forward each."""
        live = [i for i, tree in enumerate(s.trees) if tree is not None]
        (reply,) = yield [_view(views, live[0]).session.write((), self.draft, Sampler())]
        text = s.text + reply.value.text
        chains: dict[int, list[Path]] = {}
        for i in live:
            vocab, end, path, chain = _view(views, i).vocab, 0, NO_TOKENS, list[Path]()
            for token in vocab.tokenise(text):
                path, end = (*path, token), end + len(vocab.bytes_of(token))
                chain += [path] if end >= len(s.text) else []
            if chain:
                chains[i] = chain
        replies = yield [_view(views, i).session.after(chain) for i, chain in chains.items()]
        ahead = {
            (i, path): following.logp
            for (i, chain), reply in zip(chains.items(), replies, strict=True)
            for path, following in zip(chain, reply.value, strict=True)
        }
        return replace(s, ahead=ahead, drafted=text, asked=s.asked + len(ahead))

    def _most(self, tree: CoveringTree) -> int:
        return self.heads if tree.variant == "full" else N_SYMBOLS

    def _told(
        self,
        views: Sequence[View | None],
        s: Typed,
        wanted: Mapping[int, list[Path]],
        new: Mapping[int, list[Path]],
    ) -> Asking[Typed]:
        """The trees with what they wanted: asked for, or there already from a draft."""
        rows = dict(s.ahead)
        if new:
            replies = yield [_view(views, i).session.after(paths) for i, paths in new.items()]
            for (i, paths), reply in zip(new.items(), replies, strict=True):
                rows |= {
                    (i, path): following.logp for path, following in zip(paths, reply.value, strict=True)
                }
        trees = list(s.trees)
        for i, paths in wanted.items():
            ends = _view(views, i).vocab.end_ids
            tree = trees[i]
            for path in paths:
                assert tree is not None
                tree = tree.told(path, rows[i, path], ends[0] if ends else None)
            if tree is not None and not tree.heads:
                raise RunError(f"{s.lattices.names[i]} holds everything impossible after {s.text[-20:]!r}")
            trees[i] = tree
        return replace(s, trees=tuple(trees), asked=s.asked + sum(map(len, new.values())))


def lattices(members: Sequence[tuple[str, Vocab | None]]) -> Lattices:
    """The lattices of named members; one for members that share a vocabulary."""
    made: dict[tuple[str, str], Lattice] = {}
    found = []
    for name, vocab in members:
        if not isinstance(vocab, PackedVocab):
            raise RunError(f"byte-exact needs the whole vocabulary of {name}, which is not known")
        key = vocab.digest, "" if vocab.reading is None else vocab.reading.key
        if key not in made:
            made[key] = lattice_of(vocab, None if vocab.reading is None else vocab.reading.read())
        found.append(made[key])
    return Lattices(tuple(name for name, _ in members), tuple(found))


def _view(views: Sequence[View | None], i: int) -> View:
    view = views[i]
    assert view is not None
    return view
