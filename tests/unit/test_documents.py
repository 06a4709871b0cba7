"""Documents: whatever the file, the right texts in row order or a DataError; never another exception."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataprep import documents
from dataprep.documents import BATCH_ROWS, count_bytes, read_texts
from dataprep.errors import DataError

TURNS = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]


def texts_of(file: Path, column: str = "text", layout: str = "text") -> list[str]:
    return [text for batch in read_texts(file, (column,), layout) for text in batch.to_pylist()]


def parquet(folder: Path, values: Any, kind: pa.DataType | None = None, **options: Any) -> Path:
    file = folder / "shard_00000.parquet"
    pq.write_table(pa.table({"id": list(range(len(values))), "text": pa.array(values, kind)}), file, **options)
    return file


def jsonl(folder: Path, content: str | bytes) -> Path:
    file = folder / "shard_00000.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def string_array_of_bytes(values: list[bytes]) -> pa.Array:
    """A string column whose bytes nobody checked, as another writer may leave it."""
    binary = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), binary.buffers())


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.binary()])
def test_every_kind_of_text_column_gives_its_rows_in_order(tmp_path: Path, kind: pa.DataType) -> None:
    values = ["one", "", "naïve 🤦", "one"] if kind != pa.binary() else [b"one", b"", "naïve 🤦".encode(), b"one"]
    assert texts_of(parquet(tmp_path, [*values, None], kind)) == ["one", "", "naïve 🤦", "one", ""]


def test_rows_stay_aligned_over_batches_and_row_groups(tmp_path: Path) -> None:
    values = [None if i % 7 == 3 else "" if i % 5 == 1 else f"text {i}" for i in range(3 * BATCH_ROWS + 17)]
    file = parquet(tmp_path, values, row_group_size=1000)
    assert texts_of(file) == [value or "" for value in values]
    assert max(len(batch) for batch in read_texts(file, ("text",), "text")) <= BATCH_ROWS


def test_a_batch_has_no_nulls_and_counts_its_own_bytes(tmp_path: Path) -> None:
    (batch,) = read_texts(parquet(tmp_path, ["é", None, "abc", ""]), ("text",), "text")
    assert (batch.type, batch.null_count, count_bytes(batch)) == (pa.large_string(), 0, 5)
    assert [count_bytes(batch.slice(i, 1)) for i in range(4)] == [2, 0, 3, 0]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"not a parquet file at all", b"\0" * 4096])
def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "shard_00000.parquet"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"shard_00000\.parquet cannot be read"):
        texts_of(file)


def test_a_parquet_cut_anywhere_is_refused(tmp_path: Path) -> None:
    file = parquet(tmp_path, [f"text {i}" for i in range(500)], row_group_size=100)
    content = file.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 60)):
        file.write_bytes(content[:length])
        with pytest.raises(DataError):
            texts_of(file)


def test_a_flipped_byte_anywhere_gives_texts_or_a_refusal(tmp_path: Path) -> None:
    """Parquet has no checksum here: the fetched file's sha256 is what finds a flip. Nothing may crash."""
    file = parquet(tmp_path, [f"text {i} é" for i in range(300)], row_group_size=100)
    content, rng, n_refused = file.read_bytes(), random.Random(3), 0
    for _ in range(150):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        try:
            texts_of(file)
        except DataError:
            n_refused += 1
    assert n_refused > 0


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 rows"):
        texts_of(parquet(tmp_path, [], pa.string()))


def test_a_missing_column_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no column 'body'\n  seen: columns id, text"):
        texts_of(parquet(tmp_path, ["a"]), column="body")
    with pytest.raises(DataError, match="has no column 'body'\n  seen: columns text"):
        texts_of(jsonl(tmp_path, '{"text": "a"}\n'), column="body")


@pytest.mark.parametrize("value", [["a"], {"a": "b"}])
def test_a_nested_column_is_no_text(tmp_path: Path, value: Any) -> None:
    with pytest.raises(DataError):
        texts_of(parquet(tmp_path, [value]))


@pytest.mark.parametrize("value", [1, 1.5, True])
def test_a_column_of_numbers_is_no_text(tmp_path: Path, value: object) -> None:
    with pytest.raises(DataError):
        texts_of(parquet(tmp_path, [value]))


@pytest.mark.parametrize("bad", [b"a\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"])
def test_invalid_utf8_is_refused_even_in_a_string_column(tmp_path: Path, bad: bytes) -> None:
    values = string_array_of_bytes([b"fine", bad])
    file = tmp_path / "shard_00000.parquet"
    pq.write_table(pa.table({"text": values}), file)
    with pytest.raises(DataError, match=r"(?i)utf-?8"):
        texts_of(file)


