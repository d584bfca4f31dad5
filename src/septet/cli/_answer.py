"""One answer on the terminal: the text as it is written, then one line about how it came about."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import aclosing

from septet.cli._pieces import quoted, shares
from septet.cli._terminal import COLOURS, console, visible, waiting
from septet.core.errors import RunError
from septet.core.money import dollars
from septet.core.types import Answer, Piece, Query
from septet.engine.house import Asked, Request
from septet.engine.plan_runner import Want

BLENDED = (
    (79, 203, 230),
    (255, 190, 80),
    (244, 127, 192),
    (79, 208, 125),
    (123, 150, 255),
    (255, 110, 100),
    (190, 255, 250),
    (255, 250, 170),
)
"""The colours of `COLOURS` in red, green and blue, to be blended where a terminal can show that."""


class Writer:
    """Writes pieces to standard output; on a terminal, coloured by the member that supported each most.

    With `pieces`, the colours of the members are blended by their shares, and every second piece is underlined,
    so that one sees where they end; where there are no colours, each piece is a line with its shares.
    """

    def __init__(self, members: tuple[str, ...], *, pieces: bool = False) -> None:
        self.console = console()
        self.pieces, self.n_pieces = pieces, 0
        self.rgb_of = {name: BLENDED[i % len(BLENDED)] for i, name in enumerate(members)}
        self.colour_of = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(members)}
        self.coloured = False
        self.wrote = ""

    def piece(self, piece: Piece) -> None:
        """One piece, now."""
        self.n_pieces += 1
        if self.pieces and (not self.console.is_terminal or self.console.color_system is None):
            print(f"{quoted(piece.text)}  {shares(piece.support)}".rstrip(), flush=True)
            return
        self.wrote = piece.text or self.wrote
        if not self.console.is_terminal:
            # exactly what was answered: a pipe gets every byte
            sys.stdout.write(piece.text)
            sys.stdout.flush()
            return
        style = self._blend(piece.support) if self.pieces else self._colour(piece.support)
        self.console.print(visible(piece.text), end="", style=style)

    def _blend(self, support: Mapping[str, float]) -> str:
        line = " underline" if self.n_pieces % 2 == 0 else ""
        total = sum(share for name, share in support.items() if name in self.rgb_of)
        if not total > 0:
            return f"default{line}"
        self.coloured = True
        parts = [(self.rgb_of[name], share / total) for name, share in support.items() if name in self.rgb_of]
        red, green, blue = (round(sum(rgb[i] * share for rgb, share in parts)) for i in range(3))
        return f"rgb({red},{green},{blue}){line}"

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

            if self.pieces:
                colours = {name: "rgb({},{},{})".format(*rgb) for name, rgb in self.rgb_of.items()}
            else:
                colours = self.colour_of
            parts = [Text(f"■ {name}  ", style=colour) for name, colour in colours.items()]
            said = "blended by support: " if self.pieces else "most supported by: "
            self.console.print(Text.assemble(said, *parts))


def request_of(asked: Asked, query: Query, *, stream: bool) -> Request:
    """A request that has its trace id, and has not begun."""
    return Request(asked, query, Want("stream" if stream else "complete"), False)


async def whole(request: Request) -> Answer:
    """The answer of a request, with nothing shown but that it is waited for."""
    with waiting(f"{request.asked.name} …"):
        return await request.answer(_nowhere)


async def _nowhere(piece: Piece) -> None:
    """Where pieces go when nobody streams."""


async def show(request: Request, *, stream: bool, pieces: bool = False) -> Answer:
    """Asks and prints the answer, or its pieces, and its summary. What was answered before an error is printed,
    too."""
    writer = Writer(tuple(m.name for m in request.asked.ensemble.members), pieces=pieces)
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
