"""LLMRouter (ulab-uiuc): its routing data, one JSON line per question and model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import sha1
from pathlib import Path
from typing import Any

from septet.bench.importers._rows import Record, document, files, plain, records
from septet.core.errors import BadParameter
from septet.core.money import Price
from septet.core.table import Table

SENTENCE = (
    "LLMRouter's routing data (JSON lines: query, model_name, performance, …); a file or a folder of them."
)

PRICES = ("default_llm.json", "llm_data.json")
"""Files beside the data that state the price of each model per million tokens."""


def read(path: Path) -> Table:
    """The outcomes. A file whose name says train or test is that split; a question is told by its task and text.

    The format has no cost. Where a list of models lies beside the data, cost is tokens × its prices.
    """
    return Table.of(_rows(path), path.name)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for file in files(path, ".jsonl"):
        prices, split = prices_beside(file), split_of(file.name)
        for record in records(file):
            if path.is_dir() and "model_name" not in record.values and "performance" not in record.values:
                break  # a folder also holds the questions alone
            task, query = str(record.get("task_name") or ""), str(plain(record.need("query")))
            model = str(record.need("model_name"))
            record.need("performance")
            read, written = record.number("input_tokens"), record.number("output_tokens")
            yield {
                "query_id": f"{task}/{sha1(query.encode()).hexdigest()[:16]}",
                "query": query,
                "task": task,
                "split": split,
                "model": model,
                "response": plain(record.get("response")),
                "score": record.number("performance"),
                "cost_usd": _cost(prices.get(model), read, written),
                "prompt_tokens": read,
                "completion_tokens": written,
                "seconds": record.number("response_time"),
            }


def split_of(name: str) -> str:
    """train or test, as a file's name says.

    >>> split_of("default_routing_train_data.jsonl"), split_of("latest.jsonl")
    ('train', '')
    """
    words = re.split(r"[^a-z]+", name.lower())
    return next((split for split in ("train", "test") if split in words), "")


def prices_beside(file: Path) -> dict[str, Price]:
    """The prices of models in a list that lies in the same folder; none where there is no list."""
    for name in PRICES:
        if (listed := file.parent / name).is_file():
            return {model: _price(model, facts, listed) for model, facts in document(listed).items()}
    return {}


def _price(model: str, facts: Any, file: Path) -> Price:
    if not isinstance(facts, Mapping):
        raise BadParameter(
            f"{file.name}: {model}", facts, "must be an object with input_price and output_price"
        )
    record = Record(f"{file.name}: {model}", facts)
    return Price(record.number("input_price") or 0.0, record.number("output_price") or 0.0)


def _cost(price: Price | None, read: float | None, written: float | None) -> float | None:
    """USD of one answer; None where the price or a count is not known."""
    if price is None or read is None or written is None:
        return None
    return (read * price.usd_per_mtok_in + written * price.usd_per_mtok_out) / 1e6
