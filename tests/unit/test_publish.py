"""Publication: whole and durable under the final name, or absent; temps of the dead are swept."""

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dataprep import flocks, publish
from dataprep.hashing import HashedFile, sha256_file
from dataprep.publish import adopt, publish_bytes, publishing, publishing_folder
from dataprep.sealed import open_record, publish_json, publish_record
from dataprep.temps import private_folder, sweep

WRITER = """
import sys
from pathlib import Path
from dataprep.publish import publishing
from dataprep.temps import private_folder
with publishing(Path(sys.argv[1], "final.bin")) as out, private_folder(Path(sys.argv[1]), "made") as folder:
    out.write(b"half")
    (folder / "file").write_bytes(b"half")
    print("ready", flush=True)
    sys.stdin.read()
"""


class Stop(Exception):  # noqa: N818 -- not an error: what interrupts a block in these tests
    """Raised inside a block that is being published."""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the middle of writing tmp_path/final.bin and a private folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("failure", [Stop, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_leaves_the_old_file_and_no_temp(tmp_path: Path, failure: type[BaseException]) -> None:
    publish_bytes(tmp_path / "a", b"old")
    with pytest.raises(failure), publishing(tmp_path / "a") as out:  # noqa: PT012 -- the block is what is tested
        out.write(b"new")
        raise failure
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_failed_fsync_fails_the_file_and_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"), publishing(tmp_path / "a") as out:
        out.write(b"new")
    assert names(tmp_path) == []
    assert len(calls) == 1


def test_what_was_to_be_replaced_stands_again_where_the_folder_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "record.json", publish.sync
    publish_bytes(path, b"before")

    def fail(synced: Path) -> None:
        if synced == tmp_path:
            raise OSError(errno.EIO, "as the kernel says it")
        real(synced)

    monkeypatch.setattr(publish, "sync", fail)
    with pytest.raises(OSError, match="as the kernel says it"):
        publish_bytes(path, b"after")
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_a_full_disk_found_at_the_flush_fails_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_out: HashedFile) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(HashedFile, "make_durable", no_space)
    with pytest.raises(OSError, match="No space left"):
        publish_bytes(tmp_path / "a", b"new")
    assert names(tmp_path) == []


def test_the_file_is_synced_before_its_name_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, events, real_fsync = tmp_path / "a", [], os.fsync

    def spy(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        events.append((kind, "named" if path.exists() else "unnamed"))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    publish_bytes(path, b"new")
    assert events == [("file", "unnamed"), ("folder", "named")]


def test_nothing_is_under_the_final_name_until_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    monkeypatch.setattr(publish, "_reached", lambda step, path: seen.update({step: path.exists()}))
    publish_bytes(tmp_path / "a", b"new")
    assert seen == {"opened": False, "written": False, "synced": False, "renamed": True, "published": True}


def test_size_and_hash_are_those_of_the_file_whatever_was_written(tmp_path: Path) -> None:
    blocks = [b"", b"abc", bytearray(b"d"), memoryview(b"efg")[1:], np.arange(5, dtype="<u2"), np.empty(0, "<u8")]
    with publishing(tmp_path / "a") as out:
        written = [out.write(block) for block in blocks]
    content = b"abcdfg" + np.arange(5, dtype="<u2").tobytes()
    assert written == [0, 3, 1, 2, 10, 0]
    assert (tmp_path / "a").read_bytes() == content
    assert out.bytes_written == len(content)
    assert out.sha256 == hashlib.sha256(content).hexdigest() == sha256_file(tmp_path / "a")


def test_a_file_of_nothing_can_be_published(tmp_path: Path) -> None:
    assert publish_bytes(tmp_path / "deep" / "er" / "a", b"") == hashlib.sha256().hexdigest()
    assert (tmp_path / "deep" / "er" / "a").read_bytes() == b""


def test_blocks_larger_than_the_buffer_arrive_whole(tmp_path: Path) -> None:
    block = os.urandom(3 << 20)
    with publishing(tmp_path / "a") as out:
        for _ in range(2):
            out.write(block)
    assert (tmp_path / "a").read_bytes() == block * 2
    assert out.sha256 == hashlib.sha256(block * 2).hexdigest()


def test_a_published_file_can_be_read_by_others(tmp_path: Path) -> None:
    publish_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_equal_values_are_equal_json_bytes(tmp_path: Path) -> None:
    publish_json(tmp_path / "a", {"b": 1, "a": "naïve"})
    publish_json(tmp_path / "b", {"a": "naïve", "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "naïve" in (tmp_path / "a").read_text(encoding="utf-8")


def test_an_adopted_file_takes_its_name_with_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "download").write_bytes(b"whole")
    adopt(tmp_path / "download", tmp_path / "final" / "a")
    assert (tmp_path / "final" / "a").read_bytes() == b"whole"
    assert names(tmp_path) == ["final"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(Stop), publishing_folder(tmp_path / "f") as part:  # noqa: PT012 -- the same
        (part / "x").write_bytes(b"1")
        raise Stop
    assert names(tmp_path) == []
    with publishing_folder(tmp_path / "f") as part:
        (part / "sub").mkdir()
        (part / "sub" / "x").write_bytes(b"1")
        assert not (tmp_path / "f").exists()
    assert names(tmp_path) == ["f"]
    assert (tmp_path / "f" / "sub" / "x").read_bytes() == b"1"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o755


def test_every_file_of_a_folder_is_synced_before_the_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    monkeypatch.setattr(publish, "sync", lambda path: synced.append((path.name, (tmp_path / "f").exists())))
    with publishing_folder(tmp_path / "f") as part:
        (part / "x").write_bytes(b"1")
        (part / "y").write_bytes(b"2")
    assert synced == [("x", False), ("y", False), (part.name, False), (tmp_path.name, True)]


def test_a_private_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with private_folder(tmp_path / "in", "work") as folder:
        (folder / "x").write_bytes(b"1")
        assert sweep(tmp_path / "in") == []
    assert names(tmp_path / "in") == []


def test_many_writers_of_one_name_all_succeed_and_one_of_them_wins(tmp_path: Path) -> None:
    contents = [bytes([i]) * 100_000 for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: publish_bytes(tmp_path / "a", content), contents))
    assert (tmp_path / "a").read_bytes() in contents
    assert names(tmp_path) == ["a"]


def test_sweep_spares_a_living_writer_and_removes_what_a_killed_one_left(
    tmp_path: Path, writer: subprocess.Popen[bytes]
) -> None:
    temps = [name for name in names(tmp_path) if name.endswith(".part")]
    assert len(temps) == 2  # the file and the folder
    assert sweep(tmp_path) == []
    assert names(tmp_path) == temps
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert [orphan.name for orphan in sweep(tmp_path)] == temps
    assert names(tmp_path) == []


def test_sweep_leaves_every_other_file_alone_and_a_missing_folder_too(tmp_path: Path) -> None:
    for name in ("a.part", ".hidden", "shard_00000.bin", ".a.part.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert sweep(tmp_path) == sweep(tmp_path / "none") == []
    assert len(names(tmp_path)) == 4


def test_a_sweep_at_the_moment_a_temp_is_made_does_not_harm_its_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_flock, swept = flocks.fcntl.flock, []

    def sweep_just_before(descriptor: int, operation: int) -> None:
        if not swept:
            swept.append(True)
            sweep(tmp_path)
        real_flock(descriptor, operation)

    monkeypatch.setattr(flocks.fcntl, "flock", sweep_just_before)
    publish_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_no_flipped_bit_of_a_sealed_record_passes(tmp_path: Path) -> None:
    publish_record(tmp_path / "record.json", {"name": "x", "bytes": 12, "origin": "made by é"})
    whole = (tmp_path / "record.json").read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            with pytest.raises(ValueError, match=r"\w"):
                open_record(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
