"""The configuration: one TOML file, `--set` on top, every mistake reported with its place and the near names."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from septet.core.backend import Defaults, Place
from septet.core.errors import BadParameter, ConfigError, UnknownName
from septet.core.method import param, parameters_of, validating
from septet.core.money import Price
from septet.core.prompt import BUILT_IN, Prompt

RESERVED = (
    "method",
    "members",
    "roles",
    "then",
    "state",
    "limits",
    "schedule",
    "commit",
    "approximate",
    "seed",
)
"""Keys of an ensemble that are the house's own; a hyper-parameter may not use them."""

SHARED = ("draft", "beam")
"""Keys of the token loop, or of a method with a hyper-parameter of that name, which then drafts or searches itself."""

SCHEDULES = ("every", "draft", "mixture")

MOST = 64
"""The most pieces of a draft, and the widest beam."""

MEMBER_KEYS = ("backend", "like", "prompt", "temperature", "top_p", "max_tokens", "seed", "stop", "price")
SECTIONS = ("members", "ensembles", "limits", "prompts", "store")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may do. Depth, fan-out and calls are checked before the first call."""

    depth: Annotated[int, param("Ensembles inside ensembles.", ge=1, le=16)] = 4
    fan_out: Annotated[int, param("Members of one ensemble.", ge=1, le=256)] = 16
    calls: Annotated[int, param("Calls of one request.", ge=1, le=100_000)] = 1000
    seconds: Annotated[float, param("Seconds for one request.", gt=0, le=86_400)] = 600.0
    usd_per_request: Annotated[float | None, param("USD for one request.", ge=0, le=1e6)] = None
    on_member_error: Annotated[
        Literal["continue", "fail"], param("Go on without a member that failed, or fail.")
    ] = "continue"
    concurrency: Annotated[int, param("Calls at once per endpoint.", ge=1, le=1024)] = 8
    retries: Annotated[int, param("Further attempts after a failure that may pass.", ge=0, le=10)] = 2


LimitsRecord = validating(Limits, "limits")


@dataclass(frozen=True, kw_only=True)
class MemberConfig:
    """A member as the file states it; `options` are its backend's."""

    name: str
    backend: str = ""
    like: str = ""
    prompt: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    price: Price | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """An ensemble as the file states it; `parameters` are its method's. Of members that decode one answer
    together, `schedule` says when which of them makes a forward, `draft` how many pieces the first one writes
    ahead under the schedule of that name, `beam` how many answers are kept in view (1: greedy)."""

    name: str
    method: str
    members: tuple[str, ...]
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    then: Mapping[str, Any] | None = None
    state: str = ""
    limits: Limits = field(default_factory=Limits)
    schedule: Literal["every", "draft", "mixture"] = "every"
    draft: int = 5
    beam: int = 1
    commit: Literal["own", "canonical"] = "own"
    approximate: bool = False
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole file."""

    path: str
    place: Place
    members: Mapping[str, MemberConfig]
    ensembles: Mapping[str, EnsembleConfig]
    prompts: Mapping[str, Prompt]
    limits: Limits
    store: str
    source: Source


@dataclass(frozen=True)
class Source:
    """The text of the file, to say on which line a thing stands."""

    path: str
    text: str

    def place(self, *keys: str) -> str:
        """Where `[section.name] key` stands, in words.

        >>> Source("a.toml", '[ensembles.vote]\\nmethod = "x"\\nsmaples = 3').place("ensembles", "vote", "smaples")
        'ensembles.vote.smaples in a.toml, line 3'
        """
        lines = self.text.splitlines()
        start = self._line(lines, 0, r"^\s*\[\s*" + re.escape(".".join(keys[:2])) + r"\s*\]")
        if start is None:
            end = r"\s*[\].]" if len(keys) == 1 else r"\s*\]"  # a section alone: also one of its tables
            start = self._line(lines, 0, r"^\s*\[\s*" + re.escape(keys[0]) + end)
        line = start
        for key in keys[1:]:
            found = self._line(lines, start or 0, r"^\s*[\"']?" + re.escape(key) + r"[\"']?\s*=")
            line = line if found is None else found
        where = f", line {line + 1}" if line is not None else ""
        return f"{'.'.join(keys)} in {Path(self.path).name}{where}"

    @staticmethod
    def _line(lines: list[str], start: int, pattern: str) -> int | None:
        return next((i for i in range(start, len(lines)) if re.search(pattern, lines[i])), None)


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Adds the place in the file to a configuration error that passes."""
    try:
        yield
    except (BadParameter, UnknownName) as error:
        if place not in str(error):
            error.args = (f"{error} ({place})",)
        raise


@contextmanager
def placed_at_its_key(source: Source, *keys: str) -> Iterator[None]:
    """The same for a table whose wrong key only the error knows: `unknown "kk"`, or `toy.context: must …`."""
    try:
        yield
    except (BadParameter, UnknownName) as error:
        named = [error.name] if isinstance(error, UnknownName) else error.parameter.split(".")[1:2]
        with placed(source.place(*keys, *named)):
            raise


