"""An encoder in torch: reads texts, pools their token states, and applies the head that a fit gave it.

What serving and training share stands here once, so that a text gives the same row in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from septet.backends._encoder_source import WEIGHTS, EncoderSource, Fitted, fitted_of, write_fitted
from septet.backends._hf_model import Tokenizer, Wanted, _quiet, load_model
from septet.core.backend import need
from septet.core.errors import BackendError, ConfigError
from septet.core.types import Floats

EXTRA = "encoder"

What = Literal["rows", "pooled", "outputs"]
"""Rows of length one, what a head reads, or the head's outputs."""


class EncoderModel:
    """A loaded encoder. `head_weight` (c, d) and `head_bias` (c,) are there where a fit gave it a head.

    A row is the mean of the token states, the first or the last one (the source says which), of length one. The
    head's outputs are raw: pooled · head_weightᵀ + head_bias, with pooled the row; or for the last token of a
    language model its state over √d, so that c outputs are the logits of c tokens added to the vocabulary.
    """

    def __init__(
        self, source: EncoderSource, device: str, threads: int, max_length: int, weights: Path | None = None
    ) -> None:
        self.torch = need("torch", extra=EXTRA)
        transformers = need("transformers", extra=EXTRA)
        self.source = source
        self.torch.set_num_threads(threads)
        self.device = _device(self.torch, device)
        self.fitted = Fitted(base=source.print, outputs=0, max_length=max_length)
        if weights is not None:
            self.fitted = fitted_of(weights, source)
        self.head_weight: Any = None
        self.head_bias: Any = None
        self.through: Callable[[Any], Any] | None = None
        """What gives the token states of a batch in place of `states`, where a fit keeps a part of them."""
        if source.causal:
            self._load_causal(threads)
        else:
            self._load(transformers)
        if weights is not None:
            self._fill(weights)
        self.model.to(self.device).eval()

    def _load(self, transformers: Any) -> None:
        source = self.source
        with _quiet(transformers):
            try:
                self.tokenizer = transformers.AutoTokenizer.from_pretrained(
                    source.folder, local_files_only=True
                )
                self.model = transformers.AutoModel.from_pretrained(
                    source.folder, dtype=self.torch.float32, local_files_only=True
                )
            except Exception as error:  # whatever a damaged file makes a reader of either library raise
                raise BackendError(
                    f"transformers cannot load {source.name} from {source.folder}: {error}"
                ) from error
        if not getattr(self.tokenizer, "is_fast", False):
            raise BackendError(f"{source.name} has no fast tokenizer (tokenizer.json)")

    def _load_causal(self, threads: int) -> None:
        """The language model without its output matrix, and the tokenizer that the backend hf reads it with."""
        assert self.source.causal is not None
        self.tokenizer = Tokenizer(self.source.causal)
        whole = load_model(
            self.source.causal,
            Wanted(device=self.device, dtype="float32", threads=threads, layers=None, deterministic=False),
        )
        ends = self.tokenizer.end_ids(whole, None)
        if not ends:
            raise BackendError(f"{self.source.name} names no end token, whose state could be pooled")
        self._end = ends[0]
        self.model = whole.get_decoder()
        self.model.config.use_cache = False

    # --- reading -----------------------------------------------------------------------------------

    def read(self, texts: Sequence[str]) -> Any:
        """The tokens of texts as tensors, padded to the longest; what is beyond `max_length` is cut off. Those of
        a language model end with its end token, so that an empty text has a token, too."""
        for text in texts:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise BackendError(
                    "the text is not valid Unicode: it holds half a character"
                    f" (U+{ord(text[error.start]):04X})",
                    status=400,
                ) from None
        if self.source.causal:
            return self._read_causal(texts)
        self.tokenizer.truncation_side = self.fitted.truncated
        return self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.fitted.max_length,
            return_tensors="pt",
        ).to(self.device)

    def _read_causal(self, texts: Sequence[str]) -> dict[str, Any]:
        limit = self.fitted.max_length - 1
        first, last = (0, limit) if self.fitted.truncated == "right" else (-limit, None)
        read = [[*self.tokenizer.prompt_ids(text)[first:last], self._end] for text in texts]
        longest = max(map(len, read))
        ids = [[*some, *[self._end] * (longest - len(some))] for some in read]
        mask = [[1] * len(some) + [0] * (longest - len(some)) for some in read]
        return {
            "input_ids": self.torch.tensor(ids, device=self.device),
            "attention_mask": self.torch.tensor(mask, device=self.device),
        }

    def states(self, batch: Any) -> Any:
        """(n, t, d) token states of the last layer."""
        return self.model(**batch).last_hidden_state

    def pooled(self, batch: Any) -> Any:
        """(n, d) what a head reads, as a tensor that gradients flow through."""
        states = (self.through or self.states)(batch)
        mask = batch["attention_mask"]
        if self.source.pooling == "last":
            last = states[self.torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
            return last / math.sqrt(last.shape[1])
        if self.source.pooling == "first":
            return self.unit(states[:, 0])
        share = mask.unsqueeze(-1).to(states.dtype)
        return self.unit((states * share).sum(dim=1) / share.sum(dim=1))

    def unit(self, pooled: Any) -> Any:
        """(n, d) rows of length one."""
        return self.torch.nn.functional.normalize(pooled, dim=1)

    def apply_head(self, pooled: Any) -> Any:
        """(n, c) raw outputs for what was pooled (n, d)."""
        return pooled @ self.head_weight.T + self.head_bias

    def rows(self, texts: Sequence[str], what: What = "rows") -> tuple[Floats, int]:
        """(n, d) rows or (n, c) outputs, as `what` says; and how many tokens were read."""
        with self.torch.inference_mode():
            batch = self.read(texts)
            pooled = self.pooled(batch)
            found = pooled if what == "pooled" else self.unit(pooled)
            if what == "outputs":
                found = self.apply_head(pooled)
        array: Floats = np.asarray(found.cpu().numpy(), dtype=np.float64)
        if not np.isfinite(array).all():
            raise BackendError(f"{self.source.name} gave numbers that are not finite")
        return array, int(batch["attention_mask"].sum())

    # --- weights -----------------------------------------------------------------------------------

    def give_head(self, weight: Floats, bias: Floats) -> None:
        """A head of c outputs from weight (c, d) and bias (c,), to be trained further."""
        self.head_weight = self.torch.tensor(weight, dtype=self.torch.float32, device=self.device)
        self.head_bias = self.torch.tensor(bias, dtype=self.torch.float32, device=self.device)

    def copied(self, names: Collection[str] | None = None) -> dict[str, Any]:
        """Every weight, copied, as `write_weights` takes them; or those of the named, and the head."""
        found = {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in self.model.state_dict().items()
            if names is None or name in names
        }
        if self.head_weight is not None:
            found["head.weight"] = self.head_weight.detach().cpu().contiguous().clone()
            found["head.bias"] = self.head_bias.detach().cpu().clone()
        return found

    def restore(self, copied: dict[str, Any], *, partly: bool = False) -> None:
        """Goes back to weights that were copied; `partly`: some may be left out, and stay."""
        inner = dict(copied)
        weight, bias = inner.pop("head.weight", None), inner.pop("head.bias", None)
        self.model.load_state_dict(inner, strict=not partly)
        if weight is not None:
            self.give_head(weight.numpy(), bias.numpy())

    def _fill(self, folder: Path) -> None:
        """The weights that a fit wrote, in place of the model's own."""
        load_file = need("safetensors.torch", extra=EXTRA).load_file
        try:
            found = load_file(folder / WEIGHTS)
            if ("head.weight" in found) != bool(self.fitted.outputs):
                raise ValueError(f"a head of {self.fitted.outputs} outputs was expected")
            if self.fitted.outputs and len(found["head.weight"]) != self.fitted.outputs:
                raise ValueError(
                    f"the head has {len(found['head.weight'])} outputs, not {self.fitted.outputs}"
                )
            self.restore(found)
        except Exception as error:  # a damaged file may raise anything; which one it was is what matters
            raise BackendError(f"encoder: the trained weights in {folder} cannot be used: {error}") from error


def write_weights(folder: Path, copied: dict[str, Any], fitted: Fitted) -> None:
    """Writes copied weights and how they were made into an existing folder."""
    need("safetensors.torch", extra=EXTRA).save_file(copied, folder / WEIGHTS)
    write_fitted(folder, fitted)


def _device(torch: Any, named: str) -> str:
    if named == "cuda" and not torch.cuda.is_available():
        raise ConfigError('encoder: device = "cuda", but torch sees no such GPU; use "cpu" or "auto"')
    return ("cuda" if torch.cuda.is_available() else "cpu") if named == "auto" else named
