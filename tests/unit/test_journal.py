"""The journal under kills, damage and two writers."""

import json
import multiprocessing
import os
import resource
from pathlib import Path

import pytest

from dataprep.errors import DataError, UsageError
from dataprep.ledger import read_journal
from train.journal import Journal


def write_two(file: Path) -> None:
    journal = Journal(file)
    journal.write("mark", step=0)
    journal.write("note", step=1, loss=2.5)
    journal.close()


def test_records_come_back_in_order_with_their_attempt(tmp_path: Path) -> None:
    file = tmp_path / "run" / "journal.jsonl"
    write_two(file)
    write_two(file)
    assert read_journal(file).records == (
        {"kind": "mark", "attempt": 1, "step": 0},
        {"kind": "note", "attempt": 1, "step": 1, "loss": 2.5},
        {"kind": "mark", "attempt": 2, "step": 0},
        {"kind": "note", "attempt": 2, "step": 1, "loss": 2.5},
    )


def test_a_torn_last_line_is_cut_off_and_said(tmp_path: Path) -> None:
    file = tmp_path / "run" / "journal.jsonl"
    write_two(file)
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"kind": "st')
    assert len(read_journal(file).records) == 2
    journal = Journal(file)
    assert journal.torn_bytes == 12
    assert file.read_bytes() == whole
    journal.write("mark", step=1)
    journal.close()
    assert [json.loads(line)["kind"] for line in file.read_text().splitlines()] == ["mark", "note", "mark"]


@pytest.mark.parametrize("line", [b"not json", b"[]", b'{"kind": "step"}', b""])
def test_a_damaged_line_in_the_middle_is_refused_by_number(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "run" / "journal.jsonl"
    write_two(file)
    first, second = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([first, line, second, b""]))
    with pytest.raises(DataError, match="line 2 of the journal of run 'run'"):
        Journal(file)


def test_half_a_record_on_a_full_disk_leaves_the_journal_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run" / "journal.jsonl"
    write_two(file)
    before, real_write = file.read_bytes(), os.write
    journal = Journal(file)
    monkeypatch.setattr(os, "write", lambda descriptor, block: real_write(descriptor, block[:7]))
    with pytest.raises(OSError, match="No space left"):
        journal.write("note", step=2)
    monkeypatch.undo()
    journal.close()
    assert file.read_bytes() == before


def open_elsewhere(file: Path, answers: multiprocessing.SimpleQueue) -> None:
    try:
        Journal(file)
    except UsageError as refusal:
        answers.put(str(refusal))
    else:
        answers.put("opened")


def test_a_second_process_cannot_write_the_same_run(tmp_path: Path) -> None:
    file = tmp_path / "run" / "journal.jsonl"
    journal = Journal(file)
    spawned = multiprocessing.get_context("spawn")
    answers = spawned.SimpleQueue()
    other = spawned.Process(target=open_elsewhere, args=(file, answers))
    other.start()
    assert "is being trained by another process" in answers.get()
    other.join()
    journal.close()
    Journal(file).close()


def test_numbers_that_json_cannot_say_are_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.write("step", loss=float("nan"))
    journal.close()
    assert read_journal(tmp_path / "journal.jsonl").records == ()


def test_a_journal_in_which_nothing_began_is_taken_away_again(tmp_path: Path) -> None:
    file = tmp_path / "run" / "journal.jsonl"
    Journal(file).close()
    assert list(tmp_path.iterdir()) == []
    write_two(file)
    before = file.read_bytes()
    Journal(file).close()
    assert file.read_bytes() == before


def test_a_rank_that_is_not_the_first_keeps_nothing(tmp_path: Path) -> None:
    journal = Journal(None)
    journal.write("step", step=1)
    journal.make_durable()
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_cannot_be_written_says_where_it_lies(tmp_path: Path) -> None:
    file = tmp_path / "run" / "journal.jsonl"
    journal = Journal(file)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, limit[1]))
    try:
        for _ in range(2):
            with pytest.raises(OSError) as full:  # noqa: PT011 -- its file name is the match
                journal.write("note", text="x" * 40)
            assert full.value.filename == str(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    journal.close()
    assert not file.exists()
