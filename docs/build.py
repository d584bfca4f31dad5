"""Writes the generated pages: method cards, the backends, the command line's help, the configuration's schema, and
the tables of routers, of methods on recorded answers and of decoding among the reproductions.

python docs/build.py writes them; with --check it names every page that is stale, and fails.
Only what comes with septet is written down here; nothing heavy is imported.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from answers_tables import answers_page
from decoding_results import decoding_page
from markdown_tables import NOTE, code, link, table

from septet.bench import standings
from septet.bench.duplicates import AGGREGATORS, duplicate_safe
from septet.bench.repeats import moved
from septet.cli import VERBS
from septet.cli import main as cli
from septet.cli._facts import backend_json, method_json, shown, words
from septet.core.facets import Family
from septet.engine import catalogue
from septet.engine.config import schema

DOCS = Path(__file__).parent

FAMILIES: Mapping[Family, str] = {
    Family.PRETRAINED: "pretrained routers: a fit on recorded outcomes says who answers",
    Family.NONPRETRAINED: "non-pretrained routers: training-free, or learning mainly while they serve",
    Family.TOKEN: "token level: members share one answer, one fused token at a time",
    Family.SPAN: "span level: the best of the members' next few words, again and again",
    Family.PROCESS: "process level: the best path of reasoning steps",
    Family.NONCASCADE: "non-cascade: complete answers of all members, then a selection or a new text",
    Family.CASCADE: "cascade: one member after the other, until an answer is good enough",
}


def pages() -> dict[Path, str]:
    """Every generated page by its path under docs/."""
    methods = [method_json(name) for name in built_in("methods")]
    methods.sort(key=lambda m: (m["family"], m["name"]))
    found = {Path("methods") / f"{m['name']}.md": method_page(m) for m in methods}
    found[Path("methods/README.md")] = methods_page(methods)
    found[Path("backends.md")] = backends_page([backend_json(name) for name in built_in("backends")])
    found[Path("cli.md")] = cli_page()
    found[Path("reproductions/README.md")] = reproductions_page()
    found[Path("reproductions/answers.md")] = answers_page(DOCS / "reproductions")
    found[Path("reproductions/decoding.md")] = decoding_page(DOCS / "reproductions")
    found[Path("config-schema.json")] = json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
    return found


def built_in(kind: catalogue.Kind) -> list[str]:
    """The names of what septet itself brings; an installed plug-in has its own pages."""
    return sorted(name for name, entry in catalogue.entries(kind).items() if entry.owner == "septet")


# --- methods -------------------------------------------------------------------------------------------


def method_page(m: Mapping[str, Any]) -> str:
    """The card of one method."""
    facets = {k: shown(v) for k, v in m["facets"].items() if k != "family" and v is not None}
    rows = {
        "family": f"{m['family'][:2]}, {FAMILIES[Family(m['family'])].partition(':')[0]}",
        "paper": link(m["paper"]),
        **{name.replace("_", "-"): value for name, value in facets.items()},
        "members": pool_rule(m["pool"]),
        "each must offer": words(m["needs"]),
        **{f"role `{role}` must offer": words(caps) for role, caps in m["roles"].items()},
        "learns": learns(m),
        "decides over": {"query": "one query", "dataset": "all queries of a task", "stream": "a stream"}[
            m["scope"]
        ],
        "order of members": "changes nothing but ties" if m["permutes"] else "means something",
    }
    if Family(m["family"]) is Family.NONCASCADE:
        rows["duplicate-safe"] = duplicate_safety(m)
    return (
        f"{NOTE}# {m['name']}\n\n{m['idea']}\n\n*{m['title']}*\n\n"
        + table(("", ""), rows.items())
        + "\n## Parameters\n\n"
        + parameters(m["parameters"])
        + "\n## Where it differs from the paper\n\n"
        + ("".join(f"- {d}\n" for d in m["differs"]) or "Nowhere that we know of.\n")
        + f"\n## Reproduction\n\n{reproduction(m['name'])}\n"
    )


def reproduction(name: str) -> str:
    """Where the note on the paper's claim is, or that there is none yet."""
    if (DOCS / "reproductions" / f"{name}.md").exists():
        return f"[What the paper claims and what we measured](../reproductions/{name}.md)"
    return f"None yet; it will be `docs/reproductions/{name}.md`."


