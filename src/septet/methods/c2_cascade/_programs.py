"""Answers that are programs: found, run by an executor, and counted as what they print."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace

from septet.core.method import Asking, Seat
from septet.core.types import Completion
from septet.methods.c2_cascade._sampled import Sample
from septet.parts.answers.extract import code_of
from septet.parts.answers.vote import FAILS, outcome


def executed(samples: Sequence[Sample], executor: Seat) -> Asking[list[Sample]]:
    """The samples, those that are programs with what they print; one that fails or prints nothing says nothing."""
    read = list(samples)
    programs = {i: program for i, s in enumerate(read) if (program := program_in(s.completion)) is not None}
    if programs:
        replies = yield [executor.run(program) for program in programs.values()]
        for i, reply in zip(programs, replies, strict=True):
            printed = reply.value.output.strip() if reply.ok and reply.value.ok else ""
            said = outcome(Completion(member="", text=printed)) if printed else FAILS
            read[i] = replace(read[i], outcome=said, text=printed or None)
    return read


def program_in(completion: Completion) -> str | None:
    """The program that an answer is: its last fenced block, or all of it if it is Python that does something.

    One that sets `ans` and prints nothing prints `ans`. None: the answer is no program, or was cut off.

    >>> program_in(Completion(member="pot", text="n = 3 * 6\\nans = n"))
    'n = 3 * 6\\nans = n\\nprint(ans)'
    >>> program_in(Completion(member="cot", text="18")) is None
    True
    """
    code = code_of(completion.text)
    fenced = f"\n{code}```" in completion.text
    if completion.finish == "length":
        return None
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return code if fenced else None
    sets = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    if not (fenced or sets or "print" in calls):
        return None
    return f"{code.rstrip()}\nprint(ans)" if "ans" in sets and "print" not in calls else code
