"""What is exported, opened by the other tools' own readers. They are not installed for the tests: skipped without."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_in

from dataprep import export
from dataprep.bins import open_document_ends, read_receipt
from dataprep.foreign_formats import pack_datatrove_metadata
from dataprep.paths import Paths

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs are not ours to mend


def peer(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        pytest.skip(f"{package} is not installed ({missing}): pip install {package}, in a venv of its own")


def documents(root: Path, shard: str) -> list[list[int]]:
    folder = Paths(root=root).bins("tiny-bpe", "alpha")
    ends = open_document_ends(folder, read_receipt(folder / f"{shard}.json")).astype(np.int64)
    return [some.tolist() for some in np.split(np.fromfile(folder / f"{shard}.bin", "<u2"), ends)[:-1] if len(some)]


def put(root: Path, to: str, folder: Path) -> None:
    assert run_in(root, export.main, "--source", "alpha", "--to", to, str(folder)) == 0


def test_datatroves_folder_dataset_reads_every_window_and_the_place_of_each_token(
    encoded_root: Path, tmp_path: Path
) -> None:
    reader = peer("datatrove.utils.dataset", "datatrove")
    put(encoded_root, "datatrove", tmp_path)
    shard = documents(encoded_root, "shard_00003")  # it has empty documents, which its index must not repeat
    tokens = [token for document in shard for token in document]
    places = [place for document in shard for place in range(len(document))]
    opened = reader.DatatroveFolderDataset(
        str(tmp_path / "holdout"), seq_len=31, filename_pattern="*.ds", token_size=2, return_positions=True
    )
    assert len(opened) == len(tokens) // 32
    for i in range(len(opened)):
        window = slice(32 * i, 32 * i + 32)
        found = opened[i]
        assert found["input_ids"].tolist() == tokens[window]
        # A window begins at 0 whatever came before it: from its first document's end on the places are ours.
        first = next((at for at, place in enumerate(places[window]) if place == 0), 32)
        assert found["positions"].tolist()[first:] == places[window][first:]


def test_datatroves_count_for_people_is_as_its_own_writer_has_it() -> None:
    humanize = peer("humanize", "humanize")
    for count in (1, 74, 999, 1_000, 12_345, 999_999, 53_500_000, 1_234_567_890, 10**12):
        wanted = f"x|2\n{count}\n{humanize.metric(count, unit='T')}"
        assert pack_datatrove_metadata("x", count).decode() == wanted


def test_megatrons_indexed_dataset_reads_every_document(encoded_root: Path, tmp_path: Path) -> None:
    reader = peer("megatron.core.datasets.indexed_dataset", "megatron-core")
    put(encoded_root, "megatron", tmp_path)
    opened = reader.IndexedDataset(str(tmp_path / "train/shard_00001"))
    wanted = documents(encoded_root, "shard_00001")
    assert len(opened) == len(wanted)
    assert [opened[i].tolist() for i in range(len(opened))] == wanted
    assert opened.document_indices.tolist() == list(range(len(wanted) + 1))
    assert opened.index.dtype == np.uint16


def test_what_megatron_wrote_itself_is_imported(encoded_root: Path, tmp_path: Path) -> None:
    writer = peer("megatron.core.datasets.indexed_dataset", "megatron-core")
    import shutil

    import torch

    bring_in = importlib.import_module("dataprep.import")
    builder = writer.IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=np.uint16)
    for document in ([1, 2, 260], [3, 260]):
        builder.add_item(torch.tensor(document))
        builder.end_document()
    builder.finalize(str(tmp_path / "theirs.idx"))
    shutil.copytree(encoded_root / "data/vocab", tmp_path / "root/data/vocab")
    asked = ["--from", "megatron", "--source", "brought", "--tokenizer", "tiny-bpe", str(tmp_path / "theirs.bin")]
    assert run_in(tmp_path / "root", bring_in.main, *asked) == 0
    folder = Paths(root=tmp_path / "root").bins("tiny-bpe", "brought")
    assert np.fromfile(folder / "theirs.bin", "<u2").tolist() == [1, 2, 260, 3, 260]
    assert np.fromfile(folder / "theirs.docs", "<u8").tolist() == [3, 5]
