"""Where a GGUF file is: at a path beside the configuration, or in an installed package."""

from __future__ import annotations

import os
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

from septet.core.backend import Place
from septet.core.errors import BadParameter, ConfigError


def file_in_package(package: str, place: Place, *, backend: str = "llamacpp") -> Path:
    """The one GGUF file of an installed package, found without importing the package.

    A package that carries the file in parts has `assemble(output_path)`: it is called once, and the result
    kept in the cache under the package's version. It is written beside its place and moved there, so that
    neither an interrupted nor a second process leaves half a file.
    """
    module = package.replace("-", "_")
    if not module.isidentifier():
        raise BadParameter(f"{backend}.package", package, "must be the name of one package")
    spec = find_spec(module)
    if spec is None:
        raise ConfigError(f"the package {package} is not installed; install it with: pip install {package}")
    files = sorted(
        file for folder in spec.submodule_search_locations or () for file in Path(folder).rglob("*.gguf")
    )
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(file.name for file in files)
        raise BadParameter(
            f"{backend}.package", package, f"must hold one GGUF file (it holds {names}); use path"
        )
    return _assembled(package, module, place.cache / "models")


def _assembled(package: str, module: str, folder: Path) -> Path:
    """The file that a package puts together from its parts."""
    target = folder / f"{package}-{_version(package)}.gguf"
    if target.exists():
        return target
    assemble = getattr(import_module(module), "assemble", None)
    if assemble is None:
        raise ConfigError(f"the package {package} holds no GGUF file")
    part = folder / f"{target.name}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        assemble(output_path=part)
        part.replace(target)
    except (OSError, ImportError, ValueError) as error:
        raise ConfigError(f"cannot put the model of {package} together in {folder}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "0"
