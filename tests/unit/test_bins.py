"""Bins: opened only when file, receipt and plan agree; receipts that are damaged are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataprep.bins import check_files, find_receipts, open_bin, open_document_ends, read_receipt
from dataprep.errors import DataError
from dataprep.paths import Paths
from dataprep.sealed import open_record

SHARD = "shard_00000"


@pytest.fixture
def paths(encoded_root: Path, tmp_path: Path) -> Paths:
    """A copy of alpha's bins that a test may damage."""
    copy = Paths(root=tmp_path)
    shutil.copytree(Paths(root=encoded_root).bins("tiny-bpe", "alpha"), copy.bins("tiny-bpe", "alpha"))
    return copy


def open_shard(paths: Paths, **changed: Any) -> np.ndarray:
    """Open the shard as its receipt states it, or as `changed` has it."""
    receipt = read_receipt(receipt_file(paths))
    wanted = {"tokens": receipt.tokens, "bin_sha256": receipt.bin.sha256} | changed
    return open_bin(paths, "tiny-bpe", "alpha", SHARD, **wanted)


def receipt_file(paths: Paths) -> Path:
    return paths.bins("tiny-bpe", "alpha") / f"{SHARD}.json"


def test_a_bin_is_the_tokens_of_its_file_and_cannot_be_written(paths: Paths) -> None:
    tokens = open_shard(paths)
    content = receipt_file(paths).with_suffix(".bin").read_bytes()
    assert tokens.dtype == np.dtype("<u2")
    assert tokens.tobytes() == content
    with pytest.raises(ValueError, match="read-only"):
        tokens[0] = 1


def test_every_document_ends_with_the_end_token_and_nothing_else_does(paths: Paths) -> None:
    receipt, tokens = read_receipt(receipt_file(paths)), open_shard(paths)
    ends = open_document_ends(receipt_file(paths).parent, receipt)
    assert ends.dtype == np.dtype("<u8")
    assert len(ends) == receipt.documents == 120
    assert receipt.empty_documents == int((np.diff(ends.astype(np.int64), prepend=0) == 0).sum()) > 0
    assert (np.flatnonzero(tokens == receipt.tokenizer.end_id) + 1).tolist() == sorted(set(ends.tolist()) - {0})


@pytest.mark.parametrize("suffix", [".bin", ".docs"])
@pytest.mark.parametrize("damage", ["cut", "longer", "gone"])
def test_a_file_of_another_size_is_refused(paths: Paths, suffix: str, damage: str) -> None:
    file = receipt_file(paths).with_suffix(suffix)
    content = file.read_bytes()
    file.unlink() if damage == "gone" else file.write_bytes(content[:-2] if damage == "cut" else content + b"\0\0")
    receipt = read_receipt(receipt_file(paths))
    with pytest.raises(DataError, match=f"{SHARD}{suffix} of alpha is not what its receipt says"):
        check_files(file.parent, receipt)
    with pytest.raises(DataError):
        open_shard(paths)


@pytest.mark.parametrize("changed", [{"tokens": 7}, {"bin_sha256": "0" * 64}])
def test_a_bin_other_than_the_planned_one_is_refused(paths: Paths, changed: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="changed after the plan was made"):
        open_shard(paths, **changed)


def test_a_bin_without_a_receipt_is_not_held(paths: Paths) -> None:
    receipt_file(paths).unlink()
    with pytest.raises(DataError, match="is planned with but not held"):
        open_bin(paths, "tiny-bpe", "alpha", SHARD, tokens=1, bin_sha256="0" * 64)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"{}", b"\xff", b'{"origin": []}'])
def test_a_damaged_receipt_is_refused(paths: Paths, content: bytes) -> None:
    receipt_file(paths).write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        read_receipt(receipt_file(paths))


def edit(paths: Paths, **changes: Any) -> None:
    value = open_record(receipt_file(paths).read_bytes())
    receipt_file(paths).write_text(json.dumps(value | changes))


@pytest.mark.parametrize("change", [{"format": 1}, {"more": 1}, {"bin": {"name": "x"}}, {"oracle": None}])
def test_a_receipt_of_another_shape_is_refused(paths: Paths, change: dict[str, Any]) -> None:
    edit(paths, **change)
    with pytest.raises(DataError, match="a receipt of format 2"):
        read_receipt(receipt_file(paths))


@pytest.mark.parametrize("change", [{"tokens": 10**9}, {"tokens": "7"}, {"documents": 10**9}, {"tokens": -1}])
def test_a_receipt_that_contradicts_itself_is_refused(paths: Paths, change: dict[str, Any]) -> None:
    edit(paths, **change)
    with pytest.raises(DataError):
        read_receipt(receipt_file(paths))


def test_a_receipt_is_read_back_as_it_was_written(paths: Paths) -> None:
    value = read_receipt(receipt_file(paths)).to_json()
    assert json.loads(json.dumps(value)) == open_record(receipt_file(paths).read_bytes())


def test_receipts_are_found_by_path_and_temps_are_not_receipts(paths: Paths) -> None:
    (receipt_file(paths).parent / ".shard_00009.json.x.part").write_bytes(b"")
    (receipt_file(paths).parent / ".hidden.json").write_bytes(b"")
    assert [file.stem for file in find_receipts(paths)] == [f"shard_0000{i}" for i in range(4)]
    assert find_receipts(paths, "other") == find_receipts(paths, "*", "beta") == []
