"""The pieces of an answer in lines of text: who supported each, who agreed, what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from septet.cli._terminal import visible
from septet.core.trace import PieceEvent

MOST_LINES = 24
"""Pieces that a screen shows unless all are asked for."""

OTHERS = 2
"""Further candidates in the line of a piece."""

_ESCAPED = {ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r", ord('"'): '\\"', ord("\\"): "\\\\"}


def quoted(piece: bytes | str) -> str:
    r"""A piece on one line, between quotes; a byte that is no whole character stays visible, END is END.

    >>> print(quoted(b" caf\xc3\xa9\n"), quoted(b"\xf0\x9f"), quoted(b""))
    " café\n" "\xf0\x9f" END
    """
    if not piece:
        return "END"
    whole = piece if isinstance(piece, str) else piece.decode("utf-8", "surrogateescape")
    text = "".join(_hex(c) if 0xDC80 <= ord(c) <= 0xDCFF else c for c in whole.translate(_ESCAPED))
    return f'"{visible(text)}"'


def _hex(c: str) -> str:
    return f"\\x{ord(c) - 0xDC00:02x}"


def shares(support: Mapping[str, float]) -> str:
    """Each member's share in a piece; those without any are left out.

    >>> shares({"ada": 0.636, "bob": 0.364, "cyd": 0.0})
    'ada 64%  bob 36%'
    """
    return "  ".join(f"{name} {share:.0%}" for name, share in support.items() if share >= 0.005)


def agreed(event: PieceEvent) -> list[str]:
    """The members that would have chosen this piece themselves: no other candidate shown is more probable to them.

    >>> seen = ((b"a", 0.6, {"ada": 0.9, "bob": 0.3}), (b"b", 0.4, {"ada": 0.1, "bob": 0.7}))
    >>> facts = {"candidates": seen, "asked": ("ada", "bob"), "support": {}}
    >>> agreed(PieceEvent(request="r", path="p", number=0, at=0, piece=b"a", logp=-0.5, **facts))
    ['ada']
    """
    found = []
    for name in event.asked:
        known = {piece: own for piece, _, owns in event.candidates if (own := owns.get(name)) is not None}
        mine = known.get(event.piece)
        if mine and mine >= max(known.values()):
            found.append(name)
    return found


def lines(events: Sequence[PieceEvent], *, most: int | None = MOST_LINES) -> list[str]:
    """A heading, then one line per piece; `most` None: all of them. The pieces of one path each under it."""
    said = []
    for path in dict.fromkeys(e.path for e in events):
        same = [e for e in events if e.path == path]
        what = "piece" if any(e.candidates for e in same) else "span"
        said.append(f"{path}: {len(same)} {what}{'' if len(same) == 1 else 's'}")
        shown = same if most is None or len(same) <= most else same[: most - 1]
        rows = [_cells(e) for e in shown]
        widths = [min(max(len(row[i]) for row in rows), 36) for i in range(len(rows[0]))]
        said += [
            "  ".join(
                c.rjust(w) if i in (0, 1) else c.ljust(w)
                for i, (c, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        if len(shown) < len(same):
            said.append(f"… {len(same) - len(shown)} more: --pieces prints all, --html FILE draws them")
    return said


def _cells(e: PieceEvent) -> list[str]:
    """The columns of a piece: number, milliseconds, text, probability, support, who agreed, fed, the next best."""
    others = [(piece, p) for piece, p, _ in e.candidates if piece != e.piece and p >= 0.005][:OTHERS]
    fed = ", ".join(f"{name} {n}" for name, n in e.fed.items() if n)
    best = agreed(e)
    remarks = [
        *([f"first of {', '.join(best)}" if best else "first of none"] if e.candidates else []),
        *(["drafted"] if e.drafted else []),
    ]
    return [
        str(e.number),
        f"{1000 * e.seconds:.0f} ms",
        quoted(e.piece),
        "" if math.isnan(e.logp) else f"{math.exp(e.logp):.2f}",
        shares(e.support),
        ", ".join(remarks),
        f"fed {fed}" if fed else "",
        ("then " + "  ".join(f"{quoted(piece)} {p:.2f}" for piece, p in others)) if others else "",
    ]