def test_invalid_utf8_in_jsonl_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?i)utf-?8"):
        texts_of(jsonl(tmp_path, b'{"text": "fine"}\n{"text": "a\xff"}\n'))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ('{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        ('{"text": "a"}\n{"text": "b"}', ["a", "b"]),
        ('\n{"text": "a"}\n\n   \n{"text": "b"}\n\n', ["a", "b"]),
        ('{"text": "a"}\r\n{"text": "b"}\r\n', ["a", "b"]),
        ('{"text": "a"}\n{"text": null}\n{"text": ""}\n{"other": 1}\n', ["a", "", "", ""]),
        ('{"text": null}\n{"text": "b"}\n', ["", "b"]),
        ('{"text": "a\\u0000\\r\\n\\ud83e\\udd26é"}\n', ["a\0\r\n🤦é"]),
        ('\ufeff{"text": "a"}\n', ["a"]),
    ],
)
def test_jsonl_gives_one_text_a_line_that_is_not_blank(tmp_path: Path, content: str, wanted: list[str]) -> None:
    assert texts_of(jsonl(tmp_path, content)) == wanted


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n\n",
        "[1]\n",
        '"text"\n',
        '{"text": "a"}\n{"text": "b',
        '{"text": "a"}\n{"text": 5}\n',
        '{"text": "\\ud800"}\n',
        "{}x\n",
    ],
)
def test_jsonl_that_is_empty_torn_or_something_else_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError):
        texts_of(jsonl(tmp_path, content))


def test_jsonl_texts_that_look_like_dates_are_kept_as_they_are(tmp_path: Path) -> None:
    dates = ["2024-01-01", "2024-01-02T10:00:00Z"]
    assert texts_of(jsonl(tmp_path, "".join(json.dumps({"text": date}) + "\n" for date in dates))) == dates


def test_a_line_longer_than_a_block_is_refused_and_many_short_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_JSONL_BLOCK_BYTES", 1000)
    lines = [json.dumps({"text": "x" * n}) for n in range(0, 700, 7)]
    assert [len(text) for text in texts_of(jsonl(tmp_path, "\n".join(lines)))] == list(range(0, 700, 7))
    with pytest.raises(DataError):
        texts_of(jsonl(tmp_path, "\n".join([*lines, json.dumps({"text": "x" * 5000}), *lines])))


def test_pieces_of_conversations_are_found_by_name_whatever_the_order_of_fields(tmp_path: Path) -> None:
    swapped = pa.list_(pa.struct([("content", pa.string()), ("weight", pa.int8()), ("role", pa.string())]))
    rows = [TURNS, [], None, [TURNS[0]]]
    assert texts_of(parquet(tmp_path, rows, swapped), layout="messages") == ["Hi?", "Hello.", "Hi?"]
    lines = "".join(json.dumps({"text": row}) + "\n" for row in rows)
    assert texts_of(jsonl(tmp_path, lines), layout="messages") == ["Hi?", "Hello.", "Hi?"]


@pytest.mark.parametrize("layout", ["messages", "conversations", "choices"])
@pytest.mark.parametrize("value", ["Hello", 1, {"role": "user", "content": "x"}, [1], [["a"]]])
def test_a_column_that_holds_no_conversation_is_refused(tmp_path: Path, value: Any, layout: str) -> None:
    columns = ("text",) * (3 if layout == "choices" else 1)
    with pytest.raises(DataError, match="does not hold what layout"):
        list(read_texts(parquet(tmp_path, [value]), columns, layout))


@pytest.mark.parametrize("value", ["Hello", 1, {"role": "user"}, True])
def test_a_json_value_that_is_no_list_is_refused(tmp_path: Path, value: Any) -> None:
    lines = json.dumps({"text": TURNS}) + "\n" + json.dumps({"text": value})
    with pytest.raises(DataError, match="does not hold what layout 'messages' needs"):
        texts_of(jsonl(tmp_path, lines), layout="messages")


@pytest.mark.parametrize("bad", [b"a\xff", b"\xed\xa0\x80"])
def test_invalid_utf8_in_a_message_is_refused(tmp_path: Path, bad: bytes) -> None:
    contents = string_array_of_bytes([b"fine", bad])
    messages = pa.StructArray.from_arrays([pa.array(["user", "assistant"]), contents], ["role", "content"])
    file = tmp_path / "shard_00000.parquet"
    pq.write_table(pa.table({"text": pa.ListArray.from_arrays([0, 2], messages)}), file)
    with pytest.raises(DataError, match=r"(?i)utf-?8"):
        texts_of(file, layout="messages")
    with pytest.raises(DataError, match=r"(?i)cannot be read"):
        texts_of(jsonl(tmp_path, b'{"text": [{"role": "user", "content": "' + bad + b'"}]}\n'), layout="messages")
    with pytest.raises(DataError, match="surrogate"):
        texts_of(jsonl(tmp_path, '{"text": [{"role": "user", "content": "\\ud800"}]}\n'), layout="messages")


def test_the_disks_own_errors_are_not_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        texts_of(tmp_path / "none.parquet")
