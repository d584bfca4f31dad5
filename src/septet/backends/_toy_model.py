"""A language model in a page: it knows some answers and simple sums, and its logits are a pure function.

After a question it strongly prefers to spell one answer, with another answer as the second choice, so that
greedy decoding is recognisable and sampling varies. All else is noise from a hash, so that distributions
have no ties and members with other seeds differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from septet.backends._runtime import Begun, Logits
from septet.core.types import Floats, Query
from septet.parts.decoding.topk import Row
from septet.parts.decoding.vocabulary import PackedVocab

Spelling = Literal["words", "bytes", "pairs"]

ENDS = (0, 1)
"""Two END ids, as real models have: their mass has to be summed."""

ASK = 2
"""The control token between prompt and answer."""

PREFERRED, SECOND_SHARE, SHORTER = 12.0, 0.25, 4.0
"""Logit of the preferred token; share of the second answer; logit of shorter tokens that spell the same."""

WORDS = (
    "The the a an is are was of to in on and or not it I you we they this that answer Answer Question question "
    "know do so because step first then yes no Yes No sure am think true false red green blue Paris Berlin "
    "London Rome Lyon capital France city river one two three four five six seven eight nine ten"
)
ENDINGS = ("s", "ed", "ing", "er", "tion", "th", "en", ". ", ", ", "\n\n", "  ", "    ", "é", "日本", "👍")


@dataclass(frozen=True)
class Knowledge:
    """What a toy knows. `skill`: the share of questions, by hash, whose right answer it prefers."""

    answers: Mapping[str, str] = field(default_factory=dict)
    fallback: str = "I do not know."
    skill: float = 1.0
    seed: int = 0

    def right(self, prompt: str) -> tuple[str, str] | None:
        """The last thing in a prompt that it knows, as (question, right answer)."""
        found = [(prompt.rfind(key), len(key), key, answer) for key, answer in self.answers.items()]
        found = [hit for hit in found if hit[0] >= 0]
        for sum_ in re.finditer(r"(-?\d+)\s*([-+*×x])\s*(-?\d+)", prompt):
            found.append((sum_.start(), 0, sum_.group(), calculate(*sum_.groups())))
        return max(found)[2:] if found else None

    def targets(self, prompt: str) -> tuple[str, str]:
        """The answer it prefers, and its second choice."""
        known = self.right(prompt)
        if known is None:
            return self.fallback, "I am not sure."
        question, right = known
        wrong = self._wrong(question, right)
        return (right, wrong) if unit_hash(self.seed, "skill", question) < self.skill else (wrong, right)

    def _wrong(self, question: str, right: str) -> str:
        """A plausible wrong answer: a near number, or the answer to another question."""
        number = unit_hash(self.seed, "wrong", question)
        if re.fullmatch(r"-?\d+", right):
            return str(int(right) + 1 + int(number * 9))
        others = sorted({answer for answer in self.answers.values() if answer != right})
        return others[int(number * len(others))] if others else "I am not sure."


def calculate(left: str, sign: str, right: str) -> str:
    """The value of a sum, difference or product of two integers."""
    a, b = int(left), int(right)
    return str(a + b if sign == "+" else a - b if sign == "-" else a * b)


def unit_hash(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but the parts."""
    return float(np.random.default_rng([crc32(str(part).encode()) for part in parts]).random())


