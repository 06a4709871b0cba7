"""`dataprep.shards` on local sources: complete, incomplete, again, in parallel, and on bad files."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SHARED, byte_ranks, run_in, sentences, write_parquet, write_source

from dataprep import shards
from dataprep.bins import read_receipt
from dataprep.errors import DataError, UsageError
from dataprep.paths import Paths
from dataprep.sql import ask
from dataprep.vocab_store import load_vocab, publish_vocab


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two train shards and a held-out one, not encoded yet."""
    write_source(tmp_path, "notes", [sentences(f"notes{i}", 60) for i in range(3)])
    publish_vocab(Paths(root=tmp_path), "tiny-bpe", byte_ranks(), origin="made by the tests")
    return tmp_path


def mill(root: Path, *more: str, n: str = "2") -> int:
    arguments = ["--source", "notes", "--n", n, "--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe"]
    return run_in(root, shards.main, *arguments, *more)


def published(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in (root / "data").rglob("*") if file.is_file()}


def test_every_document_is_encoded_as_the_oracle_encodes_it_and_ends_once(root: Path) -> None:
    assert mill(root) == 0
    vocab = load_vocab(Paths(root=root), "tiny-bpe")
    for i in range(3):
        texts = [text or "" for text in sentences(f"notes{i}", 60)]
        wanted = [token for text in texts if text for token in [*vocab.encode_ordinary(text), vocab.end_id]]
        folder = root / "data/bins/tiny-bpe/notes"
        tokens = np.fromfile(folder / f"shard_{i:05d}.bin", dtype="<u2")
        ends = np.fromfile(folder / f"shard_{i:05d}.docs", dtype="<u8")
        assert tokens.tolist() == wanted
        assert len(ends) == len(texts)
        assert [int(end) for end in np.diff(ends, prepend=np.uint64(0)) == 0] == [int(not text) for text in texts]


def test_any_number_of_workers_publishes_the_same_bytes(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / "root"
    shutil.copytree(root, other)
    assert mill(root, "--workers", "1") == 0
    assert mill(other, "--workers", "3") == 0
    assert published(root) == published(other)


def test_any_number_of_workers_publishes_the_same_conversations_and_masks(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rng, roots = random.Random(4), []
    words = [text for text in sentences("words", 90) if text]
    rows = [[{"role": r, "content": rng.choice(words)} for r in ("user", "assistant")] for _ in range(240)]
    rows[7], rows[60] = rows[7][:1], [{"role": "robot", "content": "beep"}]
    for workers in ("1", "3"):
        root = tmp_path_factory.mktemp("chats")
        publish_vocab(Paths(root=root), "tiny-bpe", byte_ranks(), origin="made by the tests")
        (root / "chats").mkdir()
        for i in range(3):
            pq.write_table(pa.table({"messages": rows[80 * i : 80 * i + 80]}), root / f"chats/shard_{i}.parquet")
        (root / "my.toml").write_text('[chats]\nkind = "local"\npath = "chats"\nmessages = "messages"\n')
        asked = ["--source", "chats", "--n", "3", "--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe"]
        assert run_in(root, shards.main, *asked, "--workers", workers) == 0
        roots.append(root)
    assert published(roots[0]) == published(roots[1])
    masks = [file.read_bytes() for file in sorted((roots[0] / "data/bins").rglob("*.loss"))]
    assert len(masks) == 3
    assert all(set(mask) == {0, 1} for mask in masks)
    assert ask(Paths(root=roots[0]), "SELECT reason, sum(documents)::BIGINT FROM excluded GROUP BY reason")[1] == [
        ("unknown role", 1)
    ]


def test_a_second_call_makes_nothing_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mill(root)
    stamps = {file: file.stat().st_mtime_ns for file in (root / "data/bins").rglob("*.*")}
    capsys.readouterr()
    assert mill(root, "--json") == 0
    assert json.loads(capsys.readouterr().out)["made"] == 0
    assert stamps == {file: file.stat().st_mtime_ns for file in stamps}


def test_a_local_file_that_changed_is_encoded_again_and_the_others_are_not(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mill(root)
    write_parquet(root / "notes/shard_00001.parquet", ["another text altogether"])
    capsys.readouterr()
    assert mill(root, "--json") == 0
    assert json.loads(capsys.readouterr().out)["made"] == 1
    assert read_receipt(root / "data/bins/tiny-bpe/notes/shard_00001.json").documents == 1


def test_a_bin_cut_short_is_made_whole_again(root: Path) -> None:
    mill(root)
    before = published(root)
    file = root / "data/bins/tiny-bpe/notes/shard_00000.bin"
    file.write_bytes(file.read_bytes()[:-2])
    assert mill(root) == 0
    assert published(root) == before


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def _flipped_page(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4:24] = bytes(byte ^ 0xFF for byte in content[4:24])  # the first page's header
    file.write_bytes(content)


def _not_parquet(file: Path) -> None:
    file.write_text("<html>502 Bad Gateway</html>")


def _wrong_column(file: Path) -> None:
    write_parquet(file, ["text"], column="body")


def _zero_rows(file: Path) -> None:
    write_parquet(file, [])


def _invalid_utf8(file: Path) -> None:
    texts = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], dtype=np.int32)), pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"text": texts}), file)


