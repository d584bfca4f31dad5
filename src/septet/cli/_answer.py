"""One answer on the terminal: the text as it is written, then one line about how it came about."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import aclosing

from septet.cli._terminal import COLOURS, console, dollars, visible, waiting
from septet.core.errors import RunError
from septet.core.types import Answer, Piece, Query
from septet.engine.house import Asked, Request
from septet.engine.plan_runner import Want


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


def request_of(asked: Asked, query: Query, *, stream: bool) -> Request:
    """A request that has its trace id, and has not begun."""
    return Request(asked, query, Want("stream" if stream else "complete"), False)


async def whole(request: Request) -> Answer:
    """The answer of a request, with nothing shown but that it is waited for."""
    with waiting(f"{request.asked.name} …"):
        return await request.answer(_nowhere)


async def _nowhere(piece: Piece) -> None:
    """Where pieces go when nobody streams."""


async def show(request: Request, *, stream: bool) -> Answer:
    """Asks and prints the answer and its summary. What was answered before an error is printed, too."""
    writer = Writer(tuple(m.name for m in request.asked.ensemble.members))
    try:
        answer = await (_streamed(request, writer) if stream else whole(request))
        if not stream:
            for piece in answer.pieces or (Piece(answer.text),):
                writer.piece(piece)
    except RunError as error:
        if not stream and error.partial is not None:
            writer.piece(Piece(error.partial.text))
        raise
    finally:
        writer.end()
    print(summary(answer, request.asked), file=sys.stderr)
    return answer


async def _streamed(request: Request, writer: Writer) -> Answer:
    answer: Answer | None = None
    with waiting(f"{request.asked.name} …") as spinner:
        async with aclosing(request.pieces()) as items:
            async for item in items:
                spinner.stop()
                if isinstance(item, Answer):
                    answer = item
                else:
                    writer.piece(item)
    assert answer is not None, "a stream ends with its answer"
    return answer


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


def interrupted(request: Request) -> str:
    """What to say after Ctrl-C."""
    return f"interrupted; what was done is kept: septet trace {request.run.id}"
