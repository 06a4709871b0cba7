"""python -m train.runs: what it lists and moves, what it refuses, and what no kill can break."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import tomli_w
from conftest import run_in
from training import by_name, here, raising

from dataprep import manifest, verify
from dataprep.errors import DataError, UsageError
from dataprep.ledger import TRASH, TRASH_RECEIPT, find_journals
from dataprep.paths import Paths
from dataprep.recipe import load_recipe
from dataprep.sql import ask
from train.journal import Journal
from train.runs import __main__ as runs
from train.runs import trash

KILL_AT = Path(__file__).parents[1] / "crash" / "kill_at.py"
STARTED = {"stage": "pretrain", "recipe": "mix", "recipe_sha256": "0", "params": 1, "world_size": 2, "seq_len": 64}
STARTED |= {
    "batch_rows": 8,
    "micro_batch": 2,
    "accumulation": 2,
    "plan_rows": 200,
    "argv": ["--manifest", "--run", "base"],
}


def write_run(paths: Paths, run: str, parent: tuple[str, int] | None = None, *, ended: bool = True) -> None:
    """A run of three steps of eight rows as the trainer leaves it: saved after two, the third not in the weights."""
    folder, time = paths.runs / run, "2026-11-01T10:00:00+00:00"
    journal = Journal(folder / "journal.jsonl")
    begun = {"parent_run": parent and parent[0], "parent_step": parent and parent[1], "rows_done": 0, "step": 0}
    journal.write("start", **STARTED, **begun, time=time)
    for step in (1, 2, 3):
        rows = {"row_from": 8 * step - 8, "row_to": 8 * step, "tokens": 512, "loss_tokens": 512}
        journal.write("step", step=step, **rows, loss=4.0 - step, lr=0.001)
        if step == 2:
            done = {"step": 2, "rows_done": 16, "tokens_done": 1_024, "bytes": 7, "sha256": "a"}
            journal.write("checkpoint", **done, path="checkpoints/step_00000002", time=time)
    if ended:
        journal.write("end", status="failed", step=3, rows_done=16, tokens_done=1_024, time=time)
    journal.close()
    made = folder / "checkpoints" / "step_00000002"
    made.mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"weights")
    (folder / "samples").mkdir()
    (folder / "samples" / "one.txt").write_text("The mill")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """base, its child (from step 2) and the child's own child."""
    paths = Paths(root=tmp_path / "root")
    write_run(paths, "base")
    write_run(paths, "child", ("base", 2))
    write_run(paths, "grandchild", ("child", 2), ended=False)
    return paths


def call(paths: Paths, *arguments: str) -> None:
    assert run_in(paths.root, runs.main, *arguments) == 0


def refused(paths: Paths, match: str, *arguments: str) -> None:
    before = whole(paths.runs)
    with pytest.raises(UsageError, match=f"(?s){match}") as refusal:
        run_in(paths.root, runs.main, *arguments)
    assert len(str(refusal.value).splitlines()) == 3
    assert whole(paths.runs) == before


def whole(folder: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.name != ".runs.lock"
    }