@pytest.mark.parametrize("spoil", [_truncated, _flipped_page, _not_parquet, _wrong_column, _zero_rows, _invalid_utf8])
def test_a_broken_file_is_a_named_gap_and_the_other_shards_are_finished(
    root: Path, spoil: object, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(root / "notes/shard_00001.parquet")  # type: ignore[operator]
    assert mill(root) == 3
    captured = capsys.readouterr()
    assert "1 of 3 shards are missing: shard_00001" in captured.err
    assert "Traceback" not in captured.err
    held = sorted(file.name for file in (root / "data/bins/tiny-bpe/notes").iterdir())
    assert held == [f"shard_0000{i}.{suffix}" for i in (0, 2) for suffix in ("bin", "docs", "json")]
    assert ask(Paths(root=root), "SELECT asked, held, missing FROM expected_shards")[1] == [(3, 2, 1)]


def test_once_the_broken_file_is_mended_only_it_is_made(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (root / "notes/shard_00001.parquet").read_bytes()
    _not_parquet(root / "notes/shard_00001.parquet")
    mill(root)
    (root / "notes/shard_00001.parquet").write_bytes(whole)
    capsys.readouterr()
    assert mill(root, "--json") == 0
    assert json.loads(capsys.readouterr().out)["made"] == 1


@pytest.mark.parametrize("n", ["0", "-1", "3"])
def test_an_n_the_source_does_not_have_is_refused(root: Path, n: str) -> None:
    with pytest.raises(UsageError, match="1 to 2"):
        mill(root, n=n)
    assert not (root / "data/bins").exists()


def test_bins_of_another_tokenizer_under_the_same_name_are_refused_and_kept(root: Path) -> None:
    mill(root)
    before = published(root)
    for file in (root / "data/vocab").iterdir():
        file.unlink()
    with pytest.raises(UsageError, match="bins were made with another vocabulary"):
        publish_vocab(Paths(root=root), "tiny-bpe", byte_ranks() + b"b24= 260\n", origin="another")
    publish_vocab(Paths(root=root / "elsewhere"), "tiny-bpe", byte_ranks() + b"b24= 260\n", origin="another")
    shutil.copytree(root / "elsewhere/data/vocab", root / "data/vocab", dirs_exist_ok=True)
    with pytest.raises(DataError, match="made with another vocabulary"):
        mill(root)
    bins = {name: content for name, content in published(root).items() if "/bins/" in name}
    assert bins == {name: content for name, content in before.items() if "/bins/" in name}


def test_jsonl_shards_give_the_same_bins_as_parquet(root: Path) -> None:
    mill(root)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in sentences("notes0", 60))
    (root / "lines").mkdir()
    (root / "lines/shard_00000.jsonl").write_text(lines)
    with (root / "my.toml").open("a") as catalogue:
        catalogue.write('[lines]\nkind = "local"\npath = "lines"\ntext = "text"\n')
    asked = ["--source", "lines", "--n", "1", "--catalogue", str(root / "my.toml"), "--tokenizer", "tiny-bpe"]
    assert run_in(root, shards.main, *asked) == 0
    for suffix in ("bin", "docs"):
        found, wanted = (root / f"data/bins/tiny-bpe/{s}/shard_00000.{suffix}" for s in ("lines", "notes"))
        assert found.read_bytes() == wanted.read_bytes()


@pytest.mark.skipif(
    not (SHARED / "vocab/gpt2.tiktoken").exists() or not (SHARED / "data/docs").exists(),
    reason="the three real shards and the gpt2 ranks are not beside this checkout",
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_real_shards_equal_tiktoken_byte_for_byte(tmp_path: Path, workers: str) -> None:
    (tmp_path / "docs").symlink_to(SHARED / "data/docs")
    catalogue = tmp_path / "my.toml"
    catalogue.write_text('[docs]\nkind = "local"\npath = "docs"\ntext = "text"\nholdout = ["shard_00002"]\n')
    asked = ["--source", "docs", "--n", "2", "--catalogue", str(catalogue), "--workers", workers]
    assert run_in(tmp_path, shards.main, *asked, "--vocab-file", str(SHARED / "vocab/gpt2.tiktoken")) == 0
    oracle = load_vocab(Paths(root=tmp_path), "gpt2").oracle
    n_bytes = 0
    for i in range(3):
        texts = pq.read_table(SHARED / f"data/docs/shard_{i:05d}.parquet")["text"].to_pylist()
        encoded = oracle.encode_ordinary_batch([text or "" for text in texts], num_threads=2)
        wanted = np.array([token for ids in encoded if ids for token in (*ids, 50256)], dtype="<u2")
        found = (tmp_path / f"data/bins/gpt2/docs/shard_{i:05d}.bin").read_bytes()
        assert found == wanted.tobytes()
        n_bytes += len(found)
    assert ask(Paths(root=tmp_path), "SELECT sum(tokens)::BIGINT FROM shards")[1] == [(n_bytes // 2,)]
