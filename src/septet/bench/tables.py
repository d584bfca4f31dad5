"""Outcome tables on disk, in one format: JSON lines, parquet, or a folder with the questions apart.

A row is one answer of one model to one question. Columns: query_id, query, task, group, split, model, sample_id,
answer, response, score (0..1), cost_usd, prompt_tokens, completion_tokens, seconds, confidence, logp, propensity.
Only model and query_id (or query) must be there; a missing value is unknown. A battle is a row of query, a, b and
winner (a's name, b's name or "tie"). `docs/guide/tables.md` says what each column means.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import BadParameter, ConfigError, MissingExtra
from septet.core.table import FACTS, IN_FILES, NUMBERS, Ints, Objects, Table
from septet.core.types import Battle, Floats

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    "query_id",
    *FACTS,
    "model",
    "sample_id",
    "answer",
    "response",
    *(IN_FILES.get(name, name) for name in NUMBERS),
)
"""Every column that a file may have; others are left alone."""

BATTLE = ("query", "a", "b", "winner")
"""The columns of a table of battles."""

_BATCH = 131_072
"""Rows of a parquet file that are in memory at once beside the table."""

_BLOCK = 1 << 20
_TOKENS = ("prompt_tokens", "completion_tokens")


@dataclass(frozen=True)
class Source:
    """What a file holds: a table of outcomes, or battles; the columns it declares; and its sha256."""

    name: str
    table: Table | None
    battles: tuple[Battle, ...]
    columns: tuple[str, ...]
    sha256: str


def read(path: Path, *, texts: bool = True) -> Table:
    """The outcomes of a file or folder; without `texts`, what models said is left out."""
    found = read_source(path, texts=texts)
    if found.table is None:
        raise BadParameter(found.name, list(found.columns), "holds battles, not outcomes")
    return found.table


def read_battles(path: Path) -> list[Battle]:
    """The battles of a file."""
    found = read_source(path)
    if found.table is not None:
        raise BadParameter(found.name, list(found.columns), f"must have the columns {', '.join(BATTLE)}")
    return list(found.battles)


def read_table(path: Path, split: str, *, labelled: bool = True) -> tuple[Table, dict[str, Any]]:
    """The outcomes of a split to fit on, and where they come from; rows that cannot be right are refused.

    Models and other splits are not judged here: a fit may use a part of them. Nor are scores, if it reads none.
    """
    from septet.bench.table_check import problems  # which needs this module

    source = read_source(path)
    if source.table is None:
        raise BadParameter(source.name, list(source.columns), "holds battles, not outcomes")
    table = source.table
    split = split or ("train" if "train" in table.splits else "")
    if split:
        keep = np.array([s == split for s in table.splits], dtype=np.bool_)  # (q,)
        if not keep.any():
            raise BadParameter("--split", split, f"must be one of {sorted(set(table.splits))}")
        table = table.of_queries(keep)
    if not len(table):
        raise ConfigError(f"{path} holds no outcomes")
    found = problems(replace(source, table=table))
    unread = ("model", "split") if labelled else ("model", "split", "score")
    if wrong := [p for p in found if p.level == "error" and p.place not in unread]:
        said = "".join(f"\n  - {p.place}: {p.message}" for p in wrong)
        raise ConfigError(f"{source.name} cannot be fitted on:{said}")
    return table, {"data": source.name, "sha256": source.sha256, "split": split or "all"}


def read_source(path: Path, *, texts: bool = True) -> Source:
    """Whatever a file or folder holds, and what it is called."""
    try:
        if path.is_dir():
            return _of_folder(path, texts)
        if path.suffix == ".parquet":
            return _of_parquet(path, texts)
        return _of_lines(path)
    except UnicodeDecodeError:
        raise ConfigError(f"the outcomes {path} are not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"cannot read the outcomes {path}: {error.strerror or error}") from None


def write(table: Table, path: Path) -> None:
    """Writes outcomes as parquet or JSON lines, by the name of the file; columns without a value are left out.

    The file appears when it is whole.
    """
    with appearing(path) as part:
        if path.suffix == ".parquet":
            _write_parquet(part, table)
        else:
            _write_lines(part, records(table))


def write_battles(battles: Sequence[Battle], path: Path) -> None:
    """Writes battles as parquet or JSON lines, by the name of the file."""
    rows = ({name: getattr(battle, name) for name in BATTLE} for battle in battles)
    with appearing(path) as part:
        if path.suffix == ".parquet":
            pa, pq = arrow()
            columns = {name: [getattr(battle, name) for battle in battles] for name in BATTLE}
            schema = pa.schema([(name, pa.string()) for name in BATTLE])
            pq.write_table(pa.table(columns, schema=schema), part, compression="zstd")
        else:
            _write_lines(part, rows)


def arrow() -> tuple[Any, Any]:
    """pyarrow and its parquet module."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("pyarrow", "data") from None
    return pyarrow, pyarrow.parquet


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A file to write that takes its name when it is whole; on failure nothing is left."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


