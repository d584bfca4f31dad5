"""Sequences in transformers' KV caches: the `Runtime` that a local session stands on."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from septet.backends._chat import ChatTemplate
from septet.backends._hf_model import Tokenizer, libraries
from septet.backends._hf_source import Source
from septet.backends._runtime import Begun, Logits
from septet.core.errors import BackendError, ConfigError
from septet.core.types import Floats, Query
from septet.parts.decoding.topk import Row

CHUNK = 512
"""Tokens per forward. Logits depend on how a prompt is cut into forwards, so all prompts are cut alike."""

GROUP = 1
"""Answer tokens per forward that leave every logit as feeding them one by one does: torch multiplies one row
by other kernels than two, which changes the last digits of a logit."""


@dataclass(slots=True)
class _Sequence:
    """One row of tokens: its cache, how many tokens are in it, and the last hidden state, (d,)."""

    cache: Any
    length: int = 0
    hidden: Any = None


class HfRuntime:
    """A loaded model with its sequences; implements `Runtime`, blocking.

    Each sequence has a cache of its own, which keeps every position, also where the model itself only looks
    at the last ones: that is what lets it be cut back. A fork shares its parent's tensors; torch writes a
    longer cache into new ones, so neither ever sees the other's tokens.
    """

    def __init__(
        self, model: Any, tokenizer: Tokenizer, source: Source, *, context: int, deterministic: bool
    ) -> None:
        self._torch, transformers = libraries(source)
        self._model, self._tokenizer, self._source = model, tokenizer, source
        self._new_cache = transformers.DynamicCache
        self._template: ChatTemplate | None = tokenizer.template()
        self._matrices = {
            "input": model.get_input_embeddings().weight,
            "output": model.get_output_embeddings().weight,
        }
        size = int(self._matrices["output"].shape[0])
        self.vocab = tokenizer.vocabulary(size, tokenizer.end_ids(model, self._template))
        self.context, self.group = context, GROUP if deterministic else 0
        self._sequences: dict[int, _Sequence] = {}
        self._named = 0  # sequences opened so far
        accepted = inspect.signature(model.forward).parameters
        self._cache_key = "cache" if "cache" in accepted else "past_key_values"  # renamed in transformers 5
        self._picks_rows = "logits_to_keep" in accepted
        self._hidden: Any = None
        # What goes into the output matrix is the last hidden state, whatever the architecture calls it.
        model.get_output_embeddings().register_forward_pre_hook(self._notice)

    def _notice(self, _: Any, args: tuple[Any, ...]) -> None:
        self._hidden = args[0][0, -1]

    def prompt_ids(self, query: Query, prompt_text: str | None) -> list[int]:
        """BOS where the tokenizer puts one and the plain text, or the turns through the model's template."""
        if prompt_text is not None:
            return self._tokenizer.prompt_ids(prompt_text)
        if self._template is None:
            raise ConfigError(f'{self._source.name} has no chat template; give the member prompt = "qa"')
        return self._tokenizer.chat_ids(self._template.runs(query.messages))

    def matrix(self, side: Literal["input", "output"]) -> NDArray[np.float32]:
        """(V, d) the embeddings of the tokens as they go in, or as they come out; float32 weights on the CPU are
        not copied."""
        found: NDArray[np.float32] = self._matrices[side].detach().cpu().float().numpy()
        return found

    # --- sequences ---------------------------------------------------------------------------------

    def open(self) -> int:
        """A new, empty sequence."""
        return self._add(_Sequence(self._new_cache()))

    def _add(self, sequence: _Sequence) -> int:
        self._named += 1
        self._sequences[self._named] = sequence
        return self._named

    def begin(self, ids: Sequence[int]) -> Begun:
        """A new sequence; no prompt is kept."""
        return Begun(self.open())

    def keep(self, seq: int, ids: Sequence[int], row: Row) -> None:
        """Nothing is kept."""

    def feed(self, seq: int, ids: Sequence[int], rows: str) -> Logits:
        """Appends tokens, `CHUNK` per forward; all of them or, when one forward fails, none."""
        sequence = self._sequences[seq]
        before, n_ids = sequence.length, len(ids)
        n_rows = {"none": 0, "last": min(1, n_ids), "all": n_ids}[rows]
        logits = np.empty((n_rows, self.vocab.size), dtype=np.float32)
        try:
            for start in range(0, n_ids, CHUNK):
                part = ids[start : start + CHUNK]
                n_read = len(part) if rows == "all" else 1
                found = self._forward(sequence, part, n_read)
                if rows == "all":
                    logits[start : start + n_read] = found
            if rows == "last" and n_ids:
                logits[0] = found[-1]
        except BackendError:
            self.cut(seq, before)
            raise
        return logits

    def _forward(self, sequence: _Sequence, ids: Sequence[int], n_read: int) -> Logits:
        """One forward: logits (n_read, V) after the last tokens."""
        arguments: dict[str, Any] = {self._cache_key: sequence.cache, "use_cache": True}
        if self._picks_rows:
            arguments["logits_to_keep"] = n_read
        with self._failures(), self._torch.inference_mode():
            tokens = self._torch.tensor([list(ids)], device=self._model.device)
            logits = self._model(input_ids=tokens, **arguments).logits[0, -n_read:].float().cpu().numpy()
        sequence.hidden, self._hidden = self._hidden, None
        sequence.length += len(ids)
        found: Logits = logits
        return found

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch's own, and running out of a GPU's memory
            raise BackendError(
                f"torch failed on {self._source.name}: {error}",
                retryable=isinstance(error, self._torch.OutOfMemoryError),
            ) from error

    def cut(self, seq: int, keep: int) -> None:
        """Forgets everything after the first `keep` tokens."""
        sequence = self._sequences[seq]
        # By the cache's own count: a forward that failed half way has fed only some of the layers.
        for layer in sequence.cache.layers:
            surplus = int(layer.get_seq_length()) - keep
            if surplus > 0:
                layer.crop(-surplus)
        sequence.length = min(sequence.length, keep)

    def fork(self, seq: int) -> int:
        """A copy that shares its past."""
        source = self._sequences[seq]
        cache = self._new_cache()
        cache.layers = [copy.copy(layer) for layer in source.cache.layers]
        return self._add(_Sequence(cache, source.length, source.hidden))

    def show_hidden(self, seq: int) -> None:
        """Every forward keeps it."""

    def hidden(self, seq: int) -> Floats:
        """(d,) what went into the output matrix after the last fed token."""
        found: Floats = self._sequences[seq].hidden.cpu().double().numpy()
        return found

    def close(self, seq: int) -> None:
        """Gives a sequence back."""
        del self._sequences[seq]

    def shutdown(self) -> None:
        """Frees the sequences and the model."""
        self._sequences.clear()
        self._matrices.clear()
        self._model = None
        if self._torch.cuda.is_available():
            self._torch.cuda.empty_cache()