def methods_page(methods: Sequence[Mapping[str, Any]]) -> str:
    """The table of all methods, family by family."""
    text = (
        f"{NOTE}# Methods\n\nThe families are those of arXiv 2502.18036. Needs are those of the defaults.\n"
    )
    for family, sentence in FAMILIES.items():
        columns = ["method", "paper", "idea", "learns", "members must offer"]
        rows = [
            [f"[{m['name']}]({m['name']}.md)", link(m["paper"]), m["idea"], learns(m), needs(m)]
            for m in methods
            if m["family"] == family
        ]
        text += f"\n## {family.code}, {sentence}\n\n"
        if family is Family.NONCASCADE:
            text += REPEATED
            columns.append("duplicate-safe")
            rows = [
                [*row, duplicate_safety(m)]
                for row, m in zip(rows, (m for m in methods if m["family"] == family), strict=True)
            ]
        text += table(columns, rows) if rows else "None.\n"
    return text + aggregators_section()


REPEATED = (
    "Duplicate-safe: neither the answer nor the confidence changes when a member is there twice, with the same answers"
    " and under another name, also in the fit. Measured by running each method with its defaults on the script of"
    " `bench/repeats.py`: judges, where they are asked, are the members; a fuser writes down all that it is shown.\n\n"
)


def duplicate_safety(m: Mapping[str, Any]) -> str:
    """Whether a member that only repeats another moves a non-cascade method, as measured."""
    return str(moved(catalogue.get("methods", m["name"])))


def aggregators_section() -> str:
    """Which rules that combine answers a repeated voter moves, as measured."""
    rows = [
        (name, rule.repeated, "yes" if duplicate_safe(rule) else "no") for name, rule in AGGREGATORS.items()
    ]
    return (
        "\n## Aggregators\n\nDuplicate-safe: no posterior changes by more than 10⁻⁶ when any one of those who are"
        " repeated is there twice, in the small cases of `bench/duplicates.py`.\n\n"
        + table(("aggregator", "who is repeated", "duplicate-safe"), rows)
    )


def needs(m: Mapping[str, Any]) -> str:
    """What members and roles must offer."""
    return "; ".join([words(m["needs"]), *(f"{role}: {words(c)}" for role, c in m["roles"].items())])


def learns(m: Mapping[str, Any]) -> str:
    """When a method learns, in words."""
    kinds = (("fitted beforehand (`septet fit`)", m["trained"]), ("while it serves", m["online"]))
    return ", then ".join(kind for kind, is_so in kinds if is_so) or "nothing"


def pool_rule(pool: Mapping[str, Any]) -> str:
    """How many members, of what kind, in what order."""
    said = [f"{pool['at_least']} to {pool['at_most']}" if pool["at_most"] else f"{pool['at_least']} or more"]
    said += ["all with one vocabulary"] if pool["vocabulary"] == "same" else []
    said += [f"in the order: {pool['order']}"] if pool["order"] != "none" else []
    said += ["each with a price"] if pool["priced"] else []
    return ", ".join(said)


# --- backends ------------------------------------------------------------------------------------------


def backends_page(backends: Sequence[Mapping[str, Any]]) -> str:
    """The cards of all backends."""
    text = f"{NOTE}# Backends\n\nWhat a member's `backend` may be, and the options that go with it.\n"
    for b in backends:
        rows = {
            "offers": b["offers"],
            "install": f'`pip install "septet[{b["extra"]}]"`' if b["extra"] else "nothing more than septet",
        }
        tested = "".join(f"- {t}\n" for t in b["tested"]) or "- not said\n"
        text += f"\n## {b['name']}\n\n{b['title']}.\n\n{table(('', ''), rows.items())}"
        text += f"\nTested against:\n\n{tested}\n{parameters(b['options'])}"
    return text


# --- the command line ----------------------------------------------------------------------------------


def cli_page() -> str:
    """The help of every verb, as a terminal of 100 columns shows it."""
    text = f"{NOTE}# The command line\n\n```console\n$ septet --help\n{help_of()}```\n"
    for verb in VERBS:
        text += f"\n## {verb}\n\n```console\n$ septet {verb} --help\n{help_of(verb)}```\n"
        for below in getattr(import_module(f"septet.cli.{verb}"), "SUBVERBS", {}):
            text += f"\n### {verb} {below}\n\n```console\n$ septet {verb} {below} --help\n{help_of(verb, below)}```\n"
    return text


