"""`dataprep.explain`: every token of a step, named by file and row, and its text with the loss marked."""

import json
from typing import Any

import pyarrow.parquet as pq
import pytest
import tomli_w
from conftest import run_in
from masked import publish_variant, write_mask
from trained import Run, rows_of, trash

from dataprep import explain, pack
from dataprep.decoded import Run as Shown
from dataprep.errors import DataError, QuernError, UsageError
from dataprep.paths import Paths
from dataprep.recipe import load_recipe
from dataprep.sealed import open_record
from train.runs import __main__ as runs

END = "<|endoftext|>"


@pytest.fixture
def base(paths: Paths) -> Run:
    """Eight rows a step: steps 1–6, of which 4 was saved, then an attempt from there with four rows a step."""
    base = Run(paths, "base", load_recipe(paths, "mix"))
    base.start(batch_rows=8)
    for _ in range(6):
        base.take_step()
        if base.step == 4:
            base.save()
    base.start(4, batch_rows=4)
    base.take_step()
    return base


def explained(paths: Paths, capsys: pytest.CaptureFixture[str], *flags: str, run: str = "base") -> dict[str, Any]:
    capsys.readouterr()
    assert run_in(paths.root, explain.main, "--run", run, "--json", *flags) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("base")
def test_every_token_of_a_step_is_in_one_document_of_one_file(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    got = explained(paths, capsys, "--step", "2")
    assert [got[key] for key in ("state", "attempt", "row_from", "row_to")] == ["in the weights", 1, 8, 16]
    found = [
        (part["row"], part["source"], part["shard"], token)
        for part in got["documents"]
        for token in range(part["start"], part["stop"])
    ]
    rows = rows_of(paths, load_recipe(paths, "mix"))
    assert found == [(row, *token) for row in range(8, 16) for token in rows[row]]


@pytest.mark.usefixtures("base")
def test_a_documents_text_is_that_of_its_row_of_the_file(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    n_ended = 0
    for row in range(16):
        got = explained(paths, capsys, "--step", str(row // 8 + 1), "--row", str(row))
        assert {part["row"] for part in got["documents"]} == {row}
        for part in got["documents"]:
            file = paths.root / part["source"] / part["file"]
            told = pq.read_table(file)["text"].to_pylist()[part["document"]] + END
            shown = "".join(run["text"] for run in part["runs"])
            assert shown in told
            n_ended += shown.endswith(END)
            assert (shown == told) == (part["stop"] - part["start"] == part["document_tokens"])
            assert part["loss_tokens"] == part["stop"] - part["start"]
    assert n_ended


STEPS = {
    "taken and kept": (["--step", "4"], ("in the weights", 1, 24, 32)),
    "taken after the last checkpoint": (["--step", "5"], ("computed, not in the weights", 2, 32, 36)),
    "as an earlier attempt took it": (["--step", "5", "--attempt", "1"], ("computed, not in the weights", 1, 32, 40)),
    "the next one, as after a loss of NaN": (["--step", "6"], ("not taken", 2, 36, 40)),
    "one that will come": (["--step", "8"], ("not taken", 2, 44, 48)),
    "the next one of an earlier attempt": (["--step", "7", "--attempt", "1"], ("not taken", 1, 48, 56)),
}


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(("flags", "wanted"), STEPS.values(), ids=STEPS)
def test_a_steps_rows_are_those_of_the_attempt_that_took_or_takes_it(
    paths: Paths, flags: list[str], wanted: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    got = explained(paths, capsys, *flags)
    assert tuple(got[key] for key in ("state", "attempt", "row_from", "row_to")) == wanted


def test_a_run_that_failed_at_its_first_step_is_explained(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    Run(paths, "first", load_recipe(paths, "mix")).start(batch_rows=2)
    got = explained(paths, capsys, "--step", "1", run="first")
    assert [got[key] for key in ("state", "row_from", "row_to")] == ["not taken", 0, 2]


def test_the_last_step_ends_with_the_plan_and_a_run_in_the_trash_is_explained(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    n_rows = load_recipe(paths, "mix").plan_rows
    Run(paths, "whole", load_recipe(paths, "mix")).start(batch_rows=n_rows - 1)
    trash(paths, "whole")
    got = explained(paths, capsys, "--step", "2", run="whole")
    assert (got["row_from"], got["row_to"]) == (n_rows - 1, n_rows)


def test_a_replayed_step_is_explained_by_its_own_recipe_and_round_the_plans_end(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    packing = ("--mix", "1", "--sources", "beta", "--name", "other", "--seq-len", "64")
    assert run_in(paths.root, pack.main, *packing) == 0
    plan_rows = load_recipe(paths, "mix").plan_rows
    step = {"run": "old", "gpus": 1, "micro-batch": plan_rows - 3, "accumulation": 1, "seq-len": 64}
    entries = [
        step | {"recipe": "mix", "from-step": 0, "to-step": 2},
        step | {"recipe": "other", "from-step": 2, "to-step": 3, "micro-batch": 2},
        step | {"recipe": "mix", "from-step": 3, "to-step": 4, "micro-batch": 5, "reread": True},
    ]
    file = paths.root / "history.toml"
    file.write_text(tomli_w.dumps({"entry": entries}))
    assert run_in(paths.root, runs.main, "replay", str(file)) == 0
    wanted = {2: [*range(plan_rows - 3, plan_rows), *range(plan_rows - 6)], 3: [0, 1], 4: [0, 1, 2, 3, 4]}
    for number, rows in wanted.items():
        got = explained(paths, capsys, "--step", str(number), run="old")
        assert (got["state"], got["recipe"]) == ("in the weights", "other" if number == 3 else "mix")
        assert list(dict.fromkeys(part["row"] for part in got["documents"])) == rows
    one = explained(paths, capsys, "--step", "2", "--row", "0", run="old")
    assert {part["row"] for part in one["documents"]} == {0}


@pytest.mark.usefixtures("base")
def test_people_get_a_line_per_document_and_of_one_row_the_text(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_in(paths.root, explain.main, "--run", "base", "--step", "5") == 0
    out = capsys.readouterr().out
    assert "step 5 of run base (computed, not in the weights; attempt 2): rows 32 to 35 of the plan of mix" in out
    assert "4 rows × 64: 256 tokens, 256 count; 0 padding" in out
    assert "alpha: local" in out
    assert out.splitlines()[-1].endswith("dataprep.explain --run base --step 5 --attempt 2 --row 32")
    assert run_in(paths.root, explain.main, "--run", "base", "--step", "5", "--row", "33") == 0
    assert ", document " in capsys.readouterr().out


def test_what_does_not_count_is_marked(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    mask = write_mask(paths.root, "beta", "shard_00000")
    run = Run(paths, "sft", publish_variant(paths.root, "sft", loss="assistant"))
    run.start(batch_rows=8)
    run.take_step()
    got = explained(paths, capsys, "--step", "1", run="sft")
    parts = [part for part in got["documents"] if part["source"] == "beta"]
    assert [part["loss_tokens"] for part in parts] == [int(mask[p["start"] : p["stop"]].sum()) for p in parts]
    row = parts[0]["row"]
    runs = [
        run
        for part in explained(paths, capsys, "--step", "1", "--row", str(row), run="sft")["documents"]
        for run in part["runs"]
    ]
    assert run_in(paths.root, explain.main, "--run", "sft", "--step", "1", "--row", str(row)) == 0
    out = capsys.readouterr().out
    assert all((f"«{run['text']}»" if run["loss"] == 0 else run["text"]) in out for run in runs)
    assert {run["loss"] for run in runs} == {0, 1}


@pytest.mark.parametrize("coloured", [True, False])
def test_a_document_does_not_steer_the_terminal(coloured: bool) -> None:
    hostile = Shown(role="text", special=False, loss=0, ids=(1,), tokens=("a\x1b[2J\rb\n",))
    shown = explain._shown(hostile, coloured=coloured)
    assert "a\\x1b[2J\\rb\n" in shown
    assert shown.count("\x1b") == (2 if coloured else 0)  # ours alone


def lose(paths: Paths, what: str) -> None:
    (paths.manifests / what).unlink()


REFUSALS = {
    "no such run": (["--run", "nobody", "--step", "1"], UsageError, "there is no run 'nobody'"),
    "no such attempt": (["--run", "base", "--step", "1", "--attempt", "3"], UsageError, "has no attempt 3"),
    "before the attempt": (["--run", "base", "--step", "3", "--attempt", "2"], UsageError, "did not take step 3"),
    "after the plan": (["--run", "base", "--step", "900"], UsageError, "ends before step 900"),
    "a row of another step": (["--run", "base", "--step", "1", "--row", "8"], UsageError, "row 8 is not in step 1"),
}


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(("flags", "kind", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_not_there_is_refused_in_three_lines(
    paths: Paths, flags: list[str], kind: type[QuernError], words: str
) -> None:
    with pytest.raises(kind, match=words) as refused:
        run_in(paths.root, explain.main, *flags)
    assert len(str(refused.value).splitlines()) == 3


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    ("lost", "words"),
    [("plans/mix.parquet", "the plan of 'mix' is not the one"), ("recipes/mix.toml", "recipe 'mix', which run base")],
)
def test_a_plan_or_recipe_that_is_gone_is_named(paths: Paths, lost: str, words: str) -> None:
    lose(paths, lost)
    with pytest.raises(DataError, match=words):
        run_in(paths.root, explain.main, "--run", "base", "--step", "1")


@pytest.mark.usefixtures("base")
def test_a_bin_that_changed_is_not_taken_for_what_the_model_was_given(paths: Paths) -> None:
    for receipt in paths.bins("tiny-bpe", "alpha").glob("*.json"):
        told = open_record(receipt.read_bytes())
        told["bin"]["sha256"] = "0" * 64
        receipt.write_text(json.dumps(told))
    with pytest.raises(DataError, match="of alpha changed after the plan was made"):
        run_in(paths.root, explain.main, "--run", "base", "--step", "1")
