"""Where a transformers model is, and what its files say before anything heavy is imported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from septet.backends._gguf import read_header
from septet.core.backend import Place
from septet.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model on this machine: a folder of transformers files, or one GGUF file in a folder.

    `context` and `vocabulary` are counts of tokens, 0 where the files do not say; `pre` is what a GGUF
    calls its way of splitting a text into words.
    """

    name: str
    folder: Path
    gguf: str = ""
    template: bool
    context: int
    vocabulary: int
    layers: int
    pre: str = ""

    @property
    def tokenizer(self) -> str:
        """ "kind:hash" of the tokenizer's description, "" where the folder has none (tokenizer.json)."""
        if self.gguf:
            found = read_header(self.folder / self.gguf).tokenizer
            return f"gguf:{found}" if found else ""
        file = self.folder / "tokenizer.json"
        if not file.is_file():
            return ""
        facts = file.stat()
        return f"json:{_described(file, facts.st_size, facts.st_mtime_ns)}"


def gguf_source(file: Path) -> Source:
    """What a GGUF file says about itself."""
    header = read_header(file)
    return Source(
        name=header.name,
        folder=file.parent,
        gguf=file.name,
        template=bool(header.template),
        context=header.context,
        vocabulary=header.vocabulary,
        layers=header.layers,
        pre=str(header.values.get("tokenizer.ggml.pre", "")),
    )


def folder_source(model: str, place: Place) -> Source:
    """What a model's folder says, or the hub's cache where `model` is a name on the hub. Never downloads."""
    folder = Path(place.folder, Path(model).expanduser())
    if not folder.is_dir():
        folder = _in_the_cache(model, place)
    config = _json(folder / "config.json")
    if not any(any(folder.glob(f"*.{kind}")) for kind in ("safetensors", "bin")):
        raise ConfigError(f"the model folder {folder} holds no weights (*.safetensors or *.bin)")
    # A model of text and images keeps the facts of its text part one level down.
    facts = config.get("text_config", config)
    return Source(
        name=model,
        folder=folder,
        template=_has_template(folder),
        context=int(facts.get("max_position_embeddings") or facts.get("n_positions") or 0),
        vocabulary=int(facts.get("vocab_size", 0)),
        layers=int(facts.get("num_hidden_layers") or facts.get("n_layer") or 0),
    )


_SPELLING = ("normalizer", "pre_tokenizer", "decoder", "model", "added_tokens")
"""Of a tokenizer.json: what decides which text becomes which ids; the rest is BOS, padding and limits."""


@lru_cache(maxsize=32)
def _described(file: Path, size: int, changed: int) -> str:
    """A hash of a tokenizer's description, equal for equal contents however they are laid out."""
    description = _json(file)
    spelling = json.dumps([description.get(part) for part in _SPELLING], sort_keys=True)
    return sha256(spelling.encode()).hexdigest()


def _in_the_cache(name: str, place: Place) -> Path:
    """The newest downloaded state of a hub model."""
    environment = place.environment
    home = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME") or Path.home(), ".cache")
    hub = Path(environment.get("HF_HOME") or Path(home, "huggingface"), "hub")
    entry = Path(environment.get("HF_HUB_CACHE") or hub, f"models--{name.replace('/', '--')}")
    main = entry / "refs" / "main"
    if main.is_file() and (found := entry / "snapshots" / main.read_text().strip()).is_dir():
        return found
    raise ConfigError(
        f"cannot find the model {name}: there is no folder {Path(place.folder, name)}, and nothing of that name "
        f"was downloaded from the hub; if it is a name on the hub, download it with: hf download {name}"
    )


def _has_template(folder: Path) -> bool:
    if any((folder / file).is_file() for file in ("chat_template.jinja", "chat_template.json")):
        return True
    settings = folder / "tokenizer_config.json"
    return settings.is_file() and bool(_json(settings).get("chat_template"))


def _json(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        raise ConfigError(f"the model folder {file.parent} has no {file.name}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"cannot read {file}: it is no JSON object")
    return found
