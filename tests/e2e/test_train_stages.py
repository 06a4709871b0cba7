"""Stages: a run that begins from another's weights, learns from the assistant alone, and is told apart to the row."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from masked import publish_variant, write_mask
from training import here, losses, records, settle, weights

from dataprep import manifest
from dataprep.errors import DataError, UsageError
from dataprep.paths import Paths
from dataprep.sql import ask
from train.checkpoint import state_hash
from train.config import parse_config
from train.loop import Attempt
from train.saving import copy_to_host

TEN_STEPS = ("--tokens", "5120")


@pytest.fixture(scope="module")
def trained_root(packed_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes `mix` and `sft` (beta's tokens masked, attention inside documents), and a run `base` of 20 steps."""
    root = tmp_path_factory.mktemp("stages") / "root"
    shutil.copytree(packed_root, root)
    n_counted = int(write_mask(root, "beta", "shard_00000").sum())
    publish_variant(root, "sft", loss="assistant", attention="document", loss_tokens=n_counted)
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, root)
        here("--run", "base", "--tokens", "10240", "--checkpoint-every", "10")
    return root


@pytest.fixture
def root(trained_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(trained_root, copy)
    settle(monkeypatch, copy)
    return copy


def sft(run: str, *flags: str) -> str:
    return here("--recipe", "sft", "--run", run, *flags)


def test_a_stage_begins_with_its_parents_weights_and_a_fresh_optimizer(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_with = {}
    honest = Attempt._begin

    def looked_at(self: Attempt) -> None:
        begun_with.update({name: tensor.clone() for name, tensor in self.model.state_dict().items()})
        assert not self.optimizer.state_dict()["state"]
        honest(self)

    monkeypatch.setattr(Attempt, "_begin", looked_at)
    printed = sft("tuned", "--parent", "base@10", "--stage", "sft", *TEN_STEPS, "--prompt", "the mill?")
    torch.testing.assert_close(begun_with, weights(root, "base", 10), rtol=0, atol=0)
    (started,) = records(root, "tuned", "start")
    assert [started[key] for key in ("parent_run", "parent_step", "stage", "rows_done")] == ["base", 10, "sft", 0]
    assert started["learning_rate"] == pytest.approx(3e-4)  # a tenth of nano's
    assert "from   row 0, weights of base at step 10" in printed
    assert "of them; attention inside documents" in printed
    # Counted targets are fewer than tokens; the sample is asked as a user asks.
    steps = records(root, "tuned", "step")
    assert [record["tokens"] for record in steps] == [512] * 10
    assert all(0 < record["loss_tokens"] < 512 for record in steps)
    assert "user: the mill?\nassistant: " in printed
    again = sft("tuned", *TEN_STEPS)  # neither --parent nor --stage is needed to look at it again
    assert "nothing is left to train" in again
    assert "user: the mill?\nassistant: " in again


def fail_at_once(monkeypatch: pytest.MonkeyPatch, run: str, *flags: str) -> None:
    """Begin a run that has no checkpoint in the end."""
    with monkeypatch.context() as broken:
        broken.setattr(Attempt, "_accumulate_gradients", lambda *_: float("nan"))
        with pytest.raises(DataError, match="step 1 is not finite"):
            sft(run, *flags, *TEN_STEPS)


def test_a_kept_optimizer_goes_on_from_the_parents_moments_also_after_a_failure(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_with = []
    honest = Attempt._begin

    def looked_at(self: Attempt) -> None:
        begun_with.append(copy_to_host(self.optimizer.state_dict()["state"]))
        honest(self)

    monkeypatch.setattr(Attempt, "_begin", looked_at)
    keep = ("--parent", "base@10", "--keep-optimizer")
    fail_at_once(monkeypatch, "kept", *keep)
    printed = sft("kept", *TEN_STEPS)  # what it began with is remembered: no flag is needed
    assert "from   row 0, weights and optimizer of base at step 10" in printed
    moments = root / "runs" / "base" / "checkpoints" / "step_00000010" / "optimizer.pt"
    wanted = torch.load(moments, weights_only=True)["state"]
    assert wanted
    for held in begun_with:
        torch.testing.assert_close(held, wanted, rtol=0, atol=0)
    assert len(begun_with) == 2
    assert [record["kept_optimizer"] for record in records(root, "kept", "start")] == [True, True]
    sft("fresh", "--parent", "base@10", *TEN_STEPS)
    assert records(root, "fresh", "start")[0]["kept_optimizer"] is False
    assert losses(root, "kept")[0] == losses(root, "fresh")[0]  # the same weights
    assert losses(root, "kept")[1:] != losses(root, "fresh")[1:]


def test_an_optimizer_that_cannot_be_kept_is_refused_by_name(root: Path) -> None:
    with pytest.raises(UsageError, match="has no parent's optimizer to keep"):
        sft("new", "--keep-optimizer", *TEN_STEPS)
    with pytest.raises(DataError, match=r"parent base@20 has another optimizer\n  seen: optimizer adamw, wanted: muon"):
        sft("new", "--parent", "base", "--keep-optimizer", "--optimizer", "muon", *TEN_STEPS)
    assert not (root / "runs" / "new").exists()
    sft("without", "--parent", "base", "--tokens", "2560")
    with pytest.raises(UsageError, match="seen: --keep-optimizer, but it began without"):
        sft("without", "--keep-optimizer", *TEN_STEPS)


def test_a_parent_keeps_what_a_child_without_a_checkpoint_began_from(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at_once(monkeypatch, "child", "--parent", "base@10")

    def kept() -> list[str]:
        return sorted(folder.name for folder in (root / "runs" / "base" / "checkpoints").iterdir())

    here("--run", "base", "--tokens", "15360", "--keep", "1")
    assert kept() == ["step_00000010", "step_00000030"]
    sft("child", *TEN_STEPS)
    here("--run", "base", "--tokens", "17920", "--keep", "1")
    assert kept() == ["step_00000035"]


def test_the_newest_checkpoint_is_the_default_and_stays_when_the_parent_goes_on(root: Path) -> None:
    child = ("--parent", "base", "--stage", "midtrain")
    sft("child", *child, *TEN_STEPS)
    here("--run", "base", "--tokens", "15360")
    sft("child", *child, "--tokens", "7680")  # the same command again, but for where it stops
    assert [record["parent_step"] for record in records(root, "child", "start")] == [20, 20]
    assert [record["stage"] for record in records(root, "child", "start")] == ["midtrain", "midtrain"]
    assert records(root, "child", "step")[-1]["step"] == 15


def test_stopped_or_failed_and_resumed_a_stage_ends_as_if_undisturbed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = ("--parent", "base@10", "--stage", "sft")
    sft("whole", *begin, *TEN_STEPS)
    assert losses(root, "whole")[0] != pytest.approx(losses(root, "base")[0], abs=0.01)

    sft("stopped", *begin, "--tokens", "2560")
    shutil.rmtree(root / "runs" / "base" / "checkpoints")  # from here on nothing of the parent is needed
    sft("stopped", *TEN_STEPS)
    assert losses(root, "stopped") == pytest.approx(losses(root, "whole"), abs=1e-6)
    assert records(root, "stopped", "start")[1]["learning_rate"] == records(root, "whole", "start")[0]["learning_rate"]

    shutil.copytree(root / "runs" / "whole", root / "runs" / "parent")
    fail_at_once(monkeypatch, "failed", "--parent", "parent")
    printed = sft("failed", *TEN_STEPS)  # it had no checkpoint of its own: the parent's weights once more
    assert "from   row 0, weights of parent at step 10" in printed
    sft("straight", "--parent", "parent", *TEN_STEPS)
    assert losses(root, "failed") == losses(root, "straight")


def test_the_ledger_goes_along_the_ancestry(root: Path) -> None:
    sft("child", "--parent", "base@10", *TEN_STEPS)
    sft("grandchild", "--parent", "child", *TEN_STEPS)
    here("--run", "base", "--tokens", "15360")
    paths = Paths(root=root)
    assert manifest.rebuild(paths).notes == ()
    _, lineage = ask(paths, "SELECT ancestor, recipe, row_from, row_to, tokens FROM lineage WHERE run = 'grandchild'")
    assert lineage == [
        ("base", "mix", 0, 80, 5_120),
        ("child", "sft", 0, 80, 5_120),
        ("grandchild", "sft", 0, 80, 5_120),
    ]
    plan = pl.read_parquet(root / "manifests/plans/mix.parquet").filter(pl.col("row") < 80)
    of_shard = plan.group_by("source", "shard").agg(pl.col("length").sum())
    once = {(source, shard): tokens for source, shard, tokens in of_shard.iter_rows()}
    _, seen = ask(paths, "SELECT source, shard, tokens_seen, shard_tokens, passes FROM seen WHERE run = 'grandchild'")
    assert {(source, shard): tokens for source, shard, tokens, *_ in seen} == {key: 3 * n for key, n in once.items()}
    assert all(passes == pytest.approx(tokens / held) for _, _, tokens, held, passes in seen)
    _, parents = ask(paths, "SELECT run, parent_run, parent_step FROM runs ORDER BY run")
    assert parents == [("base", None, None), ("child", "base", 10), ("grandchild", "child", 10)]


def test_what_the_ledger_cannot_tell_is_a_note(root: Path) -> None:
    sft("child", "--parent", "base", *TEN_STEPS)
    shutil.rmtree(root / "runs" / "base")
    publish_variant(root, "sft", seed=5)
    paths = Paths(root=root)
    assert manifest.rebuild(paths).notes == (
        "run child: what base saw is not known: no journal of that name holds these weights of step 20",
        "run child: recipe sft is packed anew, with other rows, so its tokens per shard cannot be counted",
    )
    assert ask(paths, "SELECT ancestor, tokens FROM lineage")[1] == [("child", 5_120)]
    assert ask(paths, "FROM seen")[1] == []


def test_a_parent_that_does_not_fit_is_refused_by_name_and_leaves_no_run(root: Path) -> None:
    def refused(error: type[UsageError] | type[DataError], match: str, *flags: str) -> None:
        with pytest.raises(error, match=match):
            sft("new", *flags, *TEN_STEPS)
        assert not (root / "runs" / "new").exists()

    refused(UsageError, "there is no run 'bass' to begin from\n  seen: base", "--parent", "bass")
    refused(UsageError, "there is no run 'new'", "--parent", "new")
    refused(UsageError, "keeps no checkpoint of step 15\n  seen: checkpoints of steps 10, 20", "--parent", "base@15")
    refused(DataError, "parent base@20 has another model", "--parent", "base", "--model", "tiny")
    newest = root / "runs" / "base" / "checkpoints" / "step_00000020"
    with (newest / "model.safetensors").open("ab") as file:
        file.write(b"!")
    refused(DataError, "step_00000020 is damaged .run 'base'.", "--parent", "base@20")
    assert "warning: checkpoint step_00000020 is damaged and skipped" in sft("new", "--parent", "base", *TEN_STEPS)
    assert records(root, "new", "start")[0]["parent_step"] == 10


def test_a_parent_of_another_tokenizer_or_unknown_to_its_journal_is_refused(root: Path) -> None:
    paths = Paths(root=root)
    sft("other", *TEN_STEPS)
    state_file = paths.runs / "other" / "checkpoints" / "step_00000010" / "state.json"
    state = json.loads(state_file.read_text())
    state.pop("sha256")
    state["identity"]["fingerprint"] = "f" * 64
    state_file.write_text(json.dumps(state | {"sha256": state_hash(state)}))
    with pytest.raises(DataError, match=r"parent other@10 has another tokenizer\n  seen: fingerprint ffffffffffff…"):
        sft("new", "--parent", "other", *TEN_STEPS)
    journal = paths.runs / "base" / "journal.jsonl"
    kept = [line for line in journal.read_text().splitlines(keepends=True) if '"kind": "checkpoint"' not in line]
    journal.write_text("".join(kept))
    with pytest.raises(DataError, match=r"what base@20 has seen cannot be told"):
        sft("new", "--parent", "base", *TEN_STEPS)


def test_a_run_keeps_the_parent_and_stage_it_was_begun_with(root: Path) -> None:
    sft("child", "--parent", "base@10", "--stage", "sft", *TEN_STEPS)
    before = (root / "runs" / "child" / "journal.jsonl").read_bytes()
    for parent in ("base@20", "child", "nobody"):
        with pytest.raises(DataError, match="begun with another parent"):
            sft("child", "--parent", parent, "--tokens", "7680")
    with pytest.raises(DataError, match="begun as another stage"):
        sft("child", "--stage", "pretrain", "--tokens", "7680")
    with pytest.raises(DataError, match=r"begun with another parent\n  seen: --parent child, wanted: none"):
        here("--run", "base", "--parent", "child", "--tokens", "15360")
    assert (root / "runs" / "child" / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("changes", [{"loss": "user"}, {"attention": "sliding"}])
def test_policies_that_are_not_known_are_refused(root: Path, changes: dict[str, str]) -> None:
    publish_variant(root, "odd", **changes)
    (flag, value) = next(iter(changes.items()))
    with pytest.raises(UsageError, match=f"cannot do\n  seen: --{flag} {value}"):
        here("--recipe", "odd")


@pytest.mark.parametrize("parent", ["base@", "base@x", "base@-1", "@5", "a/b", "base@1@2"])
def test_a_parent_is_spelled_run_or_run_at_step(parent: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse_config(["--manifest", "--parent", parent])
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
