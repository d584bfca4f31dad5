"""A sequence classifier in torch that rates a text as the answer to a question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from septet.backends._hf_model import _quiet
from septet.core.backend import need
from septet.core.errors import BackendError, BadParameter, ConfigError
from septet.core.types import Floats, Query

EXTRA = "hf"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSource:
    """A classifier's folder, and what its files say: tokens that it reads at most (0: unknown), and its labels."""

    name: str
    folder: Path
    positions: int
    labels: int


class RewardModel:
    """A loaded classifier. Question and text are a conversation where its tokenizer has a template, else a pair."""

    def __init__(self, source: RewardSource, *, device: str, dtype: str, threads: int) -> None:
        self.source = source
        self.torch = need("torch", extra=EXTRA)
        transformers = need("transformers", extra=EXTRA)
        self.torch.set_num_threads(threads)
        self.device = _device(self.torch, device)
        with _quiet(transformers):
            try:
                self.tokenizer = transformers.AutoTokenizer.from_pretrained(
                    source.folder, local_files_only=True
                )
                self.model, said = transformers.AutoModelForSequenceClassification.from_pretrained(
                    source.folder,
                    dtype=getattr(self.torch, dtype),
                    local_files_only=True,
                    output_loading_info=True,
                )
            except Exception as error:  # whatever a damaged file makes a reader of either library raise
                raise BackendError(
                    f"transformers cannot load {source.name} from {source.folder}: {error}"
                ) from error
        if said["missing_keys"]:  # transformers would draw them at random
            raise BackendError(
                f"the weights of {source.name} in {source.folder} are not whole: there is no"
                f" {', '.join(sorted(said['missing_keys'])[:3])}"
            )
        self.model.to(self.device).eval()
        # which token is the last of a padded text a classifier knows by its own padding token only
        pads = self.model.config.get_text_config().pad_token_id, self.tokenizer.pad_token_id
        self.padded = pads[0] is not None and pads[0] == pads[1]

    def logits(self, query: Query, texts: Sequence[str], limit: int, batch: int) -> tuple[Floats, int]:
        """(n, n_labels) raw outputs for each text as the answer to the query, and how many tokens were read."""
        rows, n_tokens = list[Floats](), 0
        for some in _batches(texts, batch if self.padded else 1):
            read = self._read(query, some)
            length = int(read["input_ids"].shape[1])
            if limit and length > limit:
                raise BackendError(
                    f"{self.source.name} reads at most {limit} tokens, but question and text have {length}:"
                    " ask for fewer or shorter steps",
                    status=400,
                )
            with self.torch.inference_mode():
                found = self.model(**read).logits.float().cpu().numpy()
            rows.append(np.asarray(found, dtype=np.float64))
            n_tokens += int(read["attention_mask"].sum())
        logits = np.concatenate(rows) if rows else np.empty((0, self.source.labels))
        if not np.isfinite(logits).all():
            raise BackendError(f"{self.source.name} gave numbers that are not finite")
        return logits, n_tokens

    def _read(self, query: Query, texts: Sequence[str]) -> Mapping[str, Any]:
        """The tokens of question and text, padded to the longest."""
        for text in (query.text, *texts):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                half = f"U+{ord(text[error.start]):04X}"
                raise BackendError(
                    f"the text is not valid Unicode: it holds half a character ({half})", status=400
                ) from None
        how: dict[str, Any] = {"padding": self.padded, "return_tensors": "pt"}
        if self.tokenizer.chat_template:
            asked = [{"role": m.role, "content": m.content} for m in query.messages]
            asked = asked or [{"role": "user", "content": query.text}]
            talks = [[*asked, {"role": "assistant", "content": text}] for text in texts]
            read = self.tokenizer.apply_chat_template(talks, tokenize=True, return_dict=True, **how)
        else:
            read = self.tokenizer([query.text] * len(texts), list(texts), **how)
        return read.to(self.device)  # type: ignore[no-any-return]


def ratings(logits: Floats, label: int | None) -> Floats:
    """(n,) in 0..1 from logits (n, c): the sigmoid of a sole output, else the softmax share of one label.

    >>> ratings(np.log([[3.0], [1.0]]), None).round(2).tolist()
    [0.75, 0.5]
    >>> ratings(np.log([[1.0, 4.0], [3.0, 2.0]]), 1).round(2).tolist()
    [0.8, 0.4]
    """
    c = logits.shape[1]
    if label is not None and not 0 <= label < c:
        raise BadParameter("reward.label", label, f"must be one of the model's {c} labels, counted from 0")
    if c == 1:
        share: Floats = np.exp(-np.logaddexp(0.0, -logits[:, 0]))
    else:
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        share = p[:, c - 1 if label is None else label] / p.sum(axis=1)
    return share


def _device(torch: Any, named: str) -> str:
    if named == "cuda" and not torch.cuda.is_available():
        raise ConfigError('reward: device = "cuda", but torch sees no such GPU; use "cpu" or "auto"')
    return ("cuda" if torch.cuda.is_available() else "cpu") if named == "auto" else named


def _batches(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(texts), size):
        yield texts[first : first + size]
