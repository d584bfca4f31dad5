"""`septet data`: outcome tables, checked, described, taken over from other formats, and made from what was served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from septet.bench.importers import formats, read_format
from septet.bench.served import fought
from septet.bench.served import served as served_by
from septet.bench.table_check import Problem, price_problem, problems
from septet.bench.table_check import check as problems_of
from septet.bench.table_facts import describe as facts_of
from septet.bench.table_facts import describe_battles
from septet.bench.tables import Source, read_source, write, write_battles
from septet.cli._options import AsJson, store_path
from septet.cli._terminal import console, new_table, print_json, print_table, waiting
from septet.core.errors import BadParameter, UnknownName
from septet.core.money import Price, dollars
from septet.core.table import Table
from septet.core.types import Battle
from septet.engine.config import Config
from septet.engine.config import read as read_config

SUBVERBS: Mapping[str, str] = {
    "check": "Say what is wrong with a table of outcomes or battles; errors end with exit code 2.",
    "describe": "Show counts, what is missing, means per model, best single model, random and oracle.",
    "import": "Take over outcomes or battles from another format.",
    "export": "Write what an ensemble served, with its ratings, as a table of outcomes.",
}

TablePath = Annotated[
    Path, typer.Argument(metavar="PATH", help="A .jsonl or .parquet file, or a folder of parquet files.")
]
Out = Annotated[Path, typer.Option("--out", help="The .parquet or .jsonl file to write.")]


def data(name: Annotated[str, typer.Argument(metavar="[VERB]", help="One of the verbs below.")] = "") -> None:
    """Says which verbs there are."""
    if name:
        raise UnknownName("verb of data", name, SUBVERBS)
    print("\n".join(f"septet data {verb:<9}{sentence}" for verb, sentence in SUBVERBS.items()))


def check(
    path: TablePath,
    model: Annotated[
        list[str],
        typer.Option("--model", "-m", help="A model that must occur, and no other; may be repeated."),
    ] = [],  # noqa: B006  # typer reads the default and never changes it
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="A configuration: its prices are held against the costs."),
    ] = None,
    json: AsJson = False,
) -> int:
    """Prints the problems."""
    stated = None if config is None else prices_of(read_config(config))
    with waiting(f"checking {path.name} …"):
        found = problems_of(path, models=model, prices=stated)
    wrong = [p for name, price in (stated or {}).items() if (p := price_problem(name, price)) is not None]
    found = [*(p for p in wrong if p not in found), *found]
    errors = sum(p.level == "error" for p in found)
    if json:
        print_json({"path": str(path), "errors": errors, "problems": [asdict(p) for p in found]})
    else:
        print("\n".join(str(p) for p in found) or f"{path}: nothing is wrong")
    return 2 if errors else 0


def describe(path: TablePath, json: AsJson = False) -> None:
    """Prints the facts."""
    with waiting(f"reading {path.name} …"):
        source = read_source(path)
        about = describe_battles(source.battles) if source.table is None else facts_of(source.table)
    facts = {"name": source.name, "sha256": source.sha256, **about}
    if json:
        print_json(facts)
    elif source.table is None:
        _print_battles(facts)
    else:
        _print(facts)


def import_(
    format: Annotated[str, typer.Argument(metavar="FORMAT", help="|".join(formats()))],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file or folder in that format.")],
    out: Out,
    json: AsJson = False,
) -> None:
    """Reads, writes, and says what is wrong with what came out."""
    _check_out(out)
    with waiting(f"importing {path.name} …"):
        found = read_format(format, path)
        _write(found, out)
    report = {"format": format, **_written(found, out)}
    wrong = problems(_source(found, out.name))
    if json:
        print_json(report | {"problems": [asdict(p) for p in wrong]})
        return
    print(_summary(report))
    _say(wrong)


def export(
    ensemble: Annotated[str, typer.Option("--ensemble", "-e", help="The ensemble or member that answered.")],
    out: Out,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The configuration file that names the store.")
    ] = None,
    battles: Annotated[
        bool, typer.Option("--battles", help="The comparisons that were given, instead of the answers.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Reads the store, and writes."""
    _check_out(out)
    store = Path(store_path(config))
    if battles:
        fights = fought(store, ensemble)
        if not fights:
            raise BadParameter(
                "ensemble", ensemble, f"must have been compared; {store.name} has no battle of it"
            )
        _write(fights, out)
        report = _written(fights, out)
        facts: dict[str, Any] = {}
    else:
        answers = served_by(store, ensemble)
        if not len(answers.table):
            rule = (
                f"must have answers of single members; all {answers.requests} requests were answered jointly"
            )
            raise BadParameter("ensemble", ensemble, rule)
        _write(answers.table, out)
        report = _written(answers.table, out)
        facts = {"requests": answers.requests, "rated": answers.rated, "skipped": answers.silent}
    if json:
        print_json({"ensemble": ensemble, **report, **facts})
        return
    print(_summary(report))
    if facts:
        print(f"from {facts['requests']} requests, {facts['rated']} of them rated")
    if facts.get("skipped"):
        print(f"left out: {facts['skipped']} that no single member answered")


