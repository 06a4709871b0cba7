"""The ledger: which rows are in the weights, worked out by hand for every way a run can go."""

import json
from pathlib import Path
from typing import Any

import pytest

from dataprep.errors import DataError
from dataprep.ledger import read_journal, rows_in_weights, steps_with_weights

Record = dict[str, Any]
# What else the manifest reads of a record; the ledger itself does not look at it.
START: Record = {"parent_run": None, "parent_step": None} | dict.fromkeys(
    ("time", "stage", "recipe", "recipe_sha256", "params", "world_size", "batch_rows", "micro_batch"), 1
)
STEP = dict.fromkeys(("step", "tokens", "loss_tokens", "loss", "lr"), 1)
SAVED = dict.fromkeys(("step", "tokens_done", "path", "bytes", "sha256"), 1)


def start(attempt: int, rows_done: int) -> Record:
    return START | {"kind": "start", "attempt": attempt, "rows_done": rows_done, "accumulation": 1}


def saved(attempt: int, rows_done: int) -> Record:
    return SAVED | {"kind": "checkpoint", "attempt": attempt, "rows_done": rows_done}


def steps(attempt: int, row_from: int, row_to: int) -> list[Record]:
    """Steps of ten rows."""
    return [
        STEP | {"kind": "step", "attempt": attempt, "row_from": row, "row_to": min(row + 10, row_to)}
        for row in range(row_from, row_to, 10)
    ]


CASES = {
    "nothing was written": ([], [], []),
    "a start alone": ([start(1, 0)], [], []),
    "one attempt to its end": (
        [start(1, 0), *steps(1, 0, 25), saved(1, 25), {"kind": "end", "attempt": 1}],
        [(1, 0, 25)],
        [True, True, True],
    ),
    "killed after a checkpoint": (
        [start(1, 0), *steps(1, 0, 30), saved(1, 30), *steps(1, 30, 40)],
        [(1, 0, 30)],
        [True] * 3 + [False],
    ),
    "killed before any checkpoint": ([start(1, 0), *steps(1, 0, 20)], [], [False, False]),
    "killed, then resumed from the checkpoint": (
        [
            start(1, 0),
            *steps(1, 0, 30),
            saved(1, 30),
            *steps(1, 30, 40),
            start(2, 30),
            *steps(2, 30, 60),
            saved(2, 60),
            {"kind": "end", "attempt": 2},
        ],
        [(1, 0, 30), (2, 30, 60)],
        [True, True, True, False, True, True, True],
    ),
    "killed twice before a checkpoint, then through": (
        [start(1, 0), *steps(1, 0, 20), start(2, 0), *steps(2, 0, 10), start(3, 0), *steps(3, 0, 20), saved(3, 20)],
        [(3, 0, 20)],
        [False, False, False, True, True],
    ),
    "the second attempt saved nothing and a third went on": (
        [
            start(1, 0),
            *steps(1, 0, 20),
            saved(1, 20),
            start(2, 20),
            *steps(2, 20, 40),
            start(3, 20),
            *steps(3, 20, 30),
            saved(3, 30),
        ],
        [(1, 0, 20), (3, 20, 30)],
        [True, True, False, False, True],
    ),
    "rewound to an earlier checkpoint, because the last one was damaged": (
        [
            start(1, 0),
            *steps(1, 0, 20),
            saved(1, 20),
            *steps(1, 20, 40),
            saved(1, 40),
            start(2, 20),
            *steps(2, 20, 30),
            saved(2, 30),
        ],
        [(1, 0, 20), (2, 20, 30)],
        [True, True, False, False, True],
    ),
    "rewound over a whole attempt": (
        [
            start(1, 0),
            *steps(1, 0, 20),
            saved(1, 20),
            start(2, 20),
            *steps(2, 20, 40),
            saved(2, 40),
            start(3, 10),
            *steps(3, 10, 20),
            saved(3, 20),
        ],
        [(1, 0, 10), (3, 10, 20)],
        [True, False, False, False, True],
    ),
    "begun anew from nothing": (
        [start(1, 0), *steps(1, 0, 20), saved(1, 20), start(2, 0), *steps(2, 0, 10), saved(2, 10)],
        [(2, 0, 10)],
        [False, False, True],
    ),
    "rewound and killed at once: the rows beyond are gone already": (
        [start(1, 0), *steps(1, 0, 20), saved(1, 20), start(2, 10)],
        [(1, 0, 10)],
        [True, False],
    ),
    "resumed at the end with nothing left to do": (
        [start(1, 0), *steps(1, 0, 10), saved(1, 10), start(2, 10)],
        [(1, 0, 10)],
        [True],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_in_the_weights_are_as_worked_out_by_hand(case: str) -> None:
    records, ranges, in_weights = CASES[case]
    assert [(found.attempt, found.row_from, found.row_to) for found in rows_in_weights(records)] == ranges
    found = steps_with_weights(records)
    assert [step["in_weights"] for step in found] == in_weights
    rows = [row for step in found if step["in_weights"] for row in range(step["row_from"], step["row_to"])]
    assert rows == list(range(max((row_to for _, _, row_to in ranges), default=0)))  # each once, none left out


def write(folder: Path, content: bytes) -> Path:
    file = folder / "run-1" / "journal.jsonl"
    file.parent.mkdir()
    file.write_bytes(content)
    return file


def lines(*records: Record) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def test_a_journal_is_read_in_order_under_its_runs_name(tmp_path: Path) -> None:
    records = [start(1, 0), *steps(1, 0, 20), saved(1, 20)]
    journal = read_journal(write(tmp_path, lines(*records)))
    assert (journal.run, list(journal.records), journal.torn) == ("run-1", records, None)
    assert journal.of_kind("step") == steps(1, 0, 20)
    assert journal.of_kind("eval") == []


@pytest.mark.parametrize("tail", [b"{", b'{"kind": "step", "row_t', b'{"kind": "end"}', b"\xff\xfe", b"\0\0\0"])
def test_a_torn_last_line_is_kept_apart_and_counts_for_nothing(tmp_path: Path, tail: bytes) -> None:
    journal = read_journal(write(tmp_path, lines(start(1, 0), saved(1, 20)) + tail))
    assert list(journal.records) == [start(1, 0), saved(1, 20)]
    assert journal.torn == tail.decode(errors="replace")


@pytest.mark.parametrize(
    "damaged", [b"{", b"", b"[]", b'"kind"', b"{}", b"5", b"\xff", b'{"kind": "step"}', b'{"kind": "x"}']
)
def test_a_line_damaged_in_the_middle_is_named(tmp_path: Path, damaged: bytes) -> None:
    file = write(tmp_path, lines(start(1, 0)) + damaged + b"\n" + lines(saved(1, 20)))
    with pytest.raises(DataError, match="line 2 of the journal of run 'run-1' is damaged"):
        read_journal(file)


def test_an_empty_journal_has_no_records(tmp_path: Path) -> None:
    journal = read_journal(write(tmp_path, b""))
    assert (journal.records, journal.torn) == ((), None)
