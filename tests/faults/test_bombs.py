"""Small files that mean large things, and damaged ones: refused within memory, and never the end of the process."""

import contextlib
import io
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import sentences, write_parquet

from dataprep import documents, row_groups
from dataprep.errors import DataError

REPOSITORY = str(Path(__file__).resolve().parents[2])


def in_a_process(code: str, file: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` with `file` as its argument, in a process that may die."""
    ran = [sys.executable, "-c", code, str(file)]
    return subprocess.run(ran, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": REPOSITORY})


def test_a_file_of_a_kilobyte_that_means_a_terabyte_is_refused_within_memory(tmp_path: Path) -> None:
    file = tmp_path / "bomb.parquet"
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * (10 << 20)]))
    pq.write_table(pa.table({"text": column}), file, compression="zstd", store_schema=False)
    assert file.stat().st_size < 1000
    code = (
        "import pathlib, resource, sys; from dataprep import documents, row_groups\n"
        "row_groups.MAX_BATCH_BYTES = 1 << 28; row_groups.free_memory_bytes = lambda: 3 << 30\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "try: list(documents.read_batches(pathlib.Path(sys.argv[1]), ('text',), 'text'))\n"
        "except Exception as e: print(e)"
    )
    done = in_a_process(code, file)
    assert "bomb.parquet unpacks to more at once than is read" in done.stdout, done.stderr
    assert "wanted: at most 268,435,456 in 1,024 rows" in done.stdout


@pytest.mark.parametrize("n_rows", [1, 1023, 1024, 1025, 5000])
def test_batches_are_the_same_however_few_rows_are_read_at_once(
    n_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = sentences("rows", n_rows)
    file = write_parquet(tmp_path / "a.parquet", texts)
    asked: list[int] = []
    real = pq.ParquetFile.iter_batches

    def listen(self: pq.ParquetFile, at_once: int, **settings: object) -> object:
        asked.append(at_once)
        return real(self, at_once, **settings)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", listen)
    wanted = [batch.texts.to_pylist() for batch in documents.read_batches(file, ("text",), "text")]
    monkeypatch.setattr(row_groups, "free_memory_bytes", lambda: None)
    monkeypatch.setattr(row_groups, "MAX_BATCH_BYTES", 20_000 + 2 * sum(len(text or "") for text in texts))
    found = [batch.texts.to_pylist() for batch in documents.read_batches(file, ("text",), "text")]
    assert found == wanted == [[text or "" for text in texts[i : i + 1024]] for i in range(0, n_rows, 1024)]
    assert asked[0] == 1024
    assert asked[1] < 1024


def test_a_damaged_parquet_file_is_read_or_refused_and_never_ends_the_process(tmp_path: Path) -> None:
    """pyarrow calls C++'s terminate where the metadata of a damaged column is looked at: then this worker is gone."""
    good = io.BytesIO()
    pq.write_table(pa.table({"text": [f"document {i}" for i in range(100)]}), good)
    rng, file, n_read = random.Random(0), tmp_path / "a.parquet", 0
    for _ in range(600):
        content = bytearray(good.getvalue())
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        file.write_bytes(content)
        with contextlib.suppress(DataError):
            n_read += sum(map(len, documents.read_batches(file, ("text",), "text"))) > 0
    assert 0 < n_read < 600


def test_a_large_row_group_with_a_column_of_two_types_is_refused_and_never_ends_the_process(tmp_path: Path) -> None:
    """pyarrow calls C++'s terminate where such a column's metadata is asked for: one byte of the footer does it."""
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"document {i}" for i in range(100)]}), file)
    text, boolean = (b"\x15" + kind + b"%\x02\x18\x04text" for kind in (b"\x0c", b"\x00"))  # as thrift writes it
    assert file.read_bytes().count(text) == 1
    file.write_bytes(file.read_bytes().replace(text, boolean))  # in the schema; its statistics are still of texts
    code = (
        "import pathlib, sys; from dataprep import documents, row_groups\n"
        "row_groups.free_memory_bytes = lambda: 100\n"
        "try: list(documents.read_batches(pathlib.Path(sys.argv[1]), ('text',), 'text'))\n"
        "except Exception as e: print(e)"
    )
    done = in_a_process(code, file)
    assert "row group 0 of a.parquet is larger than the memory that is free" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("limit", "used", "free"), [("16000", 15_900, 8_100), ("16000", 30_000, 0), ("max", 15_900, 4096 << 10)]
)
def test_in_a_container_the_pages_of_files_that_were_read_are_free_memory(
    limit: str, used: int, free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that has just downloaded is full of them: no file would be read there."""
    (tmp_path / "meminfo").write_text("MemTotal: 8192 kB\nMemAvailable: 4096 kB\n")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text("anon 7900\nfile 8100\nshmem 100\ninactive_file 6000\nactive_file 2000\n")
    monkeypatch.setattr(row_groups, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(row_groups, "_CGROUP", tmp_path)
    assert row_groups.free_memory_bytes() == free


def test_a_line_of_messages_without_end_costs_no_more_memory_than_two_blocks(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    with file.open("w") as lines:
        lines.writelines(['{"messages": "', *["x" * 1_000_000] * 150, '"}\n'])
    code = (
        "import resource, pathlib, sys; from dataprep import documents\n"
        "documents._JSONL_BLOCK_BYTES = 8 << 20\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: list(documents.read_batches(pathlib.Path(sys.argv[1]), ('messages',), 'messages'))\n"
        "except Exception as e: print(e, file=sys.stderr)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = in_a_process(code, file)
    assert "row 0 (line 1) of a.jsonl cannot be read" in done.stderr
    assert "a line of more than 16,777,216 bytes" in done.stderr
    assert int(done.stdout) < 60_000
