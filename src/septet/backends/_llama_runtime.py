"""Sequences in llama.cpp's KV cache: the `Runtime` that a local session stands on."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from septet.backends._chat import ChatTemplate
from septet.backends._kept_prompts import KeptPrompts
from septet.backends._llama import Model
from septet.backends._runtime import Begun, Logits
from septet.core.errors import BackendError, ConfigError
from septet.core.types import Floats, Message, Query
from septet.parts.decoding.topk import Row
from septet.parts.decoding.vocabulary import PackedVocab

CHUNK = 64
"""Tokens per decode call. Logits depend on how a prompt is cut into calls, so all prompts are cut alike; 64
is as fast as 512 (within 4 %, one thread), and its rows of 262,144 logits are 67 MB, not half a gigabyte."""

GROUP = 7
"""Answer tokens per call that leave every logit as feeding them one by one does (measured with flash
attention and without repacking; at 8 rows another kernel begins)."""

_DECODED, _NO_ROOM = 0, 1
_FLASH_ATTENTION = 1


class LlamaRuntime:
    """A loaded model with its sequences; implements `Runtime`, blocking.

    All sequences share one cache of twice the context, and a fork shares its cells. In deterministic mode
    each sequence has a cache of its own instead: in a shared one a sequence's cells lie where there is room,
    and since attention adds them up in that order, a neighbour changes logits by up to 1.
    """

    def __init__(
        self,
        model: Model,
        vocab: PackedVocab,
        template: ChatTemplate | None,
        *,
        context: int,
        sequences: int,
        threads: int,
        deterministic: bool,
        prompts: int = 0,
    ) -> None:
        self.vocab, self.context = vocab, context
        self.group = GROUP if deterministic else 0
        self._model, self._template, self._c = model, template, model.c
        options = self._c.llama_context_default_params()
        options.n_ctx = context * (sequences if deterministic else min(2, sequences))
        options.n_batch = options.n_ubatch = CHUNK
        options.n_seq_max, options.kv_unified = sequences, not deterministic
        options.n_threads = options.n_threads_batch = threads
        options.flash_attn_type = _FLASH_ATTENTION
        model.library.forget()
        self._pointer = self._c.llama_init_from_model(model.pointer, options)
        if not self._pointer:
            because = model.library.because()
            raise BackendError(
                f"llama.cpp cannot make a cache of {options.n_ctx} tokens for {model.header.name}{because}",
                hint="give the member a smaller context or fewer sequences",
            )
        self._memory = self._c.llama_get_memory(self._pointer)
        self._batch = self._c.llama_batch_init(CHUNK, 0, 1)
        self._free, self._sequences = list(range(sequences)), sequences
        self._length: dict[int, int] = {}  # tokens in each open sequence
        self._width = int(self._c.llama_model_n_embd(model.pointer))
        self._shown: set[int] = set()  # the sequences whose hidden state is wanted
        self._hidden: dict[int, Floats] = {}  # (d,) after the last fed token of some of them
        self._embeds = False
        self._prompts = KeptPrompts(self, prompts, CHUNK)

    # --- prompts -----------------------------------------------------------------------------------

    def prompt_ids(self, query: Query, prompt_text: str | None) -> list[int]:
        """BOS where the model wants one, then the plain text, or the turns through the file's template."""
        if prompt_text is not None:
            ids = self._read(prompt_text)
        elif self._template is None:
            raise ConfigError(
                f'{self._model.header.name} has no chat template; give the member prompt = "qa"'
            )
        else:
            ids = self._chat(self._template, query.messages)
        bos = self._model.bos
        return ids if bos is None or ids[:1] == [bos] else [bos, *ids]

    def _chat(self, template: ChatTemplate, turns: Sequence[Message]) -> list[int]:
        ids = []
        for run in template.runs(turns):
            ids += [run] if isinstance(run, int) else self._read(run)
        return ids

    def _read(self, text: str) -> list[int]:
        """The tokens of a text that begins a prompt or stands behind a special token."""
        try:
            written = text.encode()
        except UnicodeEncodeError as error:
            raise BackendError(
                f"the prompt is not valid Unicode: it holds half a character (U+{ord(text[error.start]):04X})",
                status=400,
            ) from None
        return self.vocab.tokenise(b" " + written if self._model.leading_space else written)

    # --- sequences ---------------------------------------------------------------------------------

    def open(self) -> int:
        """A new, empty sequence."""
        if not self._free and not self._prompts.give_up():
            raise BackendError(
                f"all {self._sequences} sequences of {self._model.header.name} are in use",
                retryable=True,
                hint="ask fewer questions at once, or give the member more sequences",
            )
        seq = heapq.heappop(self._free)
        self._length[seq] = 0
        return seq

    def has_free(self) -> bool:
        """Whether a sequence can be opened without giving up a prompt that is kept."""
        return bool(self._free)

    def begin(self, ids: Sequence[int]) -> Begun:
        """A fork of a prompt that is kept, or a new sequence."""
        return self._prompts.begun(ids) or Begun(self.open())

    def keep(self, seq: int, ids: Sequence[int], row: Row) -> None:
        """Keeps a fork; it is given up as soon as its sequence or its cells are wanted."""
        self._prompts.keep(seq, ids, row)

    def feed(self, seq: int, ids: Sequence[int], rows: str) -> Logits:
        """Appends tokens, `CHUNK` per call; all of them or, when one call fails, none."""
        length, n_vocab = self._length[seq], self.vocab.size
        n_rows = {"none": 0, "last": min(1, len(ids)), "all": len(ids)}[rows]
        logits = np.empty((n_rows, n_vocab), dtype=np.float32)
        # To tell a hidden state, llama.cpp makes the logits of all tokens of a call, so the last one goes alone.
        hidden = rows == "last" and seq in self._shown
        self._hidden.pop(seq, None)
        for start, end in _parts(len(ids), alone=hidden):
            part = ids[start:end]
            read = rows == "all" or (rows == "last" and end == len(ids))
            n_read = 0 if not read else len(part) if rows == "all" else 1
            try:
                self._embed(hidden and read)
                self._decode(seq, length + start, part, n_read)
            except BackendError:
                self.cut(seq, length)
                raise
            self._length[seq] = length + start + len(part)
            if n_read:
                at = start if rows == "all" else 0
                source = self._c.llama_get_logits(self._pointer)
                logits[at : at + n_read] = np.ctypeslib.as_array(source, shape=(n_read, n_vocab))
        if hidden and ids:
            state = self._c.llama_get_embeddings_ith(self._pointer, -1)
            self._hidden[seq] = np.ctypeslib.as_array(state, shape=(self._width,)).astype(np.float64)
        return logits

    def _embed(self, wanted: bool) -> None:
        """Whether the next call keeps the hidden state; told only when it changes."""
        if wanted != self._embeds:
            self._c.llama_set_embeddings(self._pointer, wanted)
            self._embeds = wanted

    def _decode(self, seq: int, position: int, ids: Sequence[int], n_read: int) -> None:
        """One forward; logits are made for the last `n_read` tokens."""
        batch = self._batch
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i] = token, position + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, seq
            batch.logits[i] = i >= len(ids) - n_read
        batch.n_tokens = len(ids)
        self._model.library.forget()
        status = self._c.llama_decode(self._pointer, batch)
        while status == _NO_ROOM and self._prompts.give_up():
            status = self._c.llama_decode(self._pointer, batch)
        if status == _NO_ROOM:
            raise BackendError(
                f"the cache of {self._model.header.name} is full: {sum(self._length.values())} tokens in "
                f"{len(self._length)} sequences",
                retryable=len(self._length) > 1,
                hint="ask fewer questions at once, or give the member a larger context",
            )
        if status != _DECODED:
            because = self._model.library.because()
            raise BackendError(f"llama.cpp failed on {self._model.header.name} (status {status}){because}")

    def cut(self, seq: int, keep: int) -> None:
        """Forgets everything after the first `keep` tokens."""
        if not self._c.llama_memory_seq_rm(self._memory, seq, keep, -1):
            raise BackendError(f"llama.cpp cannot cut {self._model.header.name} back to {keep} tokens")
        self._length[seq] = min(self._length[seq], keep)

    def fork(self, seq: int) -> int:
        """A copy that shares its past; in deterministic mode, a copy of the cache."""
        copy = self.open()
        self._c.llama_memory_seq_cp(self._memory, seq, copy, -1, -1)
        self._length[copy] = self._length[seq]
        if seq in self._shown:
            self._shown.add(copy)
        if seq in self._hidden:
            self._hidden[copy] = self._hidden[seq]
        return copy

    def show_hidden(self, seq: int) -> None:
        """Its feeds with rows "last" keep the state after their last token, which costs such a call nothing."""
        self._shown.add(seq)

    def hidden(self, seq: int) -> Floats | None:
        """(d,) what went into the output matrix after the last fed token, None where that was not kept."""
        return self._hidden.get(seq)

    def close(self, seq: int) -> None:
        """Gives a sequence back."""
        del self._length[seq]
        self._shown.discard(seq)
        self._hidden.pop(seq, None)
        self._c.llama_memory_seq_rm(self._memory, seq, -1, -1)
        heapq.heappush(self._free, seq)

    def shutdown(self) -> None:
        """Frees the sequences and the model."""
        self._c.llama_batch_free(self._batch)
        self._c.llama_free(self._pointer)
        self._model.free()


def _parts(n: int, *, alone: bool) -> Iterator[tuple[int, int]]:
    """Where the parts of n tokens begin and end, `CHUNK` at most; `alone`: the last token is a part of its own."""
    most = n - 1 if alone else n
    for start in range(0, most, CHUNK):
        yield start, min(start + CHUNK, most)
    if alone and n:
        yield most, n
