"""A model's vocabulary on disk: read from the model once (1.5 s for 262,144 entries), then from a file (10 ms)."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.backends._chat import ChatTemplate
from septet.backends._llama import Model
from septet.parts.decoding.vocabulary import PackedVocab

_FORMAT = "2"
"""Changes whenever the arrays, or what they are made from, change their meaning."""

_SPECIAL = "special_ids"

Arrays = Mapping[str, NDArray[Any]]


def vocabulary_of(model: Model, folder: Path) -> tuple[PackedVocab, ChatTemplate | None]:
    """The vocabulary and the chat template, which needs the special tokens.

    The file's name is a hash of the GGUF header, which holds the whole vocabulary, and of llama.cpp's
    version, which decides what its tokens are; a file that is not whole is made again.
    """
    key = hashlib.sha256(f"{_FORMAT} {model.c.__version__} {model.header.digest}".encode()).hexdigest()
    file = folder / "vocabularies" / f"{key[:32]}.npz"
    arrays = _stored(file)
    if arrays is not None:
        return PackedVocab.of_arrays(arrays, model.tokenise), model.template(arrays[_SPECIAL])
    attributes = model.attributes()
    special_ids = model.special_ids(attributes)
    template = model.template(special_ids)
    vocab = model.vocabulary(attributes, model.end_ids(template))
    _store(file, {**vocab.arrays(), _SPECIAL: special_ids})
    return vocab, template


def _stored(file: Path) -> Arrays | None:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files} if _SPECIAL in stored.files else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        logging.getLogger(__name__).warning("the cached vocabulary %s is made again: %s", file, error)
        return None


def _store(file: Path, arrays: Arrays) -> None:
    """Written beside its place and moved there: another process sees the whole file or none."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        part.replace(file)
    except OSError as error:
        # The model works without; only the next start is slower.
        logging.getLogger(__name__).warning("the vocabulary cannot be cached in %s: %s", file.parent, error)
        part.unlink(missing_ok=True)
