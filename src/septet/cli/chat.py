"""`septet chat`: a conversation; every member sees the shared transcript."""

from __future__ import annotations

import asyncio
import sys

from septet.cli._answer import interrupted, request_of, show, whole
from septet.cli._options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    EnsembleName,
    MaxTokens,
    Seed,
    Settings,
    System,
    Temperature,
    TopP,
    asked_name,
    open_house,
    query_fields,
)
from septet.cli._run import report
from septet.cli._terminal import print_json
from septet.cli.trace import screen
from septet.core.errors import SeptetError
from septet.core.types import Message, Query
from septet.engine.house import House, Request
from septet.engine.wire import answer_json

COMMANDS = "/exit ends the conversation, /trace shows the calls of the last answer"


def chat(
    config: ConfigFile = DEFAULT_CONFIG,
    ensemble: EnsembleName = "",
    json: AsJson = False,
    settings: Settings = [],  # noqa: B006  # typer reads the default and never changes it
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    system: System = "",
) -> int:
    """Reads turns from standard input until /exit or its end."""
    house = open_house(config, settings)
    fields = query_fields(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    conversation = Conversation(house, asked_name(house, ensemble), system, fields, json)
    with asyncio.Runner() as runner:
        try:
            return conversation.held(runner)
        finally:
            runner.run(house.close())


class Conversation:
    """The shared transcript, and what came of the last turn."""

    def __init__(
        self, house: House, name: str, system: str, fields: dict[str, object], as_json: bool
    ) -> None:
        self.house, self.name, self.fields, self.as_json = house, name, fields, as_json
        self.turns: list[Message] = [Message("system", system)] if system else []
        self.trace_id = ""
        self.at_terminal = sys.stdin.isatty()

    def held(self, runner: asyncio.Runner) -> int:
        """Turn after turn; returns the exit code. Without a terminal the first error ends it."""
        assert self.house[self.name] is not None  # an unfit pool is refused before the first turn
        if self.at_terminal:
            print(f"{self.name}: {COMMANDS}", file=sys.stderr)
        while (line := self._line()) is not None:
            said = line.strip()
            if said == "/exit":
                break
            if said == "/trace":
                self._show_trace()
            elif said.startswith("/"):
                print(f"{said} is no command; {COMMANDS}", file=sys.stderr)
            elif said:
                code = self._turn(runner, line.rstrip("\r\n"))
                if code and not self.at_terminal:
                    return code
        return 0

    def _line(self) -> str | None:
        """The next line, or None at the end of the input."""
        try:
            if self.at_terminal:
                return input("> ")
            return sys.stdin.readline() or None
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return None

    def _turn(self, runner: asyncio.Runner, text: str) -> int:
        """One turn; a failed or interrupted one leaves the transcript as it was."""
        query = Query(messages=(*self.turns, Message("user", text)), **self.fields)  # type: ignore[arg-type]
        request = request_of(self.house[self.name], query, stream=not self.as_json)
        self.trace_id = request.run.id
        try:
            runner.run(self._answered(request))
        except KeyboardInterrupt:
            print(interrupted(request), file=sys.stderr)
            return 130
        except SeptetError as error:
            report(error, self.as_json)
            return error.exit_code
        return 0

    async def _answered(self, request: Request) -> None:
        if self.as_json:
            answer = await whole(request)
            print_json(answer_json(answer))
        else:
            answer = await show(request, stream=True)
        self.turns = [*request.query.messages, Message("assistant", answer.text)]

    def _show_trace(self) -> None:
        if not self.trace_id:
            print("nothing has been asked yet", file=sys.stderr)
            return
        print("\n".join(screen(*self.house.store.trace(self.trace_id))))
