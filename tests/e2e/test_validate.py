"""Runs that are judged as they go: by the same rows on any number of ranks, without a trace in the weights."""

import json
from pathlib import Path
from typing import Any

import pytest
from masked import publish_variant, write_mask
from training import here, losses, main, records

from dataprep import manifest
from dataprep.errors import DataError
from dataprep.paths import SHIPPED_MANIFESTS, Paths
from dataprep.sql import ask
from train.judge import Judge
from train.loop import Attempt

NINE, ONE_STEP, SIX_STEPS = ("--validate-rows", "9"), ("--tokens", "512"), ("--tokens", "3072")


def places(root: Path, run: str) -> list[tuple[int, str, str]]:
    return [(record["step"], record["suite"], record["task"]) for record in records(root, run, "eval")]


def answer(root: Path, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    assert manifest.rebuild(Paths(root=root)).notes == ()
    return ask(Paths(root=root), query)


def every_score(step: int) -> list[tuple[int, str, str]]:
    return [(step, suite, task) for task in ("alpha", "beta") for suite in ("heldout", "heldout-bpb")]


def test_masked_scores_and_losses_inside_documents_do_not_depend_on_ranks_or_micro_batch(root: Path) -> None:
    write_mask(root, "beta", "shard_00000")
    write_mask(root, "beta", "shard_00001")
    publish_variant(root, "sft", loss="assistant", attention="document")
    here(*NINE, "--run", "base", *SIX_STEPS)
    # A child's first scores are of its parent's weights, whatever it trains on.
    child = (*NINE, "--recipe", "sft", "--parent", "base", "--stage", "sft", *SIX_STEPS)
    here(*child, "--run", "one", "--micro-batch", "1")
    here(*child, "--run", "four", "--micro-batch", "4")
    done = main(*child, "--run", "two", "--micro-batch", "4", ranks=2)
    assert done.returncode == 0, done.stderr
    wanted = [record for record in records(root, "one", "eval") if record["step"] == 0]
    assert [record["n"] for record in wanted] == [9] * 4
    counts = [record["loss_tokens"] for record in records(root, "one", "step")]
    for run in ("four", "two"):
        assert [record["loss_tokens"] for record in records(root, run, "step")] == counts
        assert losses(root, run) == pytest.approx(losses(root, "one"), abs=1e-4)
        found = [record for record in records(root, run, "eval") if record["step"] == 0]
        for ours, theirs in zip(found, wanted, strict=True):
            exact = ("suite", "task", "n", "rows_sha256")
            assert [ours[key] for key in exact] == [theirs[key] for key in exact]
            assert ours["value"] == pytest.approx(theirs["value"], rel=1e-6)
            assert ours["stderr"] == pytest.approx(theirs["stderr"], rel=1e-4)
    by_parent = {record["task"]: record["value"] for record in records(root, "base", "eval")[::2]}
    by_child = {record["task"]: record["value"] for record in wanted[::2]}
    assert by_child["beta"] != pytest.approx(by_parent["beta"], rel=1e-6)  # the assistant's targets alone count


def test_the_weights_and_losses_are_bit_equal_with_and_without_validation(root: Path) -> None:
    printed = here(*NINE, "--run", "judged", *SIX_STEPS, "--validate-every", "2")
    assert [line.split(" | ")[0] for line in printed.splitlines() if line.startswith("heldout")] == [
        "heldout step 2",
        "heldout step 4",
        "heldout step 6",
    ]
    assert printed.index("heldout step 6") < printed.index("sample: ")
    assert "every 2 steps and at the end by held-out rows: 9 of alpha, 9 of beta" in printed
    for suffix in ("bin", "docs", "json"):
        (root / f"data/bins/tiny-bpe/alpha/shard_00003.{suffix}").unlink()
        (root / f"data/bins/tiny-bpe/beta/shard_00001.{suffix}").unlink()
    printed = here(*NINE, "--run", "unjudged", *SIX_STEPS)
    assert "validation is off; no held-out shard of alpha; no held-out shard of beta" in printed
    assert "heldout step" not in printed
    assert places(root, "judged") == [*every_score(2), *every_score(4), *every_score(6)]
    assert places(root, "unjudged") == []
    ours, theirs = ([record["loss"] for record in records(root, run, "step")] for run in ("judged", "unjudged"))
    assert ours == theirs
    assert records(root, "judged", "checkpoint")[-1]["sha256"] == records(root, "unjudged", "checkpoint")[-1]["sha256"]
    assert records(root, "judged", "sample")[0] == records(root, "unjudged", "sample")[0]


def test_weights_that_were_judged_before_a_kill_are_not_judged_again(root: Path) -> None:
    asked = (*NINE, "--run", "mine", *SIX_STEPS, "--validate-every", "3")
    here(*asked)
    journal = root / "runs" / "mine" / "journal.jsonl"
    whole = journal.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["kind"] for line in whole[-2:]] == ["sample", "end"]
    journal.write_bytes(b"".join(whole[:-2]))  # killed before the sample
    here(*asked)
    assert places(root, "mine") == [*every_score(3), *every_score(6)]
    journal.write_bytes(b"".join(whole[:-3]))  # killed before its last score was written
    here(*asked)
    assert places(root, "mine") == [*every_score(3), *every_score(6)[:-1], *every_score(6)]
    counted = answer(root, "SELECT step, count(*) FROM evals GROUP BY step ORDER BY step")[1]
    assert counted == [(3, 4), (6, 4)]


