"""Asking a model for a new answer that takes up several others, so that none of them can pass for an instruction."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np

from septet.core.types import Message, Query
from septet.parts.answers.blocks import blocks, nonce_of

Kind = Literal["mixture", "best", "advice"]
"""mixture: critically put together (Mixture-of-Agents) · best: the most consistent one is named by its number ·
advice: one answer, as another student's, to be used where it helps and not to be spoken of (DER)."""


def fusion(query: Query, texts: Sequence[str], kind: Kind, rng: np.random.Generator) -> Query:
    """The query with the answers of others before its question, numbered, each in a block that a nonce closes.

    The nonce is drawn anew; a text that holds it by chance or by design loses it, and invisible characters are left
    out, so an answer cannot close its block. What the outer query says about sampling stays.
    """
    nonce = nonce_of(rng)
    answers = blocks(texts, nonce)
    said = prompts()[kind].format(n=len(texts), nonce=nonce, answers=answers, question=query.text)
    if query.raw is not None:
        return query.but(raw=said)
    *before, last = query.messages
    if last.role != "user":
        return query.but(messages=(*query.messages, Message("user", said)))
    return query.but(messages=(*before, Message("user", said, last.extra)))


@cache
def prompts() -> Mapping[str, str]:
    """The prompts by kind; `version` changes with any of them."""
    text = files("septet.parts.answers").joinpath("regenerate.prompts.toml").read_text(encoding="utf-8")
    return {name: said for name, said in tomllib.loads(text).items() if name != "version"}
