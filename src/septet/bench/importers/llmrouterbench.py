"""LLMRouterBench (arXiv 2601.07206): one JSON file per data set, split and model, with a list of records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from septet.bench.importers._rows import Record, document, files, plain
from septet.core.errors import BadParameter, ConfigError
from septet.core.table import Table

SENTENCE = "LLMRouterBench's results folder: DATASET/SPLIT/MODEL/…-YYYYMMDD_HHMMSS.json, each with `records`."

_STAMP = re.compile(r"(\d{8})_(\d{6})\.json$")


def read(path: Path) -> Table:
    """The outcomes of a folder or of one file; of several runs, the latest that is no demonstration.

    The benchmark's split names a part of a data set, not what is for training, so it goes into the question's id
    and `split` stays empty. A score of null is unknown (its own loader takes it for 0). Where a file's costs are
    all 0, nobody priced the model, and cost is unknown.
    """
    latest: dict[tuple[str, str, str], tuple[str, Path]] = {}
    for file in files(path, ".json"):
        run = _run(file)
        if run.get("demo"):
            continue
        key = _named(file, run)
        stamp = "".join(found.groups()) if (found := _STAMP.search(file.name)) else ""
        if key not in latest or stamp >= latest[key][0]:
            latest[key] = (stamp, file)
    if not latest:
        raise ConfigError(f"{path} holds demonstrations only")
    return Table.of(_rows({key: file for key, (_, file) in sorted(latest.items())}), path.name)


def _run(file: Path) -> Mapping[str, Any]:
    run = document(file)
    if not isinstance(run, dict) or not isinstance(run.get("records"), list):
        raise BadParameter(file.name, type(run).__name__, "must be an object with a list `records`")
    return run


def _named(file: Path, run: Mapping[str, Any]) -> tuple[str, str, str]:
    """Data set, split and model: as the file says, else by the folders it lies in."""
    folders = file.resolve().parts[-4:-1]
    named = [run.get(key) for key in ("dataset_name", "split", "model_name")]
    dataset, split, model = (str(said or folder) for said, folder in zip(named, folders, strict=True))
    return dataset, split, model


def _rows(runs: Mapping[tuple[str, str, str], Path]) -> Iterator[dict[str, Any]]:
    """The rows of each run; a file is read again, so that only one is in memory at a time."""
    for (dataset, split, model), file in runs.items():
        records = _run(file)["records"]
        found = [Record(f"{file.name}: records {n}", _object(r, file, n)) for n, r in enumerate(records, 1)]
        priced = any(record.number("cost") for record in found)
        for record in found:
            yield {
                "query_id": f"{dataset}/{split}/{record.need('index')}",
                "query": plain(record.need("origin_query", "prompt")),
                "task": dataset,
                "model": model,
                "answer": plain(record.get("prediction")),
                "response": _said(record.get("raw_output")),
                "score": record.number("score"),
                "cost_usd": record.number("cost") if priced else None,
                "prompt_tokens": record.number("prompt_tokens"),
                "completion_tokens": record.number("completion_tokens"),
            }


def _object(record: Any, file: Path, number: int) -> Mapping[str, Any]:
    if not isinstance(record, dict):
        raise BadParameter(f"{file.name}: records {number}", record, "must be an object")
    return record


def _said(output: Any) -> str | None:
    """The text of a model's output, which may be a list with one text."""
    if isinstance(output, list) and len(output) == 1 and isinstance(output[0], str):
        return output[0]
    return plain(output)
