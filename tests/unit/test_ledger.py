"""The ledger: which rows are in the weights, worked out by hand for every way a run can go."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dataprep.errors import DataError
from dataprep.ledger import (
    Journal,
    Lineage,
    find_journals,
    read_journal,
    read_journals,
    rows_in_weights,
    steps_with_weights,
    trace_lineage,
)

Record = dict[str, Any]
# What else the manifest reads of a record; the ledger itself does not look at it.
START: Record = {"parent_run": None, "parent_step": None} | dict.fromkeys(
    ("time", "stage", "recipe", "recipe_sha256", "params", "world_size", "batch_rows", "micro_batch"), 1
)
STEP = dict.fromkeys(("step", "tokens", "loss_tokens", "loss", "lr"), 1)
SAVED = dict.fromkeys(("step", "tokens_done", "path", "bytes", "sha256"), 1)


def start(attempt: int, rows_done: int) -> Record:
    return START | {"kind": "start", "attempt": attempt, "rows_done": rows_done, "accumulation": 1, "recipe_sha256": ""}


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
    "trained on while the checkpoint was written, then killed": (
        [start(1, 0), *steps(1, 0, 50), saved(1, 30), *steps(1, 50, 60)],
        [(1, 0, 30)],
        [True] * 3 + [False] * 3,
    ),
    "trained on while it was written, its record made up for by the next attempt": (
        [start(1, 0), *steps(1, 0, 20), saved(1, 10), *steps(1, 20, 50), saved(1, 40), start(2, 40), *steps(2, 40, 50)],
        [(1, 0, 40)],
        [True] * 4 + [False] * 2,
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


@pytest.mark.parametrize("wrong", ["x", None, 1.5, True])
def test_a_row_that_is_no_whole_number_is_damage_and_no_traceback(tmp_path: Path, wrong: object) -> None:
    file = write(tmp_path, lines(start(1, 0), {**steps(1, 0, 10)[0], "row_to": wrong}))
    with pytest.raises(DataError, match=r"(?s)line 2 of the journal.*row_to"):
        read_journal(file)


def test_an_empty_journal_has_no_records(tmp_path: Path) -> None:
    journal = read_journal(write(tmp_path, b""))
    assert (journal.records, journal.torn) == ((), None)


def began(recipe: str, parent: str | None = None, step: int | None = None, sha256: object = None) -> Record:
    return start(1, 0) | {
        "recipe": recipe,
        "recipe_sha256": f"of {recipe}",
        "parent_run": parent,
        "parent_step": step,
        "parent_sha256": sha256,
    }


def kept(step: int, rows_done: int, attempt: int = 1, sha256: str = "any") -> Record:
    return saved(attempt, rows_done) | {"step": step, "sha256": sha256}


def journals(**records: list[Record]) -> dict[str, Journal]:
    return {run: Journal(run=run, records=tuple(of_run), torn=None) for run, of_run in records.items()}


def told(lineage: Lineage) -> list[tuple[str, str, int, int, int, int]]:
    return [(r.ancestor, r.recipe, r.attempt, r.row_from, r.row_to, r.tokens) for r in lineage.rows]


# Steps of ten rows, each of one token: the tokens counted are the number of steps.
BASE = [began("web"), *steps(1, 0, 20), kept(2, 20), *steps(1, 20, 40), kept(4, 40)]
MIDDLE = [began("mid", "base", 2), *steps(1, 0, 30), kept(3, 30)]


def test_a_run_without_a_parent_is_its_own_lineage() -> None:
    lineage = trace_lineage(journals(base=BASE), "base")
    assert (told(lineage), lineage.gap) == ([("base", "web", 1, 0, 40, 4)], None)
    assert told(trace_lineage(journals(base=BASE), "base", 2)) == [("base", "web", 1, 0, 20, 2)]


def test_a_fork_at_an_earlier_step_holds_its_parents_rows_up_to_there() -> None:
    lineage = trace_lineage(journals(base=BASE, middle=MIDDLE), "middle")
    assert (told(lineage), lineage.gap) == ([("base", "web", 1, 0, 20, 2), ("middle", "mid", 1, 0, 30, 3)], None)


def test_steps_trained_while_the_parents_checkpoint_was_written_are_not_the_childs() -> None:
    base = [began("web"), *steps(1, 0, 40), kept(2, 20), *steps(1, 40, 60), kept(4, 40), kept(6, 60)]
    child = [began("mid", "base", 2), *steps(1, 0, 10), kept(1, 10)]
    assert told(trace_lineage(journals(base=base, child=child), "child")) == [
        ("base", "web", 1, 0, 20, 2),
        ("child", "mid", 1, 0, 10, 1),
    ]


def test_a_grandparents_rows_come_first() -> None:
    child = [began("chat", "middle", 3), *steps(1, 0, 15), kept(2, 15)]
    assert told(trace_lineage(journals(base=BASE, middle=MIDDLE, child=child), "child")) == [
        ("base", "web", 1, 0, 20, 2),
        ("middle", "mid", 1, 0, 30, 3),
        ("child", "chat", 1, 0, 15, 2),
    ]


def test_a_child_that_saved_nothing_holds_its_parents_rows_alone() -> None:
    child = [began("chat", "base", 4), *steps(1, 0, 10)]
    assert told(trace_lineage(journals(base=BASE, child=child), "child")) == [("base", "web", 1, 0, 40, 4)]


@pytest.mark.parametrize(
    "later",
    [
        [start(2, 40), *steps(2, 40, 60), saved(2, 60) | {"step": 6}],  # it went on
        [start(2, 10), *steps(2, 10, 30), saved(2, 30) | {"step": 3}],  # it was rewound and went another way
        [start(2, 0), *steps(2, 0, 20), saved(2, 20) | {"step": 2, "sha256": "others"}],  # it was begun anew
    ],
)
def test_what_a_parent_did_after_its_child_began_is_not_the_childs(later: list[Record]) -> None:
    base = [began("web"), *steps(1, 0, 20), kept(2, 20, sha256="these"), *steps(1, 20, 40), kept(4, 40), *later]
    child = [began("chat", "base", 2, "these"), *steps(1, 0, 10), kept(1, 10)]
    wanted = [("base", "web", 1, 0, 20, 2), ("child", "chat", 1, 0, 10, 1)]
    assert told(trace_lineage(journals(base=base, child=child), "child")) == wanted


def test_a_parents_attempts_count_as_they_did_when_the_child_began() -> None:
    base = [
        *(began("web"), *steps(1, 0, 40), kept(2, 20), kept(4, 40)),
        *(start(2, 20) | {"recipe": "web", "recipe_sha256": "of web"}, *steps(2, 20, 30), kept(3, 30, attempt=2)),
    ]
    child = [began("chat", "base", 3), *steps(1, 0, 10), kept(1, 10)]
    assert told(trace_lineage(journals(base=base, child=child), "child")) == [
        ("base", "web", 1, 0, 20, 2),
        ("base", "web", 2, 20, 30, 1),
        ("child", "chat", 1, 0, 10, 1),
    ]


@pytest.mark.parametrize(
    ("parent", "missing"),
    [
        (None, "base saw is not known"),
        ([], "base saw is not known"),
        ([began("web"), *steps(1, 0, 20), kept(4, 20)], "base saw is not known.*step 2"),
        ([began("web"), *steps(1, 0, 20), kept(2, 20, sha256="others")], "base saw is not known.*step 2"),
        ([began("web", "child", 1, "mine"), *steps(1, 0, 20), kept(2, 20, sha256="these")], "child saw is not known"),
    ],
    ids=["gone", "empty", "no such step", "other weights under the same name", "a circle of reused names"],
)
def test_where_the_ancestry_cannot_be_followed_is_said(parent: list[Record] | None, missing: str) -> None:
    child = [began("chat", "base", 2, "these"), *steps(1, 0, 10), kept(1, 10, sha256="mine")]
    held = {"child": child} if parent is None else {"child": child, "base": parent}
    lineage = trace_lineage(journals(**held), "child")
    assert told(lineage)[-1] == ("child", "chat", 1, 0, 10, 1)
    assert re.search(missing, lineage.gap or "")


def test_a_run_that_is_not_there_has_an_empty_lineage_and_a_gap() -> None:
    lineage = trace_lineage({}, "base", 2)
    assert lineage.rows == ()
    assert lineage.gap == "what base saw is not known: no journal of that name holds these weights of step 2"


def test_journals_of_the_trash_are_found_and_a_living_run_of_the_same_name_wins(tmp_path: Path) -> None:
    for folder, rows in (("base", 10), (".trash/base", 20), (".trash/old", 30)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "journal.jsonl").write_bytes(lines(start(1, 0), saved(1, rows)))
    assert find_journals(tmp_path) == {
        "base": tmp_path / "base" / "journal.jsonl",
        "old": tmp_path / ".trash" / "old" / "journal.jsonl",
    }
    kept = {run: rows_in_weights(journal.records)[-1].row_to for run, journal in read_journals(tmp_path).items()}
    assert kept == {"base": 10, "old": 30}
    assert find_journals(tmp_path / "nowhere") == {}
