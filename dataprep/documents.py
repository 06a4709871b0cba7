"""Documents: a shard's file as batches of documents, whatever the file looks like.

In:  a .parquet or .jsonl file, its columns and their layout. Out: `Batch` after `Batch`.
Holds: document i is row i of the file; null is the empty document; memory is bounded by one row group
(parquet) or 64 MiB (jsonl); invalid UTF-8 is refused.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from dataprep import layouts, row_faults, turns
from dataprep.chat import Message
from dataprep.errors import DataError, quoted
from dataprep.row_faults import Fault
from dataprep.row_groups import check_row_groups, read_parts
from dataprep.sources import LAYOUTS
from dataprep.turns import Script

BATCH_ROWS = 1024
_JSONL_BLOCK_BYTES = 64 << 20  # a line of text may be as long, or a little longer


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some documents: the texts to encode, and the script that makes conversations of them.

    Without a script every text is a document. `values` are the columns as they were read.
    """

    layout: str
    values: Sequence[Any]
    texts: pa.LargeStringArray
    script: Script | None = None

    def __len__(self) -> int:
        """Documents, the empty and excluded ones too."""
        return len(self.values[0])

    def messages(self, document: int) -> list[Message] | str:
        """One document read the slow, plain way: its messages, or why it is left out."""
        return layouts.read_document(self.layout, [_plain(column[document]) for column in self.values])


