"""Loads a transformers model and its tokenizer, and says what went wrong where that fails."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from septet.backends._chat import ChatTemplate
from septet.backends._hf_source import Source
from septet.backends._hf_vocabulary import after_special, inside, opening, pieces_of
from septet.backends._readings import json_reading
from septet.core.backend import need
from septet.core.errors import BackendError, ConfigError, MissingExtra
from septet.parts.decoding.vocabulary import PackedVocab


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How a model is loaded. `layers`: how many of its layers are kept, None for all."""

    device: str
    dtype: str
    threads: int
    layers: int | None
    deterministic: bool


def load_model(source: Source, wanted: Wanted) -> Any:
    """The weights on their device, in evaluation mode."""
    torch, transformers = libraries(source)
    _prepare(torch, wanted)
    device = _device(torch, wanted.device)
    with _failures(source), _quiet(transformers):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            source.folder,
            gguf_file=source.gguf or None,
            dtype=getattr(torch, wanted.dtype),
            local_files_only=True,
        )
    # A recurrent state is no list of positions, and cannot be cut back to one.
    if getattr(model, "_is_stateful", False) or model.config.is_encoder_decoder:
        raise BackendError(f"{source.name} has a recurrent state or an encoder, which hf cannot cut back")
    if wanted.layers is not None:
        keep_layers(model, wanted.layers)
    return model.to(device).eval()


def libraries(source: Source) -> tuple[Any, Any]:
    """torch and transformers, or the command that installs what is missing."""
    if source.gguf:
        need("accelerate", extra="hf")
        need("gguf", extra="hf")
    return need("torch", extra="hf"), need("transformers", extra="hf")


def _prepare(torch: Any, wanted: Wanted) -> None:
    """Settings of the process: torch has them once, for all its models."""
    torch.set_num_threads(wanted.threads)
    if wanted.deterministic:
        # cuBLAS reads it when it starts, and torch refuses deterministic products on a GPU without it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def _device(torch: Any, named: str) -> str:
    if named == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            'hf: device = "cuda", but torch sees no such GPU; use device = "cpu" or "auto", or install a torch '
            "that was built for this machine's GPU"
        )
    return ("cuda" if torch.cuda.is_available() else "cpu") if named == "auto" else named


def keep_layers(model: Any, n_layers: int) -> None:
    """Drops all but the first layers; the vocabulary and the output matrix stay."""
    config = model.config.get_text_config()
    decoder = model.get_decoder()
    for name, child in decoder.named_children():
        if type(child).__name__ == "ModuleList" and len(child) == config.num_hidden_layers:
            setattr(decoder, name, child[:n_layers])
            config.num_hidden_layers = n_layers
            return
    raise ConfigError(f"hf: the layers of a {type(model).__name__} cannot be found, so none can be left out")


@contextmanager
def _failures(source: Source) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtra(f"what {source.name} needs ({error})", "hf") from error
    except Exception as error:  # whatever a damaged or unknown file makes a reader of either library raise
        raise BackendError(f"transformers cannot load {source.name} from {source.folder}: {error}") from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No progress bars of the library in between our own output."""
    logging = transformers.utils.logging
    was = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was:
            logging.enable_progress_bar()


# --- the tokenizer ---------------------------------------------------------------------------------


class Tokenizer:
    """A tokenizer in its three readings (a prompt's beginning, behind a special token, inside an answer).

    In all of them special tokens that stand in a text are text: only a template writes them as tokens.
    """

    def __init__(self, source: Source) -> None:
        _, transformers = libraries(source)
        with _failures(source), _quiet(transformers):
            whole = transformers.AutoTokenizer.from_pretrained(
                source.folder, gguf_file=source.gguf or None, local_files_only=True
            )
        if not getattr(whole, "is_fast", False):
            raise BackendError(
                f"{source.name} has no fast tokenizer (tokenizer.json), so its bytes are not known"
            )
        self._whole, self._source = whole, source
        self.described: dict[str, Any] = json.loads(whole.backend_tokenizer.to_str())
        self._special = [t for t in self.described.get("added_tokens") or () if t["special"]]
        make = partial(_reading, need("tokenizers", extra="hf").Tokenizer)
        self.opening = make(opening(self.described, source.pre))
        self.after_special = make(after_special(self.described, source.pre))
        self.inside = make(inside(self.described, source.pre))

    @property
    def bos(self) -> int | None:
        """The token that the tokenizer puts before every text, None where it puts none."""
        first = self._whole("")["input_ids"][:1]
        return self._whole.bos_token_id if first == [self._whole.bos_token_id] else None

    def template(self) -> ChatTemplate | None:
        """The tokenizer's chat template."""
        import jinja2  # a dependency of torch

        source = self._whole.chat_template
        if not source:
            return None

        def render(messages: list[dict[str, str]], answer_follows: bool) -> str:
            return str(
                self._whole.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=answer_follows
                )
            )

        return ChatTemplate(
            render,
            str(source),
            {token["content"]: token["id"] for token in self._special},
            model=self._source.name,
            refusals=(jinja2.TemplateError, ValueError, TypeError),
        )

    def vocabulary(self, size: int, end_ids: Sequence[int]) -> PackedVocab:
        """Every id as exact bytes, for a model with `size` rows of logits."""
        pieces = pieces_of(self.described, size)
        vocab = PackedVocab.of(
            pieces.of,
            end_ids=end_ids,
            masked_ids=pieces.hidden,
            normal=pieces.normal,
            tokenise=lambda text: _read(self.inside, text.decode()),
        )
        vocab.reading = json_reading(inside(self.described, self._source.pre))
        return vocab

    def end_ids(self, model: Any, template: ChatTemplate | None) -> tuple[int, ...]:
        """The END class: what the configurations of model, generation and tokenizer name, and what the
        template puts behind an answer."""
        config, generation = model.config.get_text_config(), getattr(model, "generation_config", None)
        named: set[int] = set()
        for ids in (config.eos_token_id, getattr(generation, "eos_token_id", None), self._whole.eos_token_id):
            named |= {ids} if isinstance(ids, int) else set(ids or ())
        closing = template.closing() if template else None
        size = int(model.get_output_embeddings().weight.shape[0])
        # A tokenizer may be made for a larger model of its family.
        return tuple(sorted(i for i in named | {closing} if i is not None and i < size))

    def prompt_ids(self, text: str) -> list[int]:
        """A plain prompt: BOS where the tokenizer puts one, then the text."""
        bos = self.bos
        return [*([] if bos is None else [bos]), *_read(self.opening, text)]

    def chat_ids(self, runs: Sequence[int | str]) -> list[int]:
        """A rendered conversation: ids of special tokens, and the texts between them."""
        ids: list[int] = []
        for before, run, after in zip((None, *runs), runs, (*runs[1:], None), strict=False):
            if isinstance(run, int):
                ids.append(run)
                continue
            # Some special tokens take the white space beside them.
            text = run.lstrip() if before in self._taking("rstrip") else run
            text = text.rstrip() if after in self._taking("lstrip") else text
            ids += _read(self.after_special if ids else self.opening, text)
        return ids

    def _taking(self, side: str) -> set[int]:
        return {token["id"] for token in self._special if token[side]}


def _reading(tokenizer: Any, described: dict[str, Any]) -> Any:
    made = tokenizer.from_str(json.dumps(described))
    made.encode_special_tokens = True
    return made


def _read(reading: Any, text: str) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BackendError(
            f"the prompt is not valid Unicode: it holds half a character (U+{ord(text[error.start]):04X})",
            status=400,
        ) from None
    return list(reading.encode(text, add_special_tokens=False).ids)
