"""A model in llama.cpp through its C interface: the library, a loaded file, its vocabulary."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
from numpy.typing import NDArray

from septet.backends._chat import ChatTemplate
from septet.backends._gguf import Header
from septet.backends._llama_chat import chat_template
from septet.core.backend import need
from septet.core.errors import BackendError
from septet.core.session import Ids
from septet.parts.decoding.vocabulary import PackedVocab

_UNKNOWN, _UNUSED, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 8, 16, 32
"""Bits of llama_token_attr (llama.h)."""

Attributes = NDArray[np.int32]

_LOG_ERROR = 4
_OVERRIDE_BOOL = 2


class Library:
    """The llama_cpp module `c`, silenced; the last error line of each thread's calls is kept for our messages."""

    def __init__(self) -> None:
        self.c = need("llama_cpp", extra="llamacpp")
        self._said = threading.local()
        # The callback lives as long as this object: ctypes keeps no reference of its own.
        self._callback = self.c.llama_log_callback(self._log)
        self.c.llama_log_set(self._callback, ctypes.c_void_p(0))
        self.c.llama_backend_init()

    def _log(self, level: int, text: bytes, _: object) -> None:
        line = text.decode(errors="replace").strip()
        if level == _LOG_ERROR and line:
            self._said.line = line

    def forget(self) -> None:
        """Before a call: what was said earlier is not its reason."""
        self._said.line = ""

    def because(self) -> str:
        """What llama.cpp gave as the reason, as the end of a sentence."""
        line = getattr(self._said, "line", "")
        return f": {line}" if line else ""


_library: list[Library] = []
_one_at_a_time = threading.Lock()


def library() -> Library:
    """The one library of the process; of two, the second would log into a callback that is gone."""
    with _one_at_a_time:
        if not _library:
            _library.append(Library())
        return _library[0]


class Model:
    """A loaded GGUF file. `deterministic` keeps the weights as they are in the file and on the CPU.

    Repacked weights use other kernels for four and more rows at once than for one, which changes logits by
    up to 2; files that ask for a dummy space before every text are told not to, since an answer is read in
    pieces: `leading_space` says that a prompt needs it.
    """

    def __init__(self, header: Header, *, deterministic: bool) -> None:
        self.library, self.header = library(), header
        c = self.c = self.library.c
        self.leading_space = header.values.get("tokenizer.ggml.model") == "llama" and bool(
            header.values.get("tokenizer.ggml.add_space_prefix", True)
        )
        options = c.llama_model_default_params()
        if deterministic:
            options.use_extra_bufts, options.n_gpu_layers = False, 0
        override = (c.llama_model_kv_override * 2)()  # ends with an empty key
        if self.leading_space:
            override[0].key, override[0].tag = b"tokenizer.ggml.add_space_prefix", _OVERRIDE_BOOL
            override[0].value.val_bool = False
            options.kv_overrides = override
        self.library.forget()
        self.pointer = c.llama_model_load_from_file(header.path.encode(), options)
        if not self.pointer:
            raise BackendError(f"llama.cpp cannot load {header.path}{self.library.because()}")
        if c.llama_model_is_recurrent(self.pointer) or c.llama_model_is_hybrid(self.pointer):
            self.free()
            raise BackendError(f"{header.path} has a recurrent state, which cannot be cut back to a position")
        self._vocab = c.llama_model_get_vocab(self.pointer)
        self._spelling = ctypes.create_string_buffer(512)
        self.n_tokens = int(c.llama_vocab_n_tokens(self._vocab))
        self.bos = int(c.llama_vocab_bos(self._vocab)) if c.llama_vocab_get_add_bos(self._vocab) else None

    def free(self) -> None:
        """Gives the memory back."""
        self.c.llama_model_free(self.pointer)

    def tokenise(self, text: bytes) -> list[int]:
        """The tokenizer's reading of valid UTF-8: no BOS, no dummy prefix, special tokens read as text.

        Other bytes must not come here: they become U+FFFD, and F4 90 80 80 ends the process.
        """
        room = len(text) + 2
        ids = (self.c.llama_token * room)()
        n = self.c.llama_tokenize(self._vocab, text, len(text), ids, room, False, False)
        if n < 0:
            raise BackendError(
                f"llama.cpp cannot tokenise a text of {len(text)} bytes{self.library.because()}"
            )
        return list(ids[:n])

    def text(self, token: int) -> str:
        """How the file spells a token; "" for none (−1)."""
        return self.c.llama_vocab_get_text(self._vocab, token).decode(errors="replace") if token >= 0 else ""

    def attributes(self) -> Attributes:
        """(V,) the bits of llama_token_attr of each id; half a second for 262,144, so worth caching."""
        get, vocab = self.c.llama_vocab_get_attr, self._vocab
        return np.fromiter((get(vocab, i) for i in range(self.n_tokens)), np.int32, self.n_tokens)

    def piece(self, token: int, *, special: bool) -> bytes:
        """The exact bytes of a token; `special` spells control tokens too."""
        while True:
            # One buffer for all tokens: a new one for each takes twice as long as reading it.
            n = self.c.llama_token_to_piece(
                self._vocab, token, self._spelling, len(self._spelling), 0, special
            )
            if n >= 0:
                return bytes(self._spelling.raw[:n])
            self._spelling = ctypes.create_string_buffer(-n)

    def special_ids(self, attributes: Attributes) -> Ids:
        """(n,) the control tokens: what a chat template may write and a user may not."""
        return np.flatnonzero(attributes & (_CONTROL | _UNKNOWN)).astype(np.int32)

    def template(self, special_ids: Ids) -> ChatTemplate | None:
        """The file's chat template; the control tokens are known to it by their spelling."""
        if not self.header.template:
            return None
        specials = {text: i for i in special_ids.tolist() if (text := self.text(i))}
        bos, eos = self.c.llama_vocab_bos(self._vocab), self.c.llama_vocab_eos(self._vocab)
        return chat_template(self.header.template, specials, self.text(bos), self.text(eos), self.header.name)

    def end_ids(self, template: ChatTemplate | None) -> tuple[int, ...]:
        """The END class: the file's end of text, its end of turn, and what its template puts behind an answer.

        Not `llama_vocab_is_eog`, which guesses by spelling and takes Gemma's HTML closing tag "</s>" and
        SmolLM2's "<reponame>" for ends as well.
        """
        named = {self.c.llama_vocab_eos(self._vocab), self.c.llama_vocab_eot(self._vocab)}
        closing = template.closing() if template else None
        return tuple(sorted(int(i) for i in named | {closing} if i is not None and i >= 0))

    def vocabulary(self, attributes: Attributes, end_ids: tuple[int, ...]) -> PackedVocab:
        """Every id as exact bytes. Masked: unused rows and control tokens that no text is made of.

        A control token that the file lists as user-defined keeps its text ("</s>" of Gemma).
        """
        as_text = (attributes & _USER_DEFINED) != 0
        hidden = ((attributes & (_CONTROL | _UNKNOWN)) != 0) & ~as_text | ((attributes & _UNUSED) != 0)
        pieces = [b"" if hidden[i] else self.piece(i, special=bool(as_text[i])) for i in range(self.n_tokens)]
        return PackedVocab.of(
            pieces,
            end_ids=end_ids,
            masked_ids=[int(i) for i in np.flatnonzero(hidden)],
            normal=(attributes & _BYTE) == 0,
            tokenise=self.tokenise,
        )
