"""The command line: one file per verb, imported only when that verb is asked for.

The list of verbs and their one-line help is data, so that `septet --help` loads neither typer nor numpy.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

VERBS: Mapping[str, str] = {
    "ask": "Ask an ensemble or a member one question.",
    "chat": "Hold a conversation with an ensemble or a member.",
    "check": "Check a configuration: what fits, in which order, and the worst case of one request.",
    "methods": "List the methods; with --fits, which of them work with the members of a file.",
    "card": "Show the card of a method or a backend.",
    "fit": "Fit an ensemble on recorded outcomes and save its state.",
    "pool": "Say which members go together, from what they answered.",
    "data": "Check, describe, import and export tables of outcomes.",
    "trace": "Show every call of a request, or the latest requests.",
    "feedback": "Say how good an answer was, or which of two was better; online methods learn from it.",
    "replay": "Run a stored request again and compare the decision.",
    "bench": "Compare ensembles on tasks: accuracy, USD, seconds.",
    "serve": "Serve the ensembles over an OpenAI-compatible API.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code.

    0: done · 2: the file or the arguments are wrong, or a method is not fitted · 3: a request failed ·
    4: a limit was reached · 130: interrupted.
    """
    args = list(sys.argv[1:] if arguments is None else arguments)
    if not args or args[0] in ("--help", "-h", "help"):
        print(help_text())
        return 0
    if args[0] == "--version":
        from importlib.metadata import version

        print(f"septet {version('septet')}")
        return 0
    from septet.cli._run import run

    return run(args[0], args[1:])


def help_text() -> str:
    """What `septet --help` prints."""
    verbs = "\n".join(f"  {verb:<9}{sentence}" for verb, sentence in VERBS.items())
    return (
        "Usage: septet VERB [OPTIONS] …\n\n"
        "Combines language models at inference time.\n\n"
        f"Verbs:\n{verbs}\n\n"
        "Options:\n"
        "  --help     Show this text; `septet VERB --help` shows a verb's own.\n"
        "  --version  Show the version.\n\n"
        "Exit codes: 0 done · 2 the file or the arguments are wrong · 3 a request failed · "
        "4 a limit was reached · 130 interrupted."
    )