def test_scores_of_weights_that_a_crash_threw_away_are_not_in_the_table(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (*NINE, "--run", "crashed", *SIX_STEPS, "--checkpoint-every", "4", "--validate-every", "5")
    honest = Attempt._accumulate_gradients

    def crashed_at_six(self: Attempt, *rows: Any) -> float:
        if self.cursor.step == 5:
            raise MemoryError
        return honest(self, *rows)

    with monkeypatch.context() as broken:
        broken.setattr(Attempt, "_accumulate_gradients", crashed_at_six)
        with pytest.raises(MemoryError):
            here(*asked)
    here(*asked, "--batch-tokens", "1024")  # from row 32 on, 16 rows at once: step 5 ends at another row now
    assert places(root, "crashed") == [*every_score(5), *every_score(5)]
    thrown_away, kept = (record["tokens_done"] for record in records(root, "crashed", "eval")[::4])
    assert (thrown_away, kept) == (2_560, 3_072)
    lines = answer(root, "SELECT DISTINCT step, tokens_done FROM evals")[1]
    assert lines == [(5, 3_072)]


def test_the_shipped_query_draws_scores_against_the_tokens_in_the_weights_of_the_whole_ancestry(root: Path) -> None:
    here(*NINE, "--run", "base", *SIX_STEPS, "--checkpoint-every", "4")
    here(*NINE, "--run", "child", "--parent", "base@4", "--stage", "midtrain", *ONE_STEP)
    header, lines = answer(root, (SHIPPED_MANIFESTS / "queries" / "heldout.sql").read_text())
    found = [dict(zip(header, line, strict=True)) for line in lines]
    keys = ("run", "source", "counted", "step", "tokens_in_weights")
    assert [tuple(line[key] for key in keys) for line in found] == [
        ("base", "alpha", "all", 6, 3_072),
        ("base", "beta", "all", 6, 3_072),
        ("child", "alpha", "all", 0, 2_048),
        ("child", "alpha", "all", 1, 2_560),
        ("child", "beta", "all", 0, 2_048),
        ("child", "beta", "all", 1, 2_560),
    ]
    written = {(r["step"], r["suite"], r["task"]): r["value"] for r in records(root, "base", "eval")}
    assert found[0]["loss"] == pytest.approx(written[6, "heldout", "alpha"], abs=1e-4)
    assert found[0]["bits_per_byte"] == pytest.approx(written[6, "heldout-bpb", "alpha"], abs=1e-4)
    assert all(line["loss_stderr"] > 0 for line in found)
    assert all(line["bits_stderr"] > 0 for line in found)


def test_a_damaged_held_out_bin_is_refused_before_training_and_leaves_no_run(root: Path) -> None:
    file = root / "data/bins/tiny-bpe/beta/shard_00001.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"shard_00001\.bin of beta is not what its receipt says"):
        here(*NINE, *ONE_STEP)
    assert not list((root / "runs").glob("*"))


def test_seconds_spent_on_validation_are_no_steps_seconds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Judge._validate
    now = 0.0
    monkeypatch.setattr("train.loop.time.perf_counter", lambda: now)

    def slow(self: Judge, *given: Any) -> None:
        nonlocal now
        now += 1_000.0
        honest(self, *given)

    def step(self: Attempt, *rows: Any) -> float:
        nonlocal now
        now += 1.0
        return trained(self, *rows)

    trained = Attempt._accumulate_gradients
    monkeypatch.setattr(Judge, "_validate", slow)
    monkeypatch.setattr(Attempt, "_accumulate_gradients", step)
    here(*NINE, "--run", "slow", *SIX_STEPS, "--validate-every", "1")
    assert [record["seconds"] for record in records(root, "slow", "step")] == [1.0] * 6
