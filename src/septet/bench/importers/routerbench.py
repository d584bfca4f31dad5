"""RouterBench (arXiv 2403.12031): one row per prompt, and three columns per model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from septet.bench.importers._rows import Record, first_of_list, records
from septet.core.errors import BadParameter
from septet.core.table import Table

SENTENCE = (
    "RouterBench's wide table as CSV, JSON or parquet: MODEL, MODEL|model_response, MODEL|total_cost (USD)."
)

RESPONSE, COST = "|model_response", "|total_cost"


def read(path: Path) -> Table:
    """The outcomes. `sample_id` names the question and `eval_name` its task; a prompt or an answer that is a list
    written as text is its first element. The oracle column is left out: it follows from the scores."""
    return Table.of(_rows(path), path.name)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    models: list[str] = []
    for record in records(path):
        if not models:
            models = models_of(record)
        question = {
            "query_id": str(record.need("sample_id")),
            "query": first_of_list(str(record.need("prompt"))),
            "task": record.get("eval_name"),
        }
        for model in models:
            answer = record.get(model + RESPONSE)
            yield {
                **question,
                "model": model,
                "score": record.number(model),
                "response": None if answer is None else first_of_list(str(answer)),
                "cost_usd": record.number(model + COST),
            }


def models_of(record: Record) -> list[str]:
    """The models, by the columns that end in `|total_cost` or `|model_response`; each has its score, too."""
    named = [c.removesuffix(end) for c in record.values for end in (COST, RESPONSE) if c.endswith(end)]
    models = list(dict.fromkeys(named))
    if not models:
        raise BadParameter(record.place, list(record.values), f"must have columns that end in {COST}")
    if missing := [m for m in models if m not in record.values]:
        raise BadParameter(record.place, missing, "must have a column of scores for each model")
    return models