# --- JSON lines --------------------------------------------------------------------------------------------


def _of_lines(path: Path) -> Source:
    digest, columns = hashlib.sha256(), dict[str, None]()
    # newline="\n": a JSON string may hold U+2028 and the like as they are
    with path.open(encoding="utf-8", newline="\n") as file:
        first = _first_record(file)
        file.seek(0)
        lines = _noted(file, digest)
        if set(BATTLE) <= set(first) and "model" not in first:
            battles = tuple(_battles(_objects_of(lines, path.name), path.name))
            return Source(path.name, None, battles, BATTLE, digest.hexdigest())
        table = Table.of_lines(_declaring(lines, columns), path.name)
    return Source(path.name, table, (), tuple(columns), digest.hexdigest())


def _noted(lines: Iterable[str], digest: Any) -> Iterator[str]:
    """The lines, each added to the digest as it passes."""
    for line in lines:
        digest.update(line.encode("utf-8"))
        yield line


def _declaring(lines: Iterable[str], columns: dict[str, None]) -> Iterator[str]:
    """The lines; notes of which known columns they name, by the text alone so that nothing is parsed twice."""
    waiting = {f'"{name}":': name for name in COLUMNS}
    for line in lines:
        for key in [key for key in waiting if key in line]:
            columns[waiting.pop(key)] = None
        yield line


def _first_record(lines: Iterable[str]) -> Mapping[str, Any]:
    """The first object that is no note; what cannot be read is left to the reader, who names the line."""
    for line in lines:
        try:
            row = json.loads(line) if line.strip() else {}
        except json.JSONDecodeError:
            return {}
        if isinstance(row, dict) and ("model" in row or "winner" in row or "query_id" in row):
            return row
    return {}


