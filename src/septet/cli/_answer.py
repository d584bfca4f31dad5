"""One answer on the terminal: the text as it is written, then one line about how it came about."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from septet.cli._terminal import COLOURS, console, dollars, visible, waiting
from septet.core.errors import RunError
from septet.core.types import Answer, Piece, Query
from septet.engine.wire import query_json

if TYPE_CHECKING:
    from septet.engine.house import Asked, House


class Writer:
    """Writes pieces to standard output; on a terminal, coloured by the member that supported each most."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self.console = console()
        self.colour_of = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(members)}
        self.coloured = False
        self.wrote = ""

    def piece(self, piece: Piece) -> None:
        """One piece, now."""
        self.wrote = piece.text or self.wrote
        if not self.console.is_terminal:
            # exactly what was answered: a pipe gets every byte
            sys.stdout.write(piece.text)
            sys.stdout.flush()
            return
        style = self._colour(piece.support)
        self.console.print(visible(piece.text), end="", style=style)

    def _colour(self, support: Mapping[str, float]) -> str | None:
        if len(support) < 2:
            return None
        self.coloured = True
        return self.colour_of.get(max(support, key=lambda name: support[name]))

    def end(self) -> None:
        """A line break after the text, and the legend where there were colours."""
        if self.wrote and not self.wrote.endswith("\n"):
            print(flush=True)
        if self.coloured and self.console.color_system is not None:
            from rich.text import Text

            parts = [Text(f"■ {name}  ", style=colour) for name, colour in self.colour_of.items()]
            self.console.print(Text.assemble("most supported by: ", *parts))


async def show(house: House, name: str, query: Query, *, stream: bool) -> Answer:
    """Asks and prints the answer and its summary. What was answered before an error is printed, too."""
    asked = house[name]
    writer = Writer(tuple(m.name for m in asked.ensemble.members))
    try:
        answer = await _written(asked, query, writer, stream)
    except RunError as error:
        if not stream and error.partial is not None:
            writer.piece(Piece(error.partial.text))
        writer.end()
        raise
    except asyncio.CancelledError:
        writer.end()
        raise
    writer.end()
    print(summary(answer, asked), file=sys.stderr)
    return answer


async def _written(asked: Asked, query: Query, writer: Writer, stream: bool) -> Answer:
    answer: Answer | None = None
    with waiting(f"{asked.name} …") as spinner:
        async with aclosing(cast(Any, asked.stream(query) if stream else _whole(asked, query))) as items:
            async for item in items:
                spinner.stop()
                if isinstance(item, Answer):
                    answer = item
                else:
                    writer.piece(item)
    assert answer is not None, "a stream ends with its answer"
    return answer


async def _whole(asked: Asked, query: Query) -> Any:
    """The answer in the form of a stream, its pieces all at once."""
    answer = await asked.ask(query)
    for piece in answer.pieces or (Piece(answer.text),):
        yield piece
    yield answer


def summary(answer: Answer, asked: Asked) -> str:
    """One line: who, why, seconds, tokens, USD, trace id."""
    verdict, usage = answer.verdict, answer.usage
    parts = [f"{answer.ensemble} ({asked.ensemble.method.name})"]
    if verdict.chosen is not None and answer.candidates:
        chosen = answer.candidates[verdict.chosen]
        parts.append(f"answer of {chosen.member}, {len(answer.candidates)} asked for")
    if verdict.reason:
        parts.append(visible(verdict.reason).replace("\n", " "))
    if answer.finish == "length":
        parts.append("cut off at max_tokens")
    parts += [
        f"{answer.seconds:.1f} s",
        f"{usage.prompt_tokens}→{usage.completion_tokens} tokens",
        dollars(answer.usd),
        f"trace {answer.trace_id}",
    ]
    return " · ".join(parts)


def cancelled_id(house: House, name: str, query: Query, began: float) -> str:
    """The trace id of the request that was just interrupted; "" if it had not begun."""
    asked = query_json(query)
    for row in house.store.recent(20):
        if (row["status"], row["ensemble"], row["query"]) == ("cancelled", name, asked) and row[
            "at"
        ] >= began:
            return str(row["id"])
    return ""


class Interruptible:
    """Notes the trace id of a request that Ctrl-C cancels, while the store is still open."""

    def __init__(self, house: House, name: str, query: Query) -> None:
        self.house, self.name, self.query = house, name, query
        self.began = time.time()
        self.trace_id = ""

    def __enter__(self) -> Interruptible:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, asyncio.CancelledError):
            self.trace_id = cancelled_id(self.house, self.name, self.query, self.began)

    @property
    def message(self) -> str:
        """What to say about it."""
        kept = f"; what was done is kept: septet trace {self.trace_id}" if self.trace_id else ""
        return f"interrupted{kept}"
