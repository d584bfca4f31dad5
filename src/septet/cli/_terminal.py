"""What is shown: plain text into a pipe, colours and progress only on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red", "bright_cyan", "bright_yellow")
"""Colours of members, in the order of the pool; they repeat after eight."""

PIPE_WIDTH = 160
"""Columns of a table that goes into a pipe, where there is no terminal to ask."""

# the control characters that a terminal would obey, shown as their pictures (U+2400 …) instead
_VISIBLE = {i: 0x2400 + i for i in range(32) if chr(i) not in "\n\t"} | {127: 0x2421} | {13: None}
_VISIBLE |= dict.fromkeys(range(128, 160), 0xFFFD)


def visible(text: str) -> str:
    """Text that a terminal cannot take for commands.

    >>> visible("a\\x1b[31mb\\r\\n")
    'a␛[31mb\\n'
    """
    return text.translate(_VISIBLE)


def console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is: no markup, no emoji codes, no highlighting."""
    from rich.console import Console

    found = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
    return found


def print_table(table: Table) -> None:
    """A table as wide as the terminal, or as `PIPE_WIDTH` in a pipe."""
    from rich.console import Console

    shown = Console(highlight=False, markup=False, emoji=False)
    if not shown.is_terminal:
        shown = Console(highlight=False, markup=False, emoji=False, width=PIPE_WIDTH)
    shown.print(table)


def new_table(*columns: str) -> Table:
    """An empty table without lines."""
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def print_json(value: Any) -> None:
    """One line of JSON."""
    print(json.dumps(value, ensure_ascii=False, default=str))


def short(text: str, width: int) -> str:
    """The beginning of a text on one line.

    >>> short("one\\ntwo three", 8)
    'one two…'
    """
    line = " ".join(visible(text[: 4 * width]).split())
    return line if len(line) <= width and len(text) <= 4 * width else line[: width - 1].rstrip() + "…"


@contextmanager
def waiting(text: str) -> Iterator[Any]:
    """A spinner on stderr while something lasts; nothing where stderr is no terminal. Has `stop()`."""
    shown = console(stderr=True)
    with shown.status(text) as status:
        yield status


@contextmanager
def progress(text: str, total: int) -> Iterator[Progress]:
    """A progress bar on stderr with one task, number 0; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shown = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bars:
        bars.add_task(text, total=total)
        yield bars


def telling(bars: Progress) -> Callable[[str, int, int], None]:
    """What moves the task of a progress bar: told what is being done, how many pieces are, and how many there are."""

    def tell(what: str, n_done: int, total: int) -> None:
        bars.update(bars.task_ids[0], completed=n_done, total=total, description=short(what, 60))

    return tell
