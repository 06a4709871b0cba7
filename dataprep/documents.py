"""Documents: a shard's rows as Arrow text, batch by batch, whatever the file looks like.

In:  a .parquet or .jsonl file, the column's name and its layout (text, messages, conversations).
Out: batches of `large_string` without nulls; row i of the file is text i, null is the empty text.
Holds: memory is bounded by one row group (parquet) or 64 MiB (jsonl); invalid UTF-8 is refused.
"""

from collections.abc import Iterator
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
        for batch in filter(len, _batches(file, column)):
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


def _batches(file: Path, column: str) -> Iterator[pa.Array]:
    if file.suffix == ".jsonl":
        options = pj.ReadOptions(block_size=_JSONL_BLOCK_BYTES)
        reader = pj.open_json(file, read_options=options)
        _check_column(file, column, reader.schema)
        for batch in reader:
            yield from _slices(batch.column(column))
        return
    with pq.ParquetFile(file, pre_buffer=False) as parquet:
        _check_column(file, column, parquet.schema_arrow)
        for batch in parquet.iter_batches(BATCH_ROWS, columns=[column], use_threads=False):
            yield batch.column(0)


def _slices(rows: pa.Array) -> Iterator[pa.Array]:
    for start in range(0, len(rows), BATCH_ROWS):
        yield rows.slice(start, BATCH_ROWS)


def _check_column(file: Path, column: str, schema: pa.Schema) -> None:
    if column not in schema.names:
        raise DataError(
            f"{file.name} has no column {column!r}",
            seen=f"columns {', '.join(schema.names) or 'none'}",
            wanted=column,
            fix='name the right column in the catalogue (text = "…" or messages = "…")',
        )


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
        fix=f"rm {file}; then the same command again (or take a broken local file out of its folder)",
    )