def read_batches(file: Path, columns: Sequence[str], layout: str) -> Iterator[Batch]:
    """Yield the documents in row order. Raises DataError for a file that cannot give them, naming the row."""
    n_documents = 0
    try:
        for values in _values(file, columns, layout):
            if len(values[0]):
                yield _batch_from(file, values, layout, n_documents)
                n_documents += len(values[0])
    except (pa.ArrowException, OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's word, not the file's content
        of_texts = file.suffix == ".jsonl" and layout == "text"
        fault = row_faults.find_in_lines(file, columns[0], _JSONL_BLOCK_BYTES) if of_texts else None
        why = str(error).splitlines()[0][:160]
        raise _bad_row(file, fault) if fault else _unreadable(file, f"{why} (after row {n_documents:,})") from None
    if n_documents == 0:
        raise _unreadable(file, "0 rows")


def read_texts(file: Path, columns: Sequence[str], layout: str) -> Iterator[pa.LargeStringArray]:
    """Yield what is encoded: each document's text, or each piece of each conversation that is kept."""
    return (batch.texts for batch in read_batches(file, columns, layout))


def count_bytes(texts: pa.LargeStringArray) -> int:
    """UTF-8 bytes of all texts together."""
    offsets = np.frombuffer(texts.buffers()[1] or bytes(8), dtype=np.int64)
    return int(offsets[texts.offset + len(texts)] - offsets[texts.offset])


def _batch_from(file: Path, values: Sequence[Any], layout: str, first_row: int) -> Batch:
    """The values as documents. Raises DataError naming the first row that cannot be one."""
    try:
        return _batch(values, layout)
    except (pa.ArrowException, UnicodeError):
        fault = row_faults.find_in_values(values, first_row, lambda some: _batch(some, layout))
        if fault is None:
            raise
        raise _bad_row(file, fault) from None


def _batch(values: Sequence[Any], layout: str) -> Batch:
    if layout == "text":
        return Batch(layout=layout, values=values, texts=turns.as_texts(values[0]))
    if len(values) == 1 and isinstance(values[0], pa.Array):
        script = turns.script_of_column(values[0], layout)
    else:
        rows = zip(*(map(_plain, column) for column in values), strict=True)
        script = turns.script_of_messages([layouts.read_document(layout, row) for row in rows])
    return Batch(layout=layout, values=values, texts=script.texts, script=script)


def _plain(value: Any) -> Any:
    return value.as_py() if isinstance(value, pa.Scalar) else value


def _values(file: Path, columns: Sequence[str], layout: str) -> Iterator[Sequence[Any]]:
    """The columns, batch by batch: Arrow arrays where the file or the layout has one type, else lists."""
    if file.suffix == ".jsonl":
        _check_columns(file, columns, list(_first_value(file)))
        yield from _json_texts(file, columns[0]) if layout == "text" else _json_values(file, columns, layout)
        return
    with pq.ParquetFile(file, pre_buffer=False) as parquet:
        schema = parquet.schema_arrow
        _check_columns(file, columns, schema.names)
        check_row_groups(file, parquet.metadata, columns)
        for key, column in zip(LAYOUTS[layout], columns, strict=True):
            found = schema.field(column).type
            _check_fit(file, column, layout, str(found), layouts.wanted_type(layout, key, found))
        yield from read_parts(file, parquet, columns, n_rows=BATCH_ROWS)


def _json_texts(file: Path, column: str) -> Iterator[Sequence[Any]]:
    # The type is given, not guessed: a column of dates would come back as other text.
    schema = pa.schema([(column, pa.string())])
    parse = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    reader = pj.open_json(file, read_options=pj.ReadOptions(block_size=_JSONL_BLOCK_BYTES), parse_options=parse)
    for batch in reader:
        texts = batch.column(column)
        for start in range(0, len(texts), BATCH_ROWS):
            yield [texts.slice(start, BATCH_ROWS)]


def _json_values(file: Path, columns: Sequence[str], layout: str) -> Iterator[Sequence[Any]]:
    """Plain values: in JSON one message may hold a text and the next a list of parts."""
    with file.open("rb") as lines:
        objects = _objects(file, lines)
        while some := list(itertools.islice(objects, BATCH_ROWS)):
            values = [[found.get(column) for found in some] for column in columns]
            for key, column, found in zip(LAYOUTS[layout], columns, values, strict=True):
                for value in found:
                    _check_fit(file, column, layout, repr(value)[:60], layouts.wanted_value(layout, key, value))
            yield values


def _objects(file: Path, lines: IO[bytes]) -> Iterator[dict[str, Any]]:
    """What each line holds that is not blank. Raises DataError naming the row and the line."""
    row, longest = 0, 2 * _JSONL_BLOCK_BYTES
    for number, line in enumerate(iter(lambda: lines.readline(longest + 1), b""), 1):
        if line.strip():
            too_long = f"a line of more than {longest:,} bytes" if len(line) > longest else None
            found = too_long or row_faults.read_object(line, is_first=number == 1)
            if isinstance(found, str):
                raise _bad_row(file, Fault(f"row {row:,} (line {number:,})", found))
            yield found
            row += 1


def _first_value(file: Path) -> dict[str, Any]:
    """The first line that is not blank; empty where there is none."""
    with file.open("rb") as lines:
        return next(_objects(file, lines), {})


def _check_columns(file: Path, columns: Sequence[str], names: list[str]) -> None:
    for column in columns:
        if names.count(column) != 1:
            raise DataError(
                f"{file.name} has {'two columns' if column in names else 'no column'} {column!r}",
                seen=f"columns {', '.join(names) or 'none'}",
                wanted=column,
                fix='name the right column in the catalogue (text = "…" or messages = "…")',
            )


def _check_fit(file: Path, column: str, layout: str, seen: str, wanted: str | None) -> None:
    if wanted is not None:
        raise DataError(
            f"column {column!r} of {file.name} does not hold what layout {layout!r} needs",
            seen=seen,
            wanted=wanted,
            fix='name the right column, and what it holds, in the catalogue (text = "…" or messages = "…")',
        )


def _bad_row(file: Path, fault: Fault) -> DataError:
    return DataError(
        f"{fault.where} of {file.name} cannot be read",
        seen=fault.why,
        wanted="text of valid Unicode, as the layout has it",
        fix="mend or remove that row; then the same command",
    )


def _unreadable(file: Path, seen: str) -> DataError:
    return DataError(
        f"{file.name} cannot be read",
        seen=seen,
        wanted="a whole parquet or jsonl file with at least one row",
        fix=f"put a whole copy in its place (a fetched one comes again after rm {quoted(file)}); then the same command",
    )