def read(
    path: str | Path, settings: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> Config:
    """Reads a file and applies `section.name.key=value` settings on top."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the configuration {file} is not UTF-8 text") from None
    return parse(text, str(file), settings, environment)


def parse(
    text: str,
    path: str = "septet.toml",
    settings: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Config:
    """A configuration from its text."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    for setting in settings:
        _apply(data, setting)
    source = Source(path, text)
    for section, content in data.items():
        if section not in SECTIONS:
            raise UnknownName("section", section, SECTIONS, source.place(section))
        if not isinstance(content, dict):
            raise BadParameter(section, content, "must be a table", source.place(section))
    folder = str(Path(path).resolve().parent)
    environment = dict(os.environ if environment is None else environment)
    limits = _limits(data.get("limits", {}), {}, source, ("limits",))
    return Config(
        path=path,
        place=Place(folder, environment),
        members={n: _member(n, t, source) for n, t in data.get("members", {}).items()},
        ensembles={
            n: _ensemble(n, t, data.get("limits", {}), source) for n, t in data.get("ensembles", {}).items()
        },
        prompts={**BUILT_IN, **{n: _prompt(n, t, source) for n, t in data.get("prompts", {}).items()}},
        limits=limits,
        store=_store(data.get("store", {}), folder, environment, source),
        source=source,
    )


def _apply(data: dict[str, Any], setting: str) -> None:
    """One `--set a.b.c=value`; the value is read as TOML, else as a plain string."""
    keys, equals, value = setting.partition("=")
    parts = keys.strip().split(".")
    if not equals or not all(parts):
        raise BadParameter("--set", setting, "must look like section.name.key=value")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    table = data
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise BadParameter("--set", setting, f"{part} is not a table")
    table[parts[-1]] = parsed


def _table(value: Any, source: Source, *keys: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadParameter(".".join(keys), value, "must be a table", source.place(*keys))
    return value


def _names(value: Any, source: Source, *keys: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise BadParameter(".".join(keys), value, "must be a list of names", source.place(*keys))
    return tuple(value)


def _member(name: str, value: Any, source: Source) -> MemberConfig:
    place = ("members", name)
    table = _table(value, source, *place)
    if bool(table.get("backend")) == bool(table.get("like")):
        raise BadParameter(".".join(place), table, "must have either backend or like", source.place(*place))
    sampling: dict[str, Any] = {
        k: table[k] for k in ("temperature", "top_p", "max_tokens", "seed") if k in table
    }
    if "stop" in table:
        sampling["stop"] = _names(table["stop"], source, *place, "stop")
    _check_sampling(sampling, source, *place)
    with placed(source.place(*place, "price")):
        price = _price(table.get("price"))
    options = {k: v for k, v in table.items() if k not in MEMBER_KEYS}
    if options and table.get("like"):
        key = next(iter(options))
        raise UnknownName("key of a member that is like another", key, MEMBER_KEYS, source.place(*place, key))
    return MemberConfig(
        name=name,
        backend=str(table.get("backend", "")),
        like=str(table.get("like", "")),
        prompt=str(table.get("prompt", "")),
        sampling=sampling,
        price=price,
        options=options,
    )


_SAMPLING_RULES: Mapping[str, tuple[Any, float, float]] = {
    "temperature": ((int, float), 0.0, 2.0),
    "top_p": ((int, float), 0.0, 1.0),
    "max_tokens": (int, 1, 1_000_000),
    "seed": (int, 0, 2**63 - 1),
}


def _check_sampling(sampling: Mapping[str, Any], source: Source, *keys: str) -> None:
    for key, value in sampling.items():
        if key not in _SAMPLING_RULES:
            continue
        kind, low, high = _SAMPLING_RULES[key]
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            raise BadParameter(key, value, f"must be in [{low}, {high}]", source.place(*keys, key))


def _price(value: Any) -> Price | None:
    if value is None:
        return None
    known = ("usd_per_mtok_in", "usd_per_mtok_out", "usd_per_second")
    if not isinstance(value, dict):
        raise BadParameter("price", value, f"must be a table of {', '.join(known)}")
    for key, number in value.items():
        if key not in known:
            raise UnknownName("price", key, known)
        if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
            raise BadParameter(f"price.{key}", number, "must be a number ≥ 0")
    return Price(**value)


def _prompt(name: str, value: Any, source: Source) -> Prompt:
    table = _table(value, source, "prompts", name)
    known = tuple(Prompt.__dataclass_fields__)
    for key in table:
        if key not in known:
            raise UnknownName("key of a prompt", key, known, source.place("prompts", name, key))
    if table.get("kind", "chat") not in ("chat", "plain"):
        raise BadParameter(
            "kind", table["kind"], "must be one of chat, plain", source.place("prompts", name, "kind")
        )
    fields: dict[str, Any] = {}
    for key, text in table.items():
        place = source.place("prompts", name, key)
        if key == "stop":
            fields[key] = _names(text, source, "prompts", name, key)
        elif not isinstance(text, str):
            raise BadParameter(key, text, "must be text", place)
        elif key in ("user", "assistant") and "{text}" not in text:
            raise BadParameter(key, text, "must hold {text}, where the turn is put", place)
        else:
            fields[key] = text
    return Prompt(**fields)


def _limits(base: Mapping[str, Any], own: Mapping[str, Any], source: Source, keys: tuple[str, ...]) -> Limits:
    with placed_at_its_key(source, *keys):
        return LimitsRecord(**{**base, **own})


def _ensemble(name: str, value: Any, limits: Mapping[str, Any], source: Source) -> EnsembleConfig:
    place = ("ensembles", name)
    table = _table(value, source, *place)
    for key in ("method", "members"):
        if key not in table:
            raise BadParameter(".".join((*place, key)), None, "is required", source.place(*place))
    roles = {
        role: ("members",) if names == "members" else _names(names, source, *place, "roles")
        for role, names in _table(table.get("roles", {}), source, *place, "roles").items()
    }
    for key, allowed in (("schedule", SCHEDULES), ("commit", ("own", "canonical"))):
        if table.get(key, allowed[0]) not in allowed:
            raise BadParameter(
                key, table[key], f"must be one of {', '.join(allowed)}", source.place(*place, key)
            )
    for key in SHARED:
        number = table.get(key, 1)
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST:
            raise BadParameter(key, number, f"must be in [1, {MOST}]", source.place(*place, key))
    for key, kind, rule in (
        ("state", str, "must be a path"),
        ("approximate", bool, "must be true or false"),
    ):
        if not isinstance(table.get(key, kind()), kind):
            raise BadParameter(key, table[key], rule, source.place(*place, key))
    _check_sampling({"seed": table.get("seed", 0)}, source, *place)
    return EnsembleConfig(
        name=name,
        method=str(table["method"]),
        members=_names(table["members"], source, *place, "members"),
        roles=roles,
        then=_then(table.get("then"), source, *place, "then"),
        state=table.get("state", ""),
        limits=_limits(
            limits, _table(table.get("limits", {}), source, *place, "limits"), source, (*place, "limits")
        ),
        schedule=table.get("schedule", "every"),
        draft=table.get("draft", 5),
        beam=table.get("beam", 1),
        commit=table.get("commit", "own"),
        approximate=table.get("approximate", False),
        seed=table.get("seed", 0),
        parameters={k: v for k, v in table.items() if k not in RESERVED},
    )


def _then(value: Any, source: Source, *keys: str) -> Mapping[str, Any] | None:
    """The method of a router that draws several: a name, or a table of its name and its parameters."""
    if isinstance(value, str):
        return {"method": value}
    if value is not None and not (isinstance(value, dict) and isinstance(value.get("method"), str)):
        raise BadParameter("then", value, "must be a method's name, or a table with one", source.place(*keys))
    return value


def _store(table: Mapping[str, Any], folder: str, environment: Mapping[str, str], source: Source) -> str:
    for key in table:
        if key != "path":
            raise UnknownName("key of the store", key, ("path",), source.place("store", key))
    if "path" in table:
        if not isinstance(table["path"], str):
            raise BadParameter("path", table["path"], "must be a path", source.place("store", "path"))
        return str(Path(folder) / table["path"])
    if environment.get("SEPTET_STORE"):
        return environment["SEPTET_STORE"]
    home = environment.get("XDG_STATE_HOME") or str(Path(environment.get("HOME", ".")) / ".local" / "state")
    return str(Path(home) / "septet" / "septet.db")


def defaults_of(sampling: Mapping[str, Any]) -> Defaults:
    """A member's sampling defaults from its table."""
    return Defaults(**sampling)


def schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors: the house's keys; a method's parameters are on its card."""
    limits = {p.name: {"description": p.sentence, "default": p.default} for p in parameters_of(LimitsRecord)}
    table = {"type": "object"}
    ensemble: dict[str, Any] = {key: {} for key in (*RESERVED, *SHARED)}
    ensemble["schedule"] = {"enum": list(SCHEDULES)}
    ensemble["draft"] = ensemble["beam"] = {"type": "integer", "minimum": 1, "maximum": MOST}
    ensemble["commit"] = {
        "enum": list(get_args(EnsembleConfig.__annotations__["commit"])) or ["own", "canonical"]
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "members": {"additionalProperties": {"properties": {k: {} for k in MEMBER_KEYS}}},
            "ensembles": {
                "additionalProperties": {"required": ["method", "members"], "properties": ensemble}
            },
            "limits": {"additionalProperties": False, "properties": limits},
            "prompts": {"additionalProperties": table},
            "store": {"properties": {"path": {"type": "string"}}},
        },
    }