def __getattr__(name: str) -> Any:
    """`import` is a word of Python, so its function bears another name."""
    if name == "import":
        return import_
    raise AttributeError(name)


# --- what is read and written ------------------------------------------------------------------------------


def prices_of(config: Config) -> dict[str, Price]:
    """The prices of a file's members."""
    return {name: member.price for name, member in config.members.items() if member.price is not None}


def _check_out(out: Path) -> None:
    if out.suffix not in (".parquet", ".jsonl"):
        raise BadParameter("--out", str(out), "must end in .parquet or .jsonl")


def _write(found: Table | Sequence[Battle], out: Path) -> None:
    if isinstance(found, Table):
        write(found, out)
    else:
        write_battles(found, out)


def _source(found: Table | Sequence[Battle], name: str) -> Source:
    if isinstance(found, Table):
        return Source(name, found, (), (), "")
    return Source(name, None, tuple(found), (), "")


def _written(found: Table | Sequence[Battle], out: Path) -> dict[str, Any]:
    if isinstance(found, Table):
        counts = {"rows": len(found), "queries": len(found.queries), "models": list(found.members)}
        return {"out": str(out), "kind": "outcomes", **counts}
    models = list(dict.fromkeys(m for b in found for m in (b.a, b.b)))
    queries = len({b.query for b in found})
    return {"out": str(out), "kind": "battles", "rows": len(found), "queries": queries, "models": models}


def _summary(report: Mapping[str, Any]) -> str:
    what = "answers" if report["kind"] == "outcomes" else "battles"
    size = f"{report['rows']} {what}, {report['queries']} questions × {len(report['models'])} models"
    return f"{report['out']}: {size}"


def _say(found: Sequence[Problem]) -> None:
    """The problems of what was written, beside the result."""
    shown = console(stderr=True)
    for problem in found:
        shown.print(str(problem))


# --- tables ------------------------------------------------------------------------------------------------


def _print(facts: Mapping[str, Any]) -> None:
    print(
        f"{facts['name']}: {facts['rows']} answers, {facts['queries']} questions × {facts['models']} models, "
        f"{facts['samples']} sample{'' if facts['samples'] == 1 else 's'} at most, "
        f"{facts['missing_scores']:.1%} of the scores missing, sha256 {facts['sha256'][:12]}"
    )
    for what in ("tasks", "splits"):
        named = {name: n for name, n in facts[what].items() if name != "all"}
        if named:
            print(f"{what}: {', '.join(f'{name} {n}' for name, n in named.items())}")
    table = new_table("model", "answers", "score", "missing", "usd per call")
    for row in sorted(facts["members"], key=lambda m: -(m["score"] or 0.0)):
        cells = (str(row["rows"]), _share(row["score"]), f"{row['missing_scores']:.1%}")
        table.add_row(row["model"], *cells, "–" if row["usd"] is None else dollars(row["usd"]))
    print_table(table)
    table = new_table("split", "questions", "random", "best on train", "best here", "oracle")
    for name, row in facts["bounds"].items():
        if row["scored"]:
            chosen = f"{_share(row['best_score'])} {row['best']}"
            here = f"{_share(row['best_here_score'])} {row['best_here']}"
            numbers = (_share(row["random"]), chosen, here, _share(row["oracle"]))
            table.add_row(name, str(row["scored"]), *numbers)
    print_table(table)


def _print_battles(facts: Mapping[str, Any]) -> None:
    print(
        f"{facts['name']}: {facts['battles']} battles on {facts['queries']} questions, {facts['models']} models, "
        f"{facts['ties']} ties, sha256 {facts['sha256'][:12]}"
    )
    table = new_table("model", "battles", "share of wins")
    for row in facts["members"]:
        table.add_row(row["model"], str(row["battles"]), f"{row['win_share']:.3f}")
    print_table(table)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
