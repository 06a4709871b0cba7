"""Findings: evaluations made after training, under kills, several writers, and weights that are no longer the run's."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from trained import Run

from dataprep import manifest
from dataprep.errors import DataError
from dataprep.ledger import read_journal
from dataprep.paths import Paths
from dataprep.recipe import load_recipe
from dataprep.sql import ask
from dataprep.standing import read_findings, standing_evals, standing_samples
from train.checkpoint import Cursor
from train.findings import record_findings

EVAL = {"suite": "core", "task": "CORE", "n": 5, "value": 0.25, "stderr": 0.1}
SAMPLE = {"prompt": "Once", "completion": " upon", "fact": None, "expected": None, "hit": None, "temperature": 0.0}


def opened(run: str, step: int, sha256: str) -> Any:
    """What `record_findings` looks at of an opened model."""
    cursor = Cursor(step=step, rows_done=2 * step, tokens_done=128 * step)
    return SimpleNamespace(
        run=run,
        recipe="mix",
        start={"recipe_sha256": "abc"},
        checkpoint=SimpleNamespace(cursor=cursor, weights_sha256=sha256),
    )


@pytest.fixture
def run(paths: Paths) -> Run:
    """Two steps, saved at 1 and 2: weights "1/1" and "1/2"."""
    run = Run(paths, "base", load_recipe(paths, "mix"))
    run.start(batch_rows=2)
    for _ in range(2):
        run.take_step()
        run.save()
    return run


def in_table(paths: Paths, table: str = "evals") -> list[tuple[Any, ...]]:
    assert manifest.rebuild(paths).notes == ()
    return ask(paths, f"SELECT * EXCLUDE (run) FROM {table} ORDER BY ALL")[1]


def test_a_finding_says_whose_weights_it_is_about_and_lands_in_the_table(paths: Paths, run: Run) -> None:
    record_findings(paths, opened("base", 2, "1/2"), "eval", [EVAL])
    record_findings(paths, opened("base", 2, "1/2"), "sample", [SAMPLE])
    first, second = read_findings(paths.findings("base")).records
    about = {"step": 2, "rows_done": 4, "tokens_done": 256, "recipe": "mix", "recipe_sha256": "abc"}
    about |= {"weights_sha256": "1/2"}
    assert {key: first[key] for key in about} == {key: second[key] for key in about} == about
    assert first["time"].endswith("+00:00")
    assert in_table(paths) == [(2, 256, "mix", "core", "CORE", 5, 0.25, 0.1)]
    assert in_table(paths, "samples") == [(2, 256, "mix", "Once", " upon", None, None, None, 0.0)]
    assert run.records[-1]["kind"] == "checkpoint", "the journal is the trainer's alone"


def test_the_newest_finding_stands_and_it_wins_over_what_training_found(paths: Paths, run: Run) -> None:
    during = {**EVAL, "step": 2, "rows_done": 4, "tokens_done": 256, "value": 0.1}
    run._write("eval", **during)
    assert [line[-2] for line in in_table(paths)] == [0.1]
    for value in (0.2, 0.3):
        record_findings(paths, opened("base", 2, "1/2"), "eval", [EVAL | {"value": value}])
    assert [line[-2] for line in in_table(paths)] == [0.3]


def test_what_another_bundle_or_number_of_items_was_asked_does_not_stand_beside_the_newest_core(
    paths: Paths, run: Run
) -> None:
    assert run.saved
    at_two = opened("base", 2, "1/2")
    full = EVAL | {"bundle_sha256": "a", "max_per_task": None}
    clean = full | {"suite": "core-clean", "value": 0.2}
    record_findings(paths, opened("base", 1, "1/1"), "eval", [full])
    record_findings(
        paths, at_two, "eval", [EVAL | {"suite": "heldout", "task": "alpha"}, full | {"task": "copa"}, clean]
    )
    record_findings(paths, at_two, "eval", [full | {"task": "piqa"}])
    standing = [(1, "CORE"), (2, "CORE"), (2, "alpha"), (2, "copa"), (2, "piqa")]
    assert sorted((line[0], line[4]) for line in in_table(paths)) == standing
    for other in ({"max_per_task": 5}, {"bundle_sha256": "b"}):
        record_findings(paths, at_two, "eval", [full | other])
        assert sorted((line[0], line[4]) for line in in_table(paths)) == [(1, "CORE"), (2, "CORE"), (2, "alpha")]


def test_findings_about_weights_that_were_thrown_away_do_not_count(paths: Paths, run: Run) -> None:
    for step in (1, 2):
        record_findings(paths, opened("base", step, f"1/{step}"), "eval", [EVAL])
        record_findings(paths, opened("base", step, f"1/{step}"), "sample", [SAMPLE])
    assert [line[0] for line in in_table(paths)] == [1, 2]
    run.start(1, batch_rows=4)  # back to step 1
    assert [line[0] for line in in_table(paths)] == [1]
    run.take_step()
    run.save()  # step 2 anew, with other weights
    assert [line[0] for line in in_table(paths)] == [line[0] for line in in_table(paths, "samples")] == [1]
    record_findings(paths, opened("base", 2, "2/2"), "eval", [EVAL | {"value": 0.9}])
    assert [(line[0], line[-2]) for line in in_table(paths)] == [(1, 0.25), (2, 0.9)]


def test_samples_of_weights_that_were_thrown_away_do_not_stand_even_old_ones_without_their_row() -> None:
    start = {"kind": "start", "rows_done": 0, "step": 0, "recipe": "mix"}
    old = {"kind": "sample", "step": 2, "prompt": "a", "completion": "b"}
    new = old | {"rows_done": 4, "temperature": 0.8}
    assert standing_samples([start, old, new]) == [old | {"recipe": "mix"}, new | {"recipe": "mix"}]
    again = start | {"rows_done": 2, "step": 1}
    assert standing_samples([start, old, new, again]) == []
    assert standing_samples([start, old, new, start | {"rows_done": 4, "step": 2}]) != []
    assert standing_evals([start, old, new]) == []


def test_a_torn_last_line_is_not_counted_is_said_and_does_not_spoil_the_next(paths: Paths, run: Run) -> None:
    assert run.saved
    file = paths.findings("base")
    record_findings(paths, opened("base", 1, "1/1"), "eval", [EVAL])
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:30])
    assert read_findings(file).torn == whole[:30].decode()
    assert "run base: a torn last line of its findings is not counted" in manifest.rebuild(paths).notes
    assert ask(paths, "SELECT step FROM evals")[1] == [(1,)]
    record_findings(paths, opened("base", 2, "1/2"), "eval", [EVAL])
    assert [record["step"] for record in read_findings(file).records] == [1, 2]
    assert [line[0] for line in in_table(paths)] == [1, 2]


@pytest.mark.parametrize("line", ["junk", "[]", '{"kind": "step"}', '{"kind": "eval", "step": 1}', ""])
def test_a_damaged_line_in_the_middle_hides_the_findings_and_not_the_run(paths: Paths, run: Run, line: str) -> None:
    assert run.saved
    file = paths.findings("base")
    record_findings(paths, opened("base", 1, "1/1"), "eval", [EVAL])
    file.write_text(f"{line}\n{file.read_text()}")
    with pytest.raises(DataError, match="line 1 of the findings of run 'base' is damaged"):
        read_findings(file)
    (note,) = manifest.rebuild(paths).notes
    assert "line 1 of the findings of run 'base' is damaged" in note
    assert ask(paths, "SELECT run FROM runs")[1] == [("base",)]


def test_a_finding_makes_the_database_stale(paths: Paths, run: Run) -> None:
    assert run.saved
    time.sleep(0.05)  # a file written within the clock's tick counts as changed
    manifest.rebuild(paths)
    assert not manifest.is_stale(paths)
    record_findings(paths, opened("base", 1, "1/1"), "eval", [EVAL])
    assert manifest.is_stale(paths)


def test_half_a_record_on_a_full_disk_leaves_the_file_whole(
    paths: Paths, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run.saved
    record_findings(paths, opened("base", 1, "1/1"), "eval", [EVAL])
    before, write = paths.findings("base").read_bytes(), os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, block: write(descriptor, block[:9]))
        with pytest.raises(OSError, match="No space left"):
            record_findings(paths, opened("base", 1, "1/1"), "eval", [EVAL])
    assert paths.findings("base").read_bytes() == before


def test_a_run_that_was_taken_away_meanwhile_is_named(paths: Paths) -> None:
    with pytest.raises(DataError, match="run 'gone' was taken away"):
        record_findings(paths, opened("gone", 1, "1/1"), "eval", [EVAL])


def append(paths: Paths, writer: int, n: int, go: Callable[[], Any]) -> None:
    go()
    for number in range(n):
        about = opened("base", 1, "1/1")
        record_findings(paths, about, "eval", [EVAL | {"task": f"{writer}/{number}", "text": "x" * 5_000}] * 2)


def test_writers_at_once_lose_and_mix_nothing(paths: Paths, run: Run) -> None:
    assert run.saved
    context = multiprocessing.get_context("fork")
    together = context.Barrier(3)
    writers = [context.Process(target=append, args=(paths, writer, 10, together.wait)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = [json.loads(line) for line in paths.findings("base").read_text().splitlines()]
    assert sorted(line["task"] for line in lines) == sorted(
        f"{w}/{n}" for w in range(3) for n in range(10) for _ in "ab"
    )
    assert len(read_journal(paths.journal("base")).records) == len(run.records)
