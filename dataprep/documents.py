"""Documents: a shard's rows as Arrow text, batch by batch, whatever the file looks like.

In:  a .parquet or .jsonl file, the column's name and its layout (text, messages, conversations).
Out: batches of `large_string` without nulls; row i of the file is text i, null is the empty text.
Holds: memory is bounded by one row group (parquet) or 64 MiB (jsonl); invalid UTF-8 is refused.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from dataprep import chat
from dataprep.errors import DataError

BATCH_ROWS = 1024
_JSONL_BLOCK_BYTES = 64 << 20  # also the longest line that can be read


def read_texts(file: Path, column: str, layout: str) -> Iterator[pa.LargeStringArray]:
    """Yield the texts of `column`, in row order. Raises DataError for a file that cannot give them."""
    try:
        n_rows = 0
        for batch in filter(len, _batches(file, column, layout)):
            n_rows += len(batch)
            yield _as_text(batch, layout)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's word, not the file's content
        raise _unreadable(file, str(error).splitlines()[0][:160]) from None
    if n_rows == 0:
        raise _unreadable(file, "0 rows")


def count_bytes(texts: pa.LargeStringArray) -> int:
    """UTF-8 bytes of all texts together."""
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)
    return int(offsets[texts.offset + len(texts)] - offsets[texts.offset])


def _batches(file: Path, column: str, layout: str) -> Iterator[pa.Array]:
    if file.suffix == ".jsonl":
        yield from _json_batches(file, column, layout)
        return
    with pq.ParquetFile(file, pre_buffer=False) as parquet:
        schema = parquet.schema_arrow
        _check_column(file, column, schema.names)
        _check_type(file, column, schema.field(column).type, layout)
        for batch in parquet.iter_batches(BATCH_ROWS, columns=[column], use_threads=False):
            yield batch.column(0)


def _json_batches(file: Path, column: str, layout: str) -> Iterator[pa.Array]:
    _check_column(file, column, _first_keys(file))
    # The type is given, not guessed: a column of dates would come back as other text.
    parse = pj.ParseOptions(
        explicit_schema=pa.schema([(column, _JSON_TYPES[layout])]), unexpected_field_behavior="ignore"
    )
    reader = pj.open_json(file, read_options=pj.ReadOptions(block_size=_JSONL_BLOCK_BYTES), parse_options=parse)
    for batch in reader:
        rows = batch.column(column)
        for start in range(0, len(rows), BATCH_ROWS):
            yield rows.slice(start, BATCH_ROWS)


def _first_keys(file: Path) -> list[str]:
    """The keys of the first line that is not blank; none where it is no JSON object."""
    with file.open("rb") as lines:
        first = next((line for line in lines if line.strip()), b"{}")
    try:
        value = json.loads(first)
    except ValueError:
        raise _unreadable(file, f"{first[:60]!r}") from None
    return list(value) if isinstance(value, dict) else []


def _check_column(file: Path, column: str, names: list[str]) -> None:
    if column not in names:
        raise DataError(
            f"{file.name} has no column {column!r}",
            seen=f"columns {', '.join(names) or 'none'}",
            wanted=column,
            fix='name the right column in the catalogue (text = "…" or messages = "…")',
        )


def _check_type(file: Path, column: str, found: pa.DataType, layout: str) -> None:
    if not _FITS[layout](found):
        raise DataError(
            f"column {column!r} of {file.name} does not hold {layout}",
            seen=str(found),
            wanted=_WANTED[layout],
            fix='name the right column, and what it holds, in the catalogue (text = "…" or messages = "…")',
        )


def _is_text(found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    is_string = pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
    return is_string or pa.types.is_binary(found) or pa.types.is_large_binary(found)  # bytes, if they are UTF-8


def _is_list_of(found: pa.DataType, fits: Callable[[pa.DataType], bool]) -> bool:
    is_list = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
    return is_list and fits(found.value_type)


def _is_message(found: pa.DataType) -> bool:
    """A struct with a text role and a text content, in any order and among any others."""
    fields = {field.name: field.type for field in found.fields} if pa.types.is_struct(found) else {}
    return all(name in fields and _is_text(fields[name]) for name in ("role", "content"))


_FITS: dict[str, Callable[[pa.DataType], bool]] = {
    "text": _is_text,
    "messages": lambda found: _is_list_of(found, _is_message),
    "conversations": lambda found: _is_list_of(found, _is_text),
}
_WANTED = {"text": "text", "messages": "a list of {role, content}", "conversations": "a list of texts"}
_JSON_TYPES = {
    "text": pa.string(),
    "messages": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
    "conversations": pa.list_(pa.string()),
}


def _as_text(rows: pa.Array, layout: str) -> pa.LargeStringArray:
    if layout != "text":
        return pa.array([chat.render(row) for row in rows.to_pylist()], type=pa.large_string())
    texts = pc.fill_null(rows.cast(pa.large_string()), "")
    texts.validate(full=True)  # Arrow reads string columns without looking: here the UTF-8 is checked
    return texts


def _unreadable(file: Path, seen: str) -> DataError:
    return DataError(
        f"{file.name} cannot be read",
        seen=seen,
        wanted="a whole parquet or jsonl file with at least one row",
        fix=f"put a whole copy in its place (a fetched one comes again after rm {file}); then the same command",
    )
