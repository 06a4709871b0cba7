"""Hostile parquet: bombs are refused by their footer, odd types are read or refused, nothing is a traceback."""

import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from odd import MESSAGES, check_against_oracle, mill

TEXTS = ["the mill", None, "", "a\0b", "the mill", "grinds"]
TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])


def write_table(root: Path, table: pa.Table, **settings: object) -> Path:
    file = root / "odd/shard_0.parquet"
    file.parent.mkdir(exist_ok=True)
    pq.write_table(table, file, **settings)
    return file


def state_size(file: Path, n_bytes: int) -> None:
    """Say in the footer that the first column and its row group unpack to `n_bytes`. The pages stay as they are."""
    content = file.read_bytes()
    told = footer = content[-8 - struct.unpack("<I", content[-8:-4])[0] : -8]
    group = pq.read_metadata(file).row_group(0)
    for true_size in {group.column(0).total_uncompressed_size, group.total_byte_size}:
        assert _varint(true_size) in footer
        told = told.replace(_varint(true_size), _varint(n_bytes))
    file.write_bytes(content[: -8 - len(footer)] + told + struct.pack("<I", len(told)) + b"PAR1")
    group = pq.read_metadata(file).row_group(0)
    assert (group.column(0).total_uncompressed_size, group.total_byte_size) == (n_bytes, n_bytes)


def _varint(number: int) -> bytes:
    """A whole number as thrift's compact protocol writes it: zigzag, seven bits a byte."""
    rest, parts = number << 1, []
    while rest > 0x7F:
        parts.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*parts, rest])


def test_a_row_group_larger_than_memory_is_refused_by_its_footer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_table(tmp_path, pa.table({"text": ["the mill grinds in the mill " * 1_000]}))
    state_size(file, 3_000_000_000_000)

    def read_nothing(*_: object, **__: object) -> None:
        raise AssertionError("a page of it was read")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "iter_batches", read_nothing)
        assert mill(tmp_path) == 3
    error = capsys.readouterr().err
    assert "row group 0 of shard_0.parquet is larger than the memory that is free" in error
    assert "seen: 3,000,000,000,000 bytes by its footer" in error
    assert "ROW_GROUP_SIZE 10000" in error
    assert not list((tmp_path / "data/bins").rglob("*.bin"))


def test_only_the_columns_that_are_read_count_for_its_size(tmp_path: Path) -> None:
    file = write_table(tmp_path, pa.table({"pictures": [b"x" * 70_001], "text": ["the mill"]}))
    state_size(file, 3_000_000_000_000)
    assert mill(tmp_path) == 0
    check_against_oracle(tmp_path, ["the mill"])


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_every_kind_of_text_column_gives_the_same_bin(tmp_path: Path, kind: pa.DataType) -> None:
    write_table(tmp_path, pa.table({"text": pa.array(TEXTS, pa.string()).cast(kind)}))
    assert mill(tmp_path) == 0
    check_against_oracle(tmp_path, TEXTS)


REFUSED = {
    "numbers": (pa.table({"text": [1, 2]}), "does not hold what layout 'text' needs"),
    "nulls": (pa.table({"text": pa.nulls(3)}), "does not hold what layout 'text' needs"),
    "lists": (pa.table({"text": [["a"], None]}), "does not hold what layout 'text' needs"),
    "structs": (pa.table({"text": [{"a": "b"}]}), "does not hold what layout 'text' needs"),
    "another column": (pa.table({"body": ["a"]}), "has no column 'text'"),
    "two of the same name": (pa.Table.from_arrays([pa.array(["a"])] * 2, ["text", "text"]), "two columns 'text'"),
    "no rows": (pa.table({"text": pa.array([], pa.string())}), "seen: 0 rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_text_is_refused_in_three_lines(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table, why = REFUSED[case]
    write_table(tmp_path, table)
    assert mill(tmp_path) == 3
    assert why in capsys.readouterr().err


def test_a_file_without_row_groups_has_no_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path, pa.table({"text": ["a"]}))
    with pq.ParquetWriter(tmp_path / "odd/shard_0.parquet", pa.schema([("text", pa.string())])):
        pass
    assert mill(tmp_path) == 3
    assert "seen: 0 rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b"PAR1PAR1", b"PAR1\xff\xff\xff\x7fPAR1", b"PAR1" + bytes(100) + b"\x32\0\0\0PARE", b"<html>" * 9],
    ids=["nothing", "magic", "magic twice", "a footer of 2 GiB", "encrypted", "a page"],
)
def test_what_is_no_parquet_is_named(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/shard_0.parquet").write_bytes(content)
    assert mill(tmp_path) == 3
    assert "shard_0.parquet cannot be read" in capsys.readouterr().err


def test_a_text_that_is_no_utf_8_is_named_by_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path, pa.table({"text": [b"good"] * 2_500 + [b"\xff\xfe"] + [b"good"] * 50}), row_group_size=1_000)
    assert mill(tmp_path) == 3
    assert "row 2,500 of shard_0.parquet cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [pa.list_(MESSAGE), pa.large_list(MESSAGE)], ids=str)
def test_nulls_at_every_depth_are_empty_or_left_out(
    tmp_path: Path, kind: pa.DataType, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = [TALK, None, [], [None], [{"role": None, "content": None}], [{"role": "user", "content": None}], TALK]
    write_table(tmp_path, pa.table({"messages": pa.array(odd, kind)}))
    assert mill(tmp_path, columns=MESSAGES) == 0
    assert "left out: 3 documents (2 unknown role, 1 empty content)" in capsys.readouterr().out


def test_a_corrupt_page_is_named_and_so_is_how_far_it_was_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_table(tmp_path, pa.table({"text": [f"document {i}" for i in range(4_096)]}), row_group_size=2_048)
    place = pq.read_metadata(file).row_group(1).column(0).dictionary_page_offset
    content = bytearray(file.read_bytes())
    content[place : place + 16] = b"\xff" * 16
    file.write_bytes(content)
    assert mill(tmp_path) == 3
    error = capsys.readouterr().err
    assert "shard_0.parquet cannot be read" in error
    assert "(after row 2,048)" in error