def _objects_of(lines: Iterable[str], place: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadParameter(f"{place}:{number}", line[:60], f"must be JSON ({error.msg})") from None
        if isinstance(row, dict) and "winner" in row:
            yield number, row


def _battles(rows: Iterable[tuple[int, Mapping[str, Any]]], place: str) -> Iterator[Battle]:
    """The battles of numbered records; a winner that did not fight is refused."""
    for number, row in rows:
        if missing := [name for name in BATTLE if row.get(name) is None]:
            raise BadParameter(f"{place}:{number}", sorted(row), f"must have {', '.join(missing)}")
        query, a, b, winner = (str(row[name]) for name in BATTLE)
        if a == b:
            raise BadParameter(f"{place}:{number}.b", b, "must be another member than a")
        if winner not in (a, b, "tie"):
            raise BadParameter(f"{place}:{number}.winner", winner, f"must be {a!r}, {b!r} or 'tie'")
        yield Battle(query, a, b, winner)


def records(table: Table) -> Iterator[dict[str, Any]]:
    """The rows of a table with the file columns; what is unknown is left out."""
    facts = dict(zip(FACTS, (table.questions, table.tasks, table.groups, table.splits), strict=True))
    told = {name: values for name, values in facts.items() if any(values)}
    columns = [(IN_FILES.get(n, n), n in _TOKENS, c) for n, c in table.numbers.items() if c.strides != (0,)]
    samples = bool(table.sample.any())
    for i in range(len(table)):
        q = int(table.query[i])
        row: dict[str, Any] = {"query_id": table.queries[q]}
        row |= {name: values[q] for name, values in told.items()}
        row["model"] = table.members[int(table.member[i])]
        if samples:
            row["sample_id"] = int(table.sample[i])
        for name, column in (("answer", table.answer), ("response", table.text)):
            if column[i] is not None:
                row[name] = column[i]
        for name, counts, numbers in columns:
            value = float(numbers[i])
            if value == value:
                row[name] = int(value) if counts and value.is_integer() else value
        yield row


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        _dump(rows, file)


def _dump(rows: Iterable[Mapping[str, Any]], file: TextIO) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


# --- parquet -----------------------------------------------------------------------------------------------


def _of_parquet(path: Path, texts: bool, questions: Mapping[str, Mapping[str, str]] | None = None) -> Source:
    opened, columns = open_parquet(path)
    if set(BATTLE) <= set(columns) and "model" not in columns:
        rows = enumerate(opened.read(columns=list(BATTLE)).to_pylist(), start=1)
        return Source(path.name, None, tuple(_battles(rows, path.name)), BATTLE, sha256_of(path))
    for either in (("model",), ("query_id", "query")):
        if not set(either) & set(columns):
            raise BadParameter(path.name, list(columns), f"must have the column {' or '.join(either)}")
    table = _Columns(path.name, opened.metadata.num_rows, columns, texts, questions).filled(opened)
    return Source(path.name, table, (), tuple(c for c in columns if c in COLUMNS), sha256_of(path))


def open_parquet(path: Path) -> tuple[Any, tuple[str, ...]]:
    """A parquet file whose words are read once each, and the names of its columns."""
    pa, pq = arrow()
    with path.open("rb"):  # so that a file that is not there is an OSError that says so
        pass
    try:
        schema = pq.read_schema(path)
        words = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
        once = [name for name in words if name != "response"]
        return pq.ParquetFile(path, read_dictionary=once), tuple(schema.names)
    except pa.ArrowException as error:
        raise ConfigError(f"{path} is not a parquet file: {str(error).splitlines()[0]}") from None


class _Columns:
    """The columns of a table while a parquet file is read into them, batch by batch."""

    def __init__(
        self,
        name: str,
        n: int,
        columns: Sequence[str],
        texts: bool,
        questions: Mapping[str, Mapping[str, str]] | None,
    ) -> None:
        self.name, self.questions = name, questions
        self.key = "query_id" if "query_id" in columns else "query"
        self.told = [f for f in FACTS if f in columns and questions is None]
        wanted = {"response": texts, "answer": "answer" in columns}
        self.texts: dict[str, Objects] = {
            column: np.empty(n, dtype=object) for column, on in wanted.items() if on and column in columns
        }
        self.numbers: dict[str, Floats] = {
            noun: np.empty(n) for noun in NUMBERS if IN_FILES.get(noun, noun) in columns
        }
        self.query: Ints = np.empty(n, dtype=np.int32)
        self.member: Ints = np.empty(n, dtype=np.int32)
        self.sample: Ints | None = np.empty(n, dtype=np.int32) if "sample_id" in columns else None
        self.queries: dict[str, int] = {}
        self.members: dict[str, int] = {}
        self.facts: dict[str, list[str]] = {f: [] for f in FACTS}

    @property
    def asked(self) -> list[str]:
        """The columns of the file that are read."""
        numbers = [IN_FILES.get(noun, noun) for noun in self.numbers]
        sample = [] if self.sample is None else ["sample_id"]
        return list(dict.fromkeys([self.key, "model", *self.told, *sample, *self.texts, *numbers]))

    def filled(self, opened: Any) -> Table:
        """The table of an open file."""
        at = 0
        pa, _ = arrow()
        try:
            for batch in opened.iter_batches(batch_size=_BATCH, columns=self.asked):
                self._take(batch, slice(at, at + len(batch)))
                at += len(batch)
        except (pa.ArrowException, OSError) as error:
            why = str(error).partition("\n")[0]
            raise ConfigError(f"{self.name} is damaged after row {at}: {why}") from None
        return Table.of_arrays(
            queries=tuple(self.queries),
            members=tuple(self.members),
            query=self.query,
            member=self.member,
            sample=self.sample,
            text=self.texts.get("response"),
            answer=self.texts.get("answer"),
            numbers=self.numbers,
            questions=self.facts["query"],
            tasks=self.facts["task"],
            groups=self.facts["group"],
            splits=self.facts["split"],
        )

    def _take(self, batch: pa.RecordBatch, rows: slice) -> None:
        n_before = len(self.queries)
        self.query[rows] = self._index(batch, self.key, self.queries, rows.start)
        self.member[rows] = self._index(batch, "model", self.members, rows.start)
        if len(self.queries) > n_before:
            self._facts(batch, self.query[rows], n_before, rows.start)
        if self.sample is not None:
            self.sample[rows] = np.nan_to_num(self._floats(batch, "sample_id", rows.start)).astype(np.int32)
        for name, texts in self.texts.items():
            texts[rows] = _texts(batch.column(name))
        for noun, numbers in self.numbers.items():
            numbers[rows] = self._floats(batch, IN_FILES.get(noun, noun), rows.start)

    def _index(self, batch: pa.RecordBatch, name: str, known: dict[str, int], start: int) -> NDArray[Any]:
        """(n,) the place of each value among those known; new ones are added."""
        column = batch.column(name)
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise BadParameter(f"{self.name}:{start + row + 1}.{name}", None, "must be given")
        words, codes = _coded(column)
        used = np.unique(codes)  # the dictionary of a batch may hold words of other batches
        place = np.zeros(len(words), dtype=np.int32)
        for code in used.tolist():
            place[code] = known.setdefault(str(words[code]), len(known))
        found: Ints = place[codes]
        return found

    def _facts(self, batch: pa.RecordBatch, codes: Ints, n_before: int, start: int) -> None:
        """Notes what is said of the questions that are new in a batch."""
        new, rows = np.unique(codes, return_index=True)
        rows = rows[new >= n_before]  # in the order of the numbers of the new ones
        for name in self.told:
            values = batch.column(name).take(_array(rows)).to_pylist()
            self.facts[name] += ["" if v is None else str(v) for v in values]
        if self.questions is not None:
            for row, key in zip(rows.tolist(), list(self.queries)[n_before:], strict=True):
                if key not in self.questions:
                    raise BadParameter(
                        f"{self.name}:{start + row + 1}.query_id", key, "must be among the questions"
                    )
                for name in FACTS:
                    self.facts[name].append(self.questions[key].get(name, ""))

    def _floats(self, batch: pa.RecordBatch, name: str, start: int) -> Floats:
        """(n,) a numeric column; NaN where it is null."""
        pa, _ = arrow()
        column = batch.column(name)
        if isinstance(column, pa.DictionaryArray):
            column = column.cast(column.type.value_type)
        try:
            return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            for row, value in enumerate(column.to_pylist(), start=start + 1):
                try:
                    float("nan" if value is None else value)
                except (TypeError, ValueError):
                    raise BadParameter(f"{self.name}:{row}.{name}", value, "must be a number") from None
            raise


def _coded(column: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """The words of a column and, for each row, which one it is."""
    pa, _ = arrow()
    if not isinstance(column, pa.DictionaryArray):
        column = column.cast(pa.string()).dictionary_encode()
    words = column.dictionary.to_numpy(zero_copy_only=False)
    return words, column.indices.to_numpy(zero_copy_only=False)


def _texts(column: Any) -> Objects:
    """(n,) texts or None; equal words of a dictionary are one object."""
    pa, _ = arrow()
    if isinstance(column, pa.DictionaryArray):
        words = np.array([*column.dictionary.to_pylist(), None], dtype=object)
        codes = column.indices.fill_null(len(words) - 1).to_numpy(zero_copy_only=False)
        found: Objects = words[codes]
        return found
    texts: Objects = column.cast(pa.large_string()).to_numpy(zero_copy_only=False)
    return texts


def _array(index: NDArray[Any]) -> Any:
    pa, _ = arrow()
    return pa.array(index)


def _write_parquet(path: Path, table: Table) -> None:
    pa, pq = arrow()
    facts = zip(FACTS, (table.questions, table.tasks, table.groups, table.splits), strict=True)
    words: dict[str, tuple[Sequence[str], Ints]] = {"query_id": (table.queries, table.query)}
    for name, values in facts:
        if any(values):
            words[name] = _distinct(values, table.query)
    words["model"] = (table.members, table.member)
    columns = {
        name: pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(values, pa.large_string()))
        for name, (values, codes) in words.items()
    }
    if table.sample.any():
        columns["sample_id"] = pa.array(table.sample)
    for name, texts in (("answer", table.answer), ("response", table.text)):
        if texts.strides != (0,):
            columns[name] = pa.array([None if t is None else str(t) for t in texts], pa.large_string())
    for noun, numbers in table.numbers.items():
        if numbers.strides != (0,):
            columns[IN_FILES.get(noun, noun)] = pa.array(numbers, from_pandas=True)  # NaN becomes null
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=_BATCH * 4)


