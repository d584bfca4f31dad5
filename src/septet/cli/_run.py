"""Runs one verb and turns what went wrong into a message and an exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from septet.cli import VERBS
from septet.core.errors import RunError, SeptetError, UnknownName

PLACES = ("request", "method", "member", "step")
"""What an error may know about where it happened; goes into the JSON form where it is known."""


def run(verb: str, arguments: Sequence[str]) -> int:
    """Runs a verb; returns its exit code. An error that is not septet's own is a bug and passes."""
    # text that the terminal's encoding cannot hold is replaced, not a reason to fail
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    as_json = "--json" in arguments
    try:
        if verb not in VERBS:
            raise UnknownName("verb", verb, VERBS)
        return _invoke(verb, arguments, as_json)
    except SeptetError as error:
        report(error, as_json)
        return error.exit_code
    except BrokenPipeError:
        # whoever read our output has seen enough; what is still buffered must not raise at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _invoke(verb: str, arguments: Sequence[str], as_json: bool) -> int:
    """Parses the arguments and calls the verb's function."""
    import typer

    usage_error: Any = typer.BadParameter.__mro__[1]  # typer exports only this child of its usage errors
    module = import_module(f"septet.cli.{verb}")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    name, help_text, function, rest = _found(module, verb, arguments)
    app.command(name=name, help=help_text)(function)
    try:
        code = app(list(rest), prog_name=f"septet {name}", standalone_mode=False)
    except usage_error as error:
        say_error(type(error).__name__, f"{error.format_message()} Try: septet {name} --help", as_json)
        return 2
    except typer.Abort:
        return 130
    sys.stdout.flush()
    return int(code or 0)


def _found(module: Any, verb: str, arguments: Sequence[str]) -> tuple[str, str, Any, Sequence[str]]:
    """The name, help and function that are asked for, and the arguments left.

    A verb with verbs of its own lists their help in `SUBVERBS` of its module, whose functions bear their names; what
    is none of them goes to the verb itself.
    """
    below: Mapping[str, str] = getattr(module, "SUBVERBS", {})
    if arguments and arguments[0] in below:
        return f"{verb} {arguments[0]}", below[arguments[0]], getattr(module, arguments[0]), arguments[1:]
    listed = "".join(f"\n\n  septet {verb} {name}: {sentence}" for name, sentence in below.items())
    return verb, VERBS[verb] + listed, getattr(module, verb), arguments


def report(error: SeptetError, as_json: bool) -> None:
    """The message of an error; as JSON with its place, and the partial answer where there is one."""
    facts: dict[str, Any] = {"exit_code": error.exit_code}
    if isinstance(error, RunError):
        facts |= {name: value for name in PLACES if (value := getattr(error, name)) not in ("", None)}
        if error.partial is not None:
            from septet.engine.wire import answer_json

            facts["partial"] = answer_json(error.partial)
    for name in ("problems", "near", "command", "limit", "used", "allowed", "status", "retryable"):
        if hasattr(error, name):
            facts[name] = getattr(error, name)
    say_error(type(error).__name__, str(error), as_json, **facts)


def say_error(kind: str, message: str, as_json: bool, **facts: Any) -> None:
    """One paragraph on stderr, or one JSON object on stdout."""
    if as_json:
        error = {"type": kind, "message": message, **facts}
        print(json.dumps({"error": error}, ensure_ascii=False, default=str))
    else:
        sys.stdout.flush()
        print(f"error: {message}", file=sys.stderr)