def listed(paths: Paths, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    call(paths, *(arguments or ("ls",)), "--json")
    return json.loads(capsys.readouterr().out)


def test_ls_tells_every_run_its_tokens_and_how_it_ended(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    call(paths, "trash", "base", "--force")
    by_run = {line["run"]: line for line in listed(paths, capsys)}
    assert list(by_run) == ["base", "child", "grandchild"]
    wanted = {"parent": "child@2", "status": "killed", "rows_done": 16, "plan_rows": 200, "last_loss": 2.0}
    wanted |= {"tokens_in_weights": 3 * 1_024, "own_tokens": 1_024, "tokens_not_in_weights": 512, "checkpoints": 1}
    assert wanted.items() <= by_run["grandchild"].items()
    assert by_run["grandchild"]["trashed_at"] is None
    assert by_run["child"]["status"] == "failed"
    assert by_run["base"]["trashed_at"]
    on_disk = sum(file.stat().st_size for file in (paths.runs / "child").rglob("*") if file.is_file())
    assert by_run["child"]["bytes_on_disk"] == on_disk
    call(paths, "ls")
    assert "16/200" in capsys.readouterr().out


def test_ls_of_nothing_is_an_empty_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(Paths(root=tmp_path), "ls")
    assert "next: python train/main.py" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_journal_is_damaged_is_not_said_to_be_missing(paths: Paths) -> None:
    (paths.runs / "child" / "journal.jsonl").write_text("garbage\n")
    with pytest.raises(DataError, match="line 1 of the journal of run 'child' is damaged"):
        call(paths, "show", "child")


def test_a_link_to_a_run_is_neither_trashed_nor_purged_with_it(paths: Paths) -> None:
    before = whole(paths.runs / "base")
    (paths.runs / "newest").symlink_to(paths.runs / "base")
    refused(paths, "is a link", "trash", "newest")
    (paths.runs / TRASH).mkdir()
    (paths.runs / "newest").rename(paths.runs / TRASH / "newest")
    (paths.runs / "base" / TRASH_RECEIPT).write_text("{}")
    refused(paths, "is a link", "purge", "newest", "--yes", "--yes")
    (paths.runs / "base" / TRASH_RECEIPT).unlink()
    assert whole(paths.runs / "base") == before


def test_one_damaged_journal_hides_no_other_run(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    (paths.runs / "child" / "journal.jsonl").write_text("{\n{}\n")
    call(paths, "ls", "--json")
    printed = capsys.readouterr()
    assert [line["run"] for line in json.loads(printed.out)] == ["base", "grandchild"]
    assert "line 1 of the journal of run 'child' is damaged" in printed.err


def test_show_tells_attempts_lineage_checkpoints_children_and_how_to_go_on(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    page = listed(paths, capsys, "show", "child")
    assert [(r["ancestor"], r["row_from"], r["row_to"], r["tokens"]) for r in page["lineage"]] == [
        *(("base", 0, 16, 1_024), ("child", 0, 16, 1_024))
    ]
    assert page["children"] == ["grandchild (from child@2)"]
    assert page["checkpoints"] == [{"name": "step_00000002", "bytes": 7}]
    assert page["resume"] == "torchrun --standalone --nproc_per_node=2 -- train/main.py --manifest --run base"
    assert page["attempts"][0]["rows in weights"] == "0 to 16"
    call(paths, "show", "base")
    assert "go on with: torchrun" in capsys.readouterr().out
    call(paths, "trash", "base", "--force")
    assert listed(paths, capsys, "show", "base")["resume"] == "python -m train.runs restore base"
    refused(paths, "there is no run 'bass'.*seen: child, grandchild", "show", "bass")


def test_trash_and_restore_move_the_run_whole_and_the_ledger_stays(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    before = whole(paths.runs / "base")
    notes = manifest.rebuild(paths).notes
    tables = {table: ask(paths, f"FROM {table} ORDER BY ALL")[1] for table in ("steps", "ancestor_rows", "checkpoints")}
    call(paths, "trash", "base", "--force")
    printed = capsys.readouterr().out
    assert f"{sum(map(len, before.values())):,} bytes" in printed or "kB" in printed
    assert "only a purge frees" in printed
    assert "next: python -m train.runs restore base" in printed
    assert not (paths.runs / "base").exists()
    assert manifest.is_stale(paths)
    assert manifest.rebuild(paths).notes == notes
    assert {table: ask(paths, f"FROM {table} ORDER BY ALL")[1] for table in tables} == tables
    assert ask(paths, "SELECT run, trashed_at IS NOT NULL FROM runs ORDER BY run")[1] == [
        *(("base", True), ("child", False), ("grandchild", False))
    ]
    call(paths, "restore", "base")
    assert whole(paths.runs / "base") == before
    manifest.rebuild(paths)
    assert ask(paths, "SELECT count(trashed_at) FROM runs")[1] == [(0,)]


def test_what_must_stay_is_not_trashed(paths: Paths) -> None:
    refused(paths, "that are not in the trash descend from 'base'.*seen: child, grandchild", "trash", "base")
    refused(paths, "there is no run 'bass'", "trash", "bass")
    call(paths, "trash", "grandchild")
    refused(paths, "run 'grandchild' is in the trash already", "trash", "grandchild")
    call(paths, "trash", "child")  # its only child is in the trash
    call(paths, "restore", "grandchild")
    refused(paths, "descend from 'base'.*seen: grandchild", "trash", "base")  # through a trashed one
    with pytest.raises(SystemExit):
        run_in(paths.root, runs.main, "trash", "../base")


def test_restore_refuses_what_is_not_there_and_a_name_taken_again(paths: Paths) -> None:
    refused(paths, "run 'base' is not in the trash", "restore", "base")
    call(paths, "trash", "grandchild")
    write_run(paths, "grandchild")
    refused(paths, "the name 'grandchild' is taken twice", "restore", "grandchild")
    refused(paths, "the name 'grandchild' is taken twice", "trash", "grandchild")
    assert find_journals(paths.runs)["grandchild"].parent == paths.runs / "grandchild"


def test_a_run_that_is_being_trained_is_told_and_not_moved(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = Journal(paths.runs / "grandchild" / "journal.jsonl")
    try:
        assert {line["run"]: line["status"] for line in listed(paths, capsys)}["grandchild"] == "training"
        refused(paths, "run 'grandchild' is being trained now", "trash", "grandchild", "--force")
    finally:
        trainer.close()
    call(paths, "trash", "grandchild")


def test_a_trainer_that_opened_a_journal_before_it_was_trashed_is_refused(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def open_then_trash(file: Any, *rest: Any, **more: Any) -> int:
        descriptor = opened(file, *rest, **more)
        monkeypatch.undo()
        call(paths, "trash", "grandchild")
        return descriptor

    monkeypatch.setattr(os, "open", open_then_trash)
    with pytest.raises(UsageError, match="is being trained by another process"):
        Journal(paths.runs / "grandchild" / "journal.jsonl")


def test_purge_frees_the_checkpoints_and_keeps_the_journal(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    refused(paths, "run 'grandchild' is not in the trash", "purge", "grandchild", "--yes", "--yes")
    call(paths, "trash", "grandchild")
    journal = (paths.runs / ".trash" / "grandchild" / "journal.jsonl").read_bytes()
    for doubt in ([], ["--yes"]):
        refused(paths, "cannot be undone, and nobody is there", "purge", "grandchild", *doubt)
    call(paths, "purge", "grandchild", "--yes", "--yes")
    assert "15 bytes freed" in capsys.readouterr().out
    left = whole(paths.runs / ".trash" / "grandchild")
    assert sorted(left) == ["journal.jsonl", "trashed.json"]
    assert left["journal.jsonl"] == journal
    assert json.loads(left["trashed.json"])["purged_at"]
    refused(paths, "run 'grandchild' was purged", "restore", "grandchild")
    manifest.rebuild(paths)
    assert ask(paths, "SELECT sum(tokens)::BIGINT FROM lineage WHERE run = 'grandchild'")[1] == [(3 * 1_024,)]


def test_an_interrupted_purge_is_never_restored_and_goes_on(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(paths, "trash", "grandchild")
    with monkeypatch.context() as interrupted:
        interrupted.setattr(trash, "shutil", SimpleNamespace(rmtree=raising(KeyboardInterrupt())))
        with pytest.raises(KeyboardInterrupt):
            call(paths, "purge", "grandchild", "--yes", "--yes")
    refused(paths, "run 'grandchild' was purged.*it was interrupted", "restore", "grandchild")
    call(paths, "purge", "grandchild", "--yes", "--yes")
    assert "15 bytes freed" in capsys.readouterr().out
    assert sorted(whole(paths.runs / ".trash" / "grandchild")) == ["journal.jsonl", "trashed.json"]


@pytest.mark.parametrize(
    ("answers", "code"),
    [("grandchild\nyes\n", 0), ("grandchild\nno\n", 2), ("child\n", 2), ("\x04", 2), ("grandchild\n\x04", 2)],
)
def test_purge_asks_twice_on_a_terminal(paths: Paths, answers: str, code: int) -> None:
    call(paths, "trash", "grandchild")
    ours, terminal = pty.openpty()
    os.write(ours, answers.encode())
    done = subprocess.run(
        [sys.executable, "-m", "train.runs", "purge", "grandchild"],
        env=os.environ | {"DATAPREP_ROOT": str(paths.root), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(ours)
    os.close(terminal)
    assert done.returncode == code, done.stderr
    assert "type the run's name" in done.stdout
    assert (paths.runs / ".trash" / "grandchild" / "checkpoints").exists() == bool(code)


KILLS = [
    *(("trash", 1, step) for step in ("opened", "written", "synced", "renamed", "published")),  # of the receipt
    *(("trash", 2, step) for step in ("synced", "renamed", "published")),  # of the folder
    *(("restore", 1, step) for step in ("synced", "renamed", "published")),
]


@pytest.mark.parametrize(("verb", "turn", "step"), KILLS)
def test_killed_at_any_step_the_run_is_whole_in_one_place(paths: Paths, verb: str, turn: int, step: str) -> None:
    before = whole(paths.runs / "grandchild")
    if verb == "restore":
        call(paths, "trash", "grandchild")
    done = subprocess.run(
        [sys.executable, str(KILL_AT), step, str(turn), "train.runs.__main__", verb, "grandchild"],
        env=os.environ | {"DATAPREP_ROOT": str(paths.root), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    places = [folder for folder in (paths.runs / "grandchild", paths.runs / ".trash" / "grandchild") if folder.exists()]
    assert len(places) == 1
    assert before.items() <= whole(places[0]).items()
    manifest.rebuild(paths)
    trashed = places[0].parent.name == ".trash"
    assert ask(paths, "SELECT trashed_at IS NOT NULL FROM runs WHERE run = 'grandchild'")[1] == [(trashed,)]
    call(paths, "restore" if trashed else "trash", "grandchild")
    call(paths, "trash" if trashed else "restore", "grandchild")


def test_a_trashed_name_is_not_trained_and_a_trashed_parent_says_restore(
    root: Path,
) -> None:
    paths = Paths(root=root)
    write_run(paths, "base")
    call(paths, "trash", "base")
    for asked in (["--run", "base"], ["--run", "new", "--parent", "base"], ["--run", "new", "--parent", "base@2"]):
        with pytest.raises(UsageError, match=r"run 'base' is in the trash(?s:.*)python -m train\.runs restore base"):
            here(*asked)
    assert find_journals(paths.runs) == {"base": paths.runs / ".trash" / "base" / "journal.jsonl"}


def test_a_history_over_a_packed_recipe_counts_every_shard_to_the_token(root: Path, tmp_path: Path) -> None:
    paths = Paths(root=root)
    n_rows = load_recipe(paths, "mix").plan_rows
    step = {"run": "old", "recipe": "mix", "gpus": 2, "micro-batch": 4, "accumulation": 1, "seq-len": 64}
    to_step = n_rows // 8 + 3  # the last steps read the first rows again
    entries = [
        step | {"from-step": 0, "to-step": to_step},
        step | {"run": "fork", "parent": f"old@{to_step}", "from-step": 0, "to-step": 2, "reread": True},
    ]
    file = tmp_path / "history.toml"
    file.write_text(tomli_w.dumps({"entry": entries}))
    call(paths, "replay", str(file))
    assert manifest.rebuild(paths).notes == ()
    n_again = to_step * 8 - n_rows
    plan = pl.read_parquet(paths.plans / "mix.parquet")
    tokens = [sum(plan.filter(pl.col("row") < row)["length"]) for row in (n_rows, n_again, 16)]
    seen = dict(ask(paths, "SELECT run, sum(tokens_seen)::BIGINT FROM seen GROUP BY run")[1])
    assert seen == {"old": tokens[0] + tokens[1], "fork": sum(tokens)}
    query = "SELECT run, tokens_in_weights, reseen_tokens, rows_seen - distinct_rows FROM reseen ORDER BY run"
    assert ask(paths, query)[1] == [
        ("fork", sum(tokens), tokens[1] + tokens[2], n_again + 16),
        ("old", tokens[0] + tokens[1], tokens[1], n_again),
    ]
    assert run_in(paths.root, verify.main) == 0
    with pytest.raises(UsageError, match="replayed from a file, not trained"):
        by_name("old")


def test_no_torch_is_loaded() -> None:
    code = "import train.runs.__main__, sys; print('torch' in sys.modules, 'duckdb' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
