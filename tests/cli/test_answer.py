"""Pieces on the terminal: colours by the member that supported them most."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from septet.cli._answer import Writer, show
from septet.core.errors import LimitReached
from septet.core.types import Answer, Piece, Verdict


def terminal(writer: Writer, colours: Any = "standard") -> io.StringIO:
    written = io.StringIO()
    writer.console = Console(
        file=written, force_terminal=True, color_system=colours, highlight=False, markup=False
    )
    return written


def test_a_piece_has_the_colour_of_the_member_that_supported_it_most(capsys: pytest.CaptureFixture[str]):
    writer = Writer(("ada", "bob"))
    written = terminal(writer)
    writer.piece(Piece("one", {"ada": 0.9, "bob": 0.1}))
    writer.piece(Piece("two", {"ada": 0.2, "bob": 0.8}))
    writer.end()
    cyan, yellow, plain = "\x1b[36m", "\x1b[33m", "\x1b[0m"
    legend = f"most supported by: {cyan}■ ada  {plain}{yellow}■ bob  {plain}\n"
    assert written.getvalue() == f"{cyan}one{plain}{yellow}two{plain}{legend}"


def test_a_piece_of_one_member_has_no_colour_and_there_is_no_legend(capsys: pytest.CaptureFixture[str]):
    writer = Writer(("ada", "bob"))
    written = terminal(writer)
    writer.piece(Piece("one", {"ada": 1.0}))
    writer.end()
    assert written.getvalue() == "one"


def test_pieces_are_shown_in_blended_colours_and_every_second_one_is_underlined():
    writer = Writer(("ada", "bob"), pieces=True)
    written = terminal(writer, "truecolor")
    writer.piece(Piece("one", {"ada": 1.0, "bob": 0.0}))
    writer.piece(Piece("two", {"ada": 0.25, "bob": 0.75}))
    writer.piece(Piece("three", {}))
    writer.end()
    # a quarter of (79, 203, 230) and three quarters of (255, 190, 80)
    text = "\x1b[38;2;79;203;230mone\x1b[0m\x1b[4;38;2;211;193;118mtwo\x1b[0mthree"
    ada, bob = "\x1b[38;2;79;203;230m■ ada  \x1b[0m", "\x1b[38;2;255;190;80m■ bob  \x1b[0m"
    assert (
        written.getvalue().replace("\x1b[39mthree\x1b[0m", "three")
        == f"{text}blended by support: {ada}{bob}\n"
    )


def test_a_terminal_without_colours_gets_the_pieces_as_lines(capsys: pytest.CaptureFixture[str]):
    writer = Writer(("ada", "bob"), pieces=True)
    terminal(writer, None)
    writer.piece(Piece("one\x1b", {"ada": 1.0, "bob": 0.0}))
    writer.end()
    assert capsys.readouterr().out == '"one␛"  ada 100%\n'


def test_a_terminal_is_never_given_an_escape_sequence_of_the_answer():
    writer = Writer(("ada",))
    written = terminal(writer)
    writer.piece(Piece("\x1b[2Jgone", {"ada": 1.0}))
    assert written.getvalue() == "␛[2Jgone"


def test_a_pipe_gets_the_answer_as_it_is(capsys: pytest.CaptureFixture[str]):
    writer = Writer(("ada",))
    writer.piece(Piece("\x1b[2J[bold]\0", {}))
    writer.end()
    assert capsys.readouterr().out == "\x1b[2J[bold]\0\n"


class Interrupted:
    """A request whose time is up after "It is" has been written."""

    asked = SimpleNamespace(name="fused", ensemble=SimpleNamespace(members=()))

    async def pieces(self) -> AsyncIterator[Piece | Answer]:
        yield Piece("It is")
        raise self.error()

    async def answer(self, on_piece: object) -> Answer:
        raise self.error()

    def error(self) -> LimitReached:
        error = LimitReached("seconds", 31.0, 30.0)
        error.partial = Answer(text="It is", verdict=Verdict(), finish="error")
        return error


@pytest.mark.parametrize("stream", [True, False])
async def test_what_was_written_before_an_error_is_printed_once(
    stream: bool, capsys: pytest.CaptureFixture[str]
):
    request: Any = Interrupted()
    with pytest.raises(LimitReached):
        await show(request, stream=stream)
    assert capsys.readouterr().out == "It is\n"
