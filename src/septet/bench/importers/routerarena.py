"""RouterArena (arXiv 2510.00202): routers' prediction files, and the answers kept per model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from septet.bench.importers._rows import Record, files, records
from septet.core.errors import BadParameter
from septet.core.table import Table

SENTENCE = (
    "RouterArena's prediction files (JSON) and cached results (JSON lines); a file or a folder of them."
)


def read(path: Path) -> Table:
    """The outcomes. The part of an index before its number is the task ("ArcMMLU_655": ArcMMLU).

    An answer that was not evaluated has no score; one that failed is left out. Several answers of a model to one
    question are its samples; an answer that stands in several files counts once.
    """
    return Table.of(_rows(path), path.name)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    seen: dict[tuple[str, str], list[tuple[str | None, float | None]]] = {}
    for file in files(path, ".json", ".jsonl"):
        for record in records(file):
            row = _row(record)
            if row is None:
                continue
            samples = seen.setdefault((row["query_id"], row["model"]), [])
            said = (row["response"], row["score"])
            if said not in samples:
                samples.append(said)
                yield row | {"sample_id": len(samples) - 1}


def _row(record: Record) -> dict[str, Any] | None:
    """One answer; None where the call failed or was never made."""
    index = str(record.need("global index", "global_index"))
    model = record.need("prediction", "llm_selected")
    answer = _part(record, "generated_result") if "prediction" in record.values else record
    if answer is None or answer.get("success") is not True:
        return None
    usage, marked = _part(answer, "token_usage"), _part(record, "evaluation_result")
    own = record.number("accuracy")
    cost = record.number("cost")
    if cost is None and marked is not None:
        cost = marked.number("inference_cost") or None  # 0 is written where nobody knew a price
    return {
        "query_id": index,
        "query": record.need("prompt", "question"),
        "task": index.rpartition("_")[0],
        "model": str(model),
        "response": answer.get("generated_answer"),
        "score": own if own is not None or marked is None else marked.number("score"),
        "cost_usd": cost,
        "prompt_tokens": usage and usage.number("input_tokens"),
        "completion_tokens": usage and usage.number("output_tokens"),
    }


def _part(record: Record, name: str) -> Record | None:
    """An object within a record."""
    value = record.values.get(name)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise BadParameter(f"{record.place}.{name}", value, "must be an object")
    return Record(f"{record.place}.{name}", value)