class ToyRuntime:
    """`Runtime` over `Knowledge`: a sequence is a list of ids, a forward is a lookup."""

    group = 0

    def __init__(self, knowledge: Knowledge, spelling: Spelling, context: int) -> None:
        self.knowledge, self.spelling, self.context = knowledge, spelling, context
        self.vocab = vocabulary(spelling)
        self.n_fed = 0
        self._sequences: dict[int, list[int]] = {}
        self._next_sequence = 0
        self._targets: Callable[[str], tuple[str, str]] = lru_cache(4096)(knowledge.targets)
        self._longest = max(len(self.vocab.bytes_of(i)) for i in range(self.vocab.size))

    @property
    def n_open(self) -> int:
        """How many sequences are held."""
        return len(self._sequences)

    def prompt_ids(self, query: Query, prompt_text: str | None) -> list[int]:
        """The prompt's tokens and ASK; turns are rendered as "role: text" lines."""
        text = prompt_text
        if text is None:
            text = "".join(f"{turn.role}: {turn.content}\n" for turn in query.messages)
        spelled = text.encode("utf-8", "surrogatepass")
        if self.spelling == "pairs":  # its prompts are made of the masked rows, one per byte
            return [*(self.vocab.size - 256 + byte for byte in spelled), ASK]
        return [*self.vocab.tokenise(spelled), ASK]

    def open(self) -> int:
        """A new, empty sequence."""
        self._next_sequence += 1
        self._sequences[self._next_sequence] = []
        return self._next_sequence

    def begin(self, ids: Sequence[int]) -> Begun:
        """A new sequence; no prompt is kept."""
        return Begun(self.open())

    def keep(self, seq: int, ids: Sequence[int], row: Row) -> None:
        """Nothing is kept."""

    def feed(self, seq: int, ids: Sequence[int], rows: str) -> Logits:
        """Appends tokens; see `Runtime.feed`."""
        past = self._sequences[seq]
        self.n_fed += len(ids)
        wanted = {"none": 0, "last": 1, "all": len(ids)}[rows]
        found = []
        for place, token_id in enumerate(ids):
            past.append(token_id)
            if len(ids) - place <= wanted:
                found.append(self._logits(past))
        return np.array(found, dtype=np.float32).reshape(wanted, self.vocab.size)

    def cut(self, seq: int, keep: int) -> None:
        """Forgets everything after the first `keep` tokens."""
        del self._sequences[seq][keep:]

    def fork(self, seq: int) -> int:
        """A copy of a sequence."""
        copy = self.open()
        self._sequences[copy] = list(self._sequences[seq])
        return copy

    def show_hidden(self, seq: int) -> None:
        """It can always be told."""

    def hidden(self, seq: int) -> Floats:
        """(4,) some numbers that depend on the whole sequence."""
        return np.random.default_rng(self._sequences[seq]).random(4)

    def close(self, seq: int) -> None:
        """Gives a sequence back."""
        del self._sequences[seq]

    def shutdown(self) -> None:
        """Forgets all sequences."""
        self._sequences.clear()

    def _logits(self, past: Sequence[int]) -> Logits:
        """(V,) a function of the prompt and the answer's bytes, not of how they are split into tokens."""
        asked = len(past) if ASK not in past else len(past) - 1 - past[::-1].index(ASK)
        prompt, answer = self.vocab.join(past[:asked]), self.vocab.join(past[asked + 1 :])
        rng = np.random.default_rng([self.knowledge.seed, crc32(prompt), crc32(answer[-12:])])
        logits = rng.random(self.vocab.size, dtype=np.float32)
        logits[list(ENDS)] -= np.float32(SHORTER)
        first, second = self._targets(prompt.decode(errors="replace"))
        share = np.log(SECOND_SHARE / (1 - SECOND_SHARE))
        follows = [self._prefer(logits, t.encode(), answer, b) for t, b in ((second, share), (first, 0.0))]
        if not any(follows):
            # Text that it would not have written: it ends the sooner, the longer that text is.
            self._lift(logits, ENDS, min(PREFERRED, 2 + len(answer) / 4))
        return logits

    def _prefer(self, logits: Logits, target: bytes, answer: bytes, bonus: float) -> bool:
        """Lifts the tokens that spell what is left of a target; False where the answer is no part of it."""
        if not target.startswith(answer):
            return False
        rest = target[len(answer) :]
        if not rest:
            self._lift(logits, ENDS, PREFERRED + bonus)
            return True
        lengths = range(min(len(rest), self._longest), 0, -1)
        spelled = [ids for n in lengths if (ids := self.vocab.ids_of(rest[:n]))]
        for rank, ids in enumerate(spelled):
            self._lift(logits, ids[:1], PREFERRED + bonus if rank == 0 else SHORTER)
        return True

    @staticmethod
    def _lift(logits: Logits, ids: Sequence[int], to: float) -> None:
        """Raises ids to a logit that they share; none is lowered."""
        for token_id in ids:
            logits[token_id] = max(float(logits[token_id]), to - float(np.log(len(ids))))


def vocabulary(spelling: Spelling) -> PackedVocab:
    """The toy's vocabulary: two END ids, ASK, then its pieces; the tokenizer reads the longest piece first.

    words: words with a leading space as in real vocabularies, endings, digits (also as byte pieces: equal
    bytes, two ids) and single bytes. bytes: single bytes. pairs: a, b, c, ab, abc and nothing else.
    """
    single = [bytes([byte]) for byte in range(256)]
    control = [b"", b"", b""]
    if spelling == "pairs":
        pieces = [*control, b"a", b"b", b"c", b"ab", b"abc", *single]
        masked = range(len(pieces) - 256, len(pieces))
        normal = np.ones(len(pieces), dtype=np.bool_)
    else:
        words = [w.encode() for word in WORDS.split() for w in (" " + word, word) if len(w) > 1]
        more = [e.encode() for e in ENDINGS] + [str(digit).encode() for digit in range(10)]
        extra = list(dict.fromkeys([*words, *more])) if spelling == "words" else []
        pieces, masked = [*control, *single, *extra], range(0)
        normal = np.array([not 3 <= i < 259 for i in range(len(pieces))])
    usable = {i: piece for i, piece in enumerate(pieces) if piece and i not in masked}
    ids = {piece: i for i, piece in sorted(usable.items(), key=lambda item: bool(normal[item[0]]))}
    return PackedVocab.of(
        pieces, end_ids=ENDS, masked_ids=masked, normal=normal, tokenise=lambda text: longest_first(text, ids)
    )


def embeddings(vocab: PackedVocab, seed: int) -> NDArray[np.float32]:
    """(V, 24) a direction for each string, whoever holds it, with a tenth of noise and a rotation of the seed's own."""
    rng = np.random.default_rng([seed, 24])
    rows = [np.random.default_rng(crc32(vocab.bytes_of(i))).standard_normal(24) for i in range(vocab.size)]
    rotation, _ = np.linalg.qr(rng.standard_normal((24, 24)))
    noisy = np.array(rows) + 0.1 * rng.standard_normal((vocab.size, 24))
    return (noisy @ rotation).astype(np.float32)  # type: ignore[no-any-return]


def longest_first(text: bytes, ids: Mapping[bytes, int]) -> list[int]:
    """Reads a text from the left, always the longest piece; a byte without a piece is left out."""
    longest, found, place = max(map(len, ids)), list[int](), 0
    while place < len(text):
        for n in range(min(longest, len(text) - place), 0, -1):
            if (piece := text[place : place + n]) in ids:
                found.append(ids[piece])
                break
        place += n
    return found
