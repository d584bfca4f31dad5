"""Speed and memory as ratios of one run: `python benchmarks/run.py [NAME …] [--json FILE] [--quick]`.

A missed aim is printed and fails nothing: machines are noisy, and what is read here is a number, not a verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib import import_module
from pathlib import Path

from figures import Section, Setting

HERE = Path(__file__).parent
NAMES = (
    "fused",
    "gac",
    "fed",
    "growth",
    "schedules",
    "naive",
    "candidates",
    "vocabularies",
    "after",
    "start",
    "weight",
)
DECODING = NAMES[:-3]


def main(arguments: list[str]) -> int:
    """Runs the benchmarks that are named, or all."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in (*NAMES, "decoding")]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    wanted = [n for name in options.names for n in (DECODING if name == "decoding" else (name,))]
    setting = Setting(options.config, options.ensemble, options.quick)
    sections: dict[str, Section] = {}
    print(_machine())
    for name in dict.fromkeys(wanted or NAMES):
        sections[name] = import_module(name).run(setting)
        print(f"\n{sections[name].text()}", flush=True)
    if options.json:
        made = {"machine": _machine(), **{name: section.json() for name, section in sections.items()}}
        options.json.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}, or decoding; else all"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    parser.add_argument("--quick", action="store_true", help="a few pieces and samples, to see that it runs")
    parser.add_argument(
        "--config", type=Path, default=HERE / "two-models.toml", help="what fused and fed decode with"
    )
    parser.add_argument("--ensemble", default="fused", help="the token ensemble of that configuration")
    return parser


def _machine() -> str:
    """What the numbers were measured on; a busy machine shows in its load."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}{load}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
