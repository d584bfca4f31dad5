"""Tables, code and links in Markdown, as the generated pages write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NOTE = "<!-- Written by `make docs`; edit what it is made from. -->\n\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(str(c).replace('|', chr(92) + '|') for c in line)} |\n" for line in lines)


def code(value: str) -> str:
    """A default as code; an empty text as nothing."""
    return f"`{value}`" if value else ""


def link(paper: str) -> str:
    """A paper as a link: arXiv ids and DOIs; anything else as it is."""
    if re.fullmatch(r"\d{4}\.\d{4,5}", paper):
        return f"[arXiv {paper}](https://arxiv.org/abs/{paper})"
    return f"[doi {paper}](https://doi.org/{paper})" if paper.startswith("10.") else paper