def _distinct(values: Sequence[str], index: Ints) -> tuple[list[str], Ints]:
    """The distinct values, and which one each row has."""
    known: dict[str, int] = {}
    place = np.array([known.setdefault(v, len(known)) for v in values], dtype=np.int32)
    return list(known), place[index]


# --- a folder ----------------------------------------------------------------------------------------------


def _of_folder(path: Path, texts: bool) -> Source:
    """queries.parquet and outcomes.parquet, joined by query_id; a question that nobody was asked is left out.

    What a router reads is `question` where the questions have one, else `query`, which may hold the whole prompt.
    """
    files = [path / "queries.parquet", path / "outcomes.parquet"]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ConfigError(f"{path} must hold {' and '.join(missing)}")
    source = _of_parquet(files[1], texts, questions(files[0]))
    digest = hashlib.sha256("".join(sha256_of(file) for file in files).encode())
    declared = dict.fromkeys((*source.columns, *(f for f in FACTS if _declared(files[0], f))))
    return Source(path.name, source.table, source.battles, tuple(declared), digest.hexdigest())


def questions(path: Path) -> dict[str, dict[str, str]]:
    """What a file of questions says of each, by its id."""
    opened, columns = open_parquet(path)
    if "query_id" not in columns:
        raise BadParameter(path.name, list(columns), "must have the column query_id")
    text = "question" if "question" in columns else "query"
    named = {name: text if name == "query" else name for name in FACTS}
    asked = ["query_id", *(column for column in named.values() if column in columns)]
    found: dict[str, dict[str, str]] = {}
    for number, row in enumerate(opened.read(columns=asked).to_pylist(), start=1):
        key = row["query_id"]
        if key is None or str(key) in found:
            rule = "must be given" if key is None else "must be there once"
            raise BadParameter(f"{path.name}:{number}.query_id", key, rule)
        found[str(key)] = {name: str(row[c]) for name, c in named.items() if row.get(c) is not None}
    return found


def _declared(path: Path, name: str) -> bool:
    return name in open_parquet(path)[1]


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