def help_of(*verb: str) -> str:
    """What `septet VERB --help` prints where there is no terminal."""
    said = io.StringIO()
    plain = {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    with patch.dict(os.environ, plain), redirect_stdout(said):
        exit_code = cli([*verb, "--help"])
    if exit_code:
        raise RuntimeError(f"septet {' '.join(verb)} --help ended with {exit_code}")
    return "".join(f"{line.rstrip()}\n" for line in said.getvalue().strip().splitlines())


# --- reproductions -------------------------------------------------------------------------------------

BEGIN, END = (
    "<!-- routers: written by `make docs` from results/routers-*.json -->\n",
    "<!-- end of routers -->\n",
)
"""What stands between them is generated; the rest of the page is written by hand."""

COLUMNS = (
    "router",
    "split",
    "n",
    "quality [95 %]",
    "USD per 1,000 [95 %]",
    "− best single",
    "− kNN",
    "QNC [95 %]",
    "published",
)


def reproductions_page() -> str:
    """The page of reproductions, with the tables of routers made anew."""
    folder = DOCS / "reproductions"
    text = (folder / "README.md").read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("docs/reproductions/README.md has lost the marks between which the routers stand")
    return f"{before}{BEGIN}{routers_section(folder)}{END}{after}"


def routers_section(folder: Path) -> str:
    """A table per set of outcomes: bounds in brackets, then routers by falling quality at λ = 0."""
    published = tomllib.loads((folder / "published.toml").read_text(encoding="utf-8"))["published"]
    files = sorted((folder / "results").glob("routers-*.json"))
    records = [json.loads(f.read_text(encoding="utf-8")) for f in files]
    conventions = dict.fromkeys(f"({b['name']}): {b['convention']}." for r in records for b in r["bounds"])
    text = f"\n{' '.join(conventions)}\n" if records else ""
    for record in records:
        text += f"\n### {record['table']}\n\n{told(record)}\n\n"
        rows = [router_row(row, record["table"], published) for row in standing(record)]
        text += table(COLUMNS, rows)
    return text + "\n" if text else ""


def told(record: Mapping[str, Any]) -> str:
    """What a table was made from, in a paragraph."""
    made = (
        f"{record['questions']} questions, {len(record['members'])} members, sha256 {record['sha256'][:12]}."
    )
    notes = "".join(f" {note[0].upper()}{note[1:]}." for note in record["notes"])
    return f"{made}{notes}"


def standing(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a record, split by split: bounds as they come, routers by falling quality."""
    rows = [{**b, "router": f"({b['name']})", "variant": "", "is_bound": True} for b in record["bounds"]]
    rows += sorted(record["routers"], key=lambda r: -(r["quality"]["value"] or 0.0))
    order = list(dict.fromkeys(r["split"] for r in rows))
    return sorted(rows, key=lambda r: order.index(r["split"]))


def router_row(row: Mapping[str, Any], of: str, published: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """One bound or router under `COLUMNS`."""
    said = [
        f"{p['says']} ({link(p['source'])})"
        for p in published
        if p["table"] == of and p["router"] == row["router"].strip("()")
    ]
    usd = {k: None if v is None else 1000 * v for k, v in row["usd"].items()}
    name = row["router"] if row.get("is_bound") else note_link(row["router"])
    return (
        name + (f" {code(row['variant'])}" if row["variant"] else ""),
        row["split"],
        str(row["n_test"]),
        standings.estimate(row["quality"]),
        standings.estimate(usd, ".3g"),
        standings.signed(row.get("minus_best_single")),
        standings.signed(row.get("minus_reference")),
        standings.estimate(row["metrics"]["QNC"]) if "QNC" in row.get("metrics", {}) else "",
        "; ".join(said),
    )


def note_link(name: str) -> str:
    """A method, linked to its note where there is one."""
    return f"[{name}]({name}.md)" if (DOCS / "reproductions" / f"{name}.md").exists() else name


# --- tables --------------------------------------------------------------------------------------------


def parameters(found: Sequence[Mapping[str, Any]]) -> str:
    """A table of hyper-parameters or options."""
    if not found:
        return "None.\n"
    rows = [(f"`{p['name']}`", code(shown(p["default"])), p["rule"], p["sentence"]) for p in found]
    return table(("name", "default", "rule", "meaning"), rows)


# --- the command ---------------------------------------------------------------------------------------


def stale(docs: Path) -> list[str]:
    """The pages under `docs` that differ from what would be written, and those that would not be."""
    new = pages()
    old = [p.relative_to(docs) for p in (docs / "methods").glob("*.md")]
    differing = [
        p for p, text in new.items() if not (docs / p).is_file() or (docs / p).read_text("utf-8") != text
    ]
    return sorted(str(p) for p in {*differing, *(p for p in old if p not in new)})


def write(docs: Path) -> None:
    """Writes every page and removes the cards of methods that are gone."""
    new = pages()
    for path in (docs / "methods").glob("*.md"):
        if path.relative_to(docs) not in new:
            path.unlink()
    for path, text in new.items():
        (docs / path).parent.mkdir(parents=True, exist_ok=True)
        (docs / path).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is stale")
    parser.add_argument("--docs", type=Path, default=DOCS, help="the folder of the pages")
    given = parser.parse_args(arguments)
    if not given.check:
        write(given.docs)
        return 0
    found = stale(given.docs)
    for page in found:
        sys.stderr.write(f"stale: docs/{page}\n")
    if found:
        sys.stderr.write("write them anew with: make docs\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
