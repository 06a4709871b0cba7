"""Whole runs on a small plan: real processes where processes matter, the same functions where they do not."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from masked import publish_variant
from training import FLAGS, REPOSITORY, here, journal_of, kept_steps, losses, main, raising, records, start, weights

from dataprep import pack
from dataprep.errors import DataError, EnvironmentProblem, UsageError
from dataprep.ledger import rows_in_weights, steps_with_weights, trace_lineage
from dataprep.paths import Paths
from dataprep.rank_file import format_ranks
from dataprep.recipe import load_recipe
from dataprep.vocab_store import publish_vocab
from train import saving
from train.config import parse_config
from train.journal import Journal
from train.loop import Attempt, train

GOLDEN = REPOSITORY / "tests" / "golden" / "nano_20_steps.json"
TWENTY_STEPS = ("--tokens", "10240")
# Like train/main.py, and dies or is told to stop where the test says.
DISTURBED = """
import os, signal, sys
from dataprep import publish
from train import journal
where, wanted = sys.argv.pop(1), sys.argv.pop(1)
write, reached = journal.Journal.write, publish._reached
def disturbed_write(self, kind, **fields):
    write(self, kind, **fields)
    if kind == "step" and where in ("kill", "terminate") and str(fields["step"]) == wanted:
        if os.environ.get("RANK", "1") == "1":
            os.kill(os.getpid(), signal.SIGKILL if where == "kill" else signal.SIGTERM)
def disturbed_reached(step, path):
    if where == step and path.name == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
journal.Journal.write, publish._reached = disturbed_write, disturbed_reached
from dataprep.errors import run
from train.config import parse_config
from train.loop import train
run(lambda: train(parse_config(sys.argv[1:])))
"""


def disturbed(root: Path, where: str, wanted: str, *flags: str, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    script = root / "disturbed.py"
    script.write_text(DISTURBED)
    return start(str(script), where, wanted, *FLAGS, *flags, ranks=ranks)


def assert_same_end(root: Path, run: str, wanted: str, tolerance: float) -> None:
    assert losses(root, run) == pytest.approx(losses(root, wanted), abs=tolerance)
    torch.testing.assert_close(weights(root, run), weights(root, wanted), rtol=0, atol=tolerance)


def assert_journal_adds_up(root: Path, run: str) -> None:
    recipe = load_recipe(Paths(root=root), "mix")
    ranges = rows_in_weights(journal_of(root, run).records)
    assert [ranges[0].row_from, *(each.row_to for each in ranges)] == [
        *(each.row_from for each in ranges),
        recipe.plan_rows,
    ]
    assert sum(step["tokens"] for step in kept_steps(root, run)) == recipe.tokens
    assert records(root, run, "checkpoint")[-1]["tokens_done"] == recipe.tokens


def test_the_row_hash_is_the_packers_and_trains_nothing(root: Path) -> None:
    wanted = load_recipe(Paths(root=root), "mix").rows_sha256
    assert here("--print-row-hash", "--micro-batch", "1").split() == [wanted]
    assert not (root / "runs").exists()


def test_twenty_steps_give_the_golden_losses(root: Path) -> None:
    here(*TWENTY_STEPS, "--run", "golden")
    golden = json.loads(GOLDEN.read_text())
    assert load_recipe(Paths(root=root), "mix").rows_sha256 == golden["rows_sha256"], "the tests' plan is another one"
    assert losses(root, "golden") == pytest.approx(golden["losses"], abs=2e-4)


def test_killed_twice_and_torn_a_run_ends_as_if_undisturbed(root: Path) -> None:
    every = ("--checkpoint-every", "10")
    here("--run", "whole", *every)
    n_steps = records(root, "whole", "end")[-1]["step"]
    assert records(root, "whole", "step")[-1]["row_to"] % 8, "the plan's last step is meant to be uneven"

    killed = ("--run", "killed", *every)
    assert disturbed(root, "kill", "29", *killed).returncode == -9
    with (root / "runs" / "killed" / "journal.jsonl").open("a") as journal:
        journal.write('{"kind": "step", "att')
    # This time between a checkpoint's rename and its record in the journal.
    second = disturbed(root, "renamed", "step_00000030", *killed)
    assert second.returncode == -9
    assert "from   step 20: 160 rows, 10,240 tokens done" in second.stdout
    assert "last line was cut short by a kill: 21 bytes removed" in second.stdout
    assert "from   step 30" in here(*killed)

    assert_same_end(root, "killed", "whole", 1e-6)
    assert_journal_adds_up(root, "killed")
    lost = [step for step in steps_with_weights(journal_of(root, "killed").records) if not step["in_weights"]]
    # Steps after 30 may be computed while its checkpoint is written; how many is the disk's affair.
    assert [record["step"] for record in lost if record["step"] <= 30] == list(range(21, 30))
    assert [record["status"] for record in records(root, "killed", "end")] == ["finished"]
    assert records(root, "killed", "end")[0]["step"] == n_steps


def test_one_told_rank_of_two_stops_both_with_a_checkpoint_and_one_rank_goes_on(root: Path) -> None:
    done = disturbed(root, "terminate", "5", "--run", "told", ranks=2)
    assert done.returncode == 0, done.stderr
    assert "go on with: torchrun --standalone --nproc_per_node=2 -- train/main.py" in done.stdout
    assert [record["status"] for record in records(root, "told", "end")] == ["stopped"]
    assert [record["step"] for record in records(root, "told", "checkpoint")] == [5]
    here("--run", "told", "--micro-batch", "2")
    here("--run", "whole")
    assert_same_end(root, "told", "whole", 1e-4)
    assert_journal_adds_up(root, "told")


def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning(root: Path) -> None:
    here("--run", "damaged", "--checkpoint-every", "20")
    whole = weights(root, "damaged")
    newest = root / "runs" / "damaged" / records(root, "damaged", "checkpoint")[-1]["path"]
    content = bytearray((newest / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (newest / "model.safetensors").write_bytes(content)
    printed = here("--run", "damaged", "--checkpoint-every", "20")
    assert f"warning: checkpoint {newest.name} is damaged and skipped: model.safetensors" in printed
    torch.testing.assert_close(weights(root, "damaged"), whole, rtol=0, atol=1e-6)
    assert_journal_adds_up(root, "damaged")
    shutil.rmtree(newest)
    for folder in (root / "runs" / "damaged" / "checkpoints").glob("step_*"):
        (folder / "optimizer.pt").unlink()
    with pytest.raises(DataError, match="no checkpoint of run 'damaged' is whole"):
        here("--run", "damaged")


def test_a_run_whose_checkpoints_are_gone_does_not_start_again_unasked(root: Path) -> None:
    here(*TWENTY_STEPS)
    run = root / "runs" / "mix-nano"
    (run / "checkpoints").rename(run / "elsewhere")
    before = (run / "journal.jsonl").read_bytes()
    with pytest.raises(DataError, match="checkpoints/step_00000020") as refusal:
        here(*TWENTY_STEPS)
    assert refusal.value.fix == "bring it back (mount it?), or train under another name: --run-name NAME"
    assert (run / "journal.jsonl").read_bytes() == before
    (run / "elsewhere").rename(run / "checkpoints")
    assert "nothing is left to train" in here(*TWENTY_STEPS)


def test_a_reader_that_leaves_does_not_end_the_training(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        assert train(parse_config([*FLAGS, *TWENTY_STEPS])) == 0
    assert [record["step"] for record in records(root, "mix-nano", "end")] == [20]
    assert len(records(root, "mix-nano", "sample")) == 1


def test_a_full_disk_keeps_the_checkpoints_there_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_state: object, file: Path) -> None:
        raise RuntimeError(f"[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0\n{file}")

    here("--tokens", "5120")
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(EnvironmentProblem, match="step_00000020 could not be written") as problem:
        here(*TWENTY_STEPS)
    assert (problem.value.exit_code, len(str(problem.value).splitlines())) == (5, 3)
    assert "bytes free and a healthy disk for" in str(problem.value)
    kept = root / "runs" / "mix-nano" / "checkpoints"
    assert [folder.name for folder in kept.iterdir()] == ["step_00000010"]
    assert [record["status"] for record in records(root, "mix-nano", "end")] == ["stopped", "failed"]


def test_a_save_that_fails_ends_the_run_at_the_next_look_and_a_step_that_fails_ends_after_its_save(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr("train.saving.save_file", raising(OSError(28, "No space left on device")))
        with pytest.raises(EnvironmentProblem, match="step_00000005 could not be written"):
            here("--checkpoint-every", "5", "--run", "full")
    assert [record["status"] for record in records(root, "full", "end")] == ["failed"]
    assert 5 <= len(records(root, "full", "step")) <= 10, "the second save looks at the latest"

    slow, honest = threading.Event(), saving.save_file
    monkeypatch.setattr("train.saving.save_file", lambda *given: (slow.wait(0.3), honest(*given)))
    monkeypatch.setattr(Attempt, "_check_finite", broken_after(7, Attempt._check_finite))
    with pytest.raises(DataError, match="step 8 is not finite"):
        here("--checkpoint-every", "5", "--run", "broken")
    kinds = [record["kind"] for record in journal_of(root, "broken").records]
    assert kinds == ["start", *["step"] * 7, "checkpoint", "checkpoint", "end"]
    assert [record["step"] for record in records(root, "broken", "checkpoint")] == [5, 7]


def broken_after(step: int, honest: Callable[..., None]) -> Callable[..., None]:
    def check(self: Attempt, loss: float, *rest: Any) -> None:
        honest(self, float("nan") if self.cursor.step == step else loss, *rest)

    return check


def test_checkpoints_come_by_the_clock_and_old_ones_go_by_the_rules(root: Path) -> None:
    here("--run", "clock", "--tokens", "5120", "--checkpoint-minutes", "0.0000001", "--keep", "3", "--keep-every", "4")
    saved = records(root, "clock", "checkpoint")
    assert [record["step"] for record in saved] == list(range(1, 11))
    assert all(record["stall_seconds"] > 0 < record["write_seconds"] for record in saved)
    kept = root / "runs" / "clock" / "checkpoints"
    assert sorted(folder.name for folder in kept.iterdir()) == [f"step_{step:08d}" for step in (4, 8, 9, 10)]


def test_a_slow_save_does_not_hold_the_steps_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_on, honest = threading.Event(), saving.save_file
    write = Journal.write

    def noted(self: Journal, kind: str, **fields: Any) -> None:
        write(self, kind, **fields)
        if kind == "step" and fields["step"] == 8:
            trained_on.set()

    monkeypatch.setattr(Journal, "write", noted)
    monkeypatch.setattr("train.saving.save_file", lambda *given: (honest(*given), trained_on.wait(20)))
    here("--checkpoint-every", "6", "--tokens", "5120")
    journal = journal_of(root, "mix-nano")
    kinds = [record["kind"] for record in journal.records]
    assert kinds.index("checkpoint") > 8, "step 8 was trained before the checkpoint of step 6 was whole"
    assert [record["step"] for record in records(root, "mix-nano", "checkpoint")] == [6, 10]
    assert all(step["in_weights"] for step in steps_with_weights(journal.records))
    lineage = trace_lineage({"mix-nano": journal}, "mix-nano", 6)
    assert [(rows.row_to, rows.tokens) for rows in lineage.rows] == [(48, 48 * 64)]


def test_what_cannot_be_trained_is_refused_and_leaves_no_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_variant(root, "judge", split="holdout")
    with pytest.raises(UsageError, match="recipe 'judge' is of held-out shards"):
        here("--recipe", "judge")
    ranks_file = root / "data" / "vocab" / "tiny-bpe.tiktoken"
    ranks = ranks_file.read_bytes()
    other = format_ranks([*(bytes([i]) for i in range(256)), b" t", b" th", b" the", b"on"])
    ranks_file.unlink()
    with pytest.raises(DataError, match="there is no vocabulary 'tiny-bpe'"):
        here()
    publish_vocab(Paths(root=root / "elsewhere"), "tiny-bpe", other, origin="another")
    shutil.copytree(root / "elsewhere" / "data" / "vocab", root / "data" / "vocab", dirs_exist_ok=True)
    with pytest.raises(DataError, match="is not the one that recipe 'mix' was packed with"):
        here()
    ranks_file.unlink()
    publish_vocab(Paths(root=root), "tiny-bpe", ranks, origin="made by the tests")

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("train.loop.GPT", no_memory)
    with pytest.raises(MemoryError):
        here()
    assert not list((root / "runs").glob("*"))


def test_a_token_beyond_the_vocabulary_is_refused_by_one_rank_with_its_shard(root: Path) -> None:
    file = root / "data" / "bins" / "tiny-bpe" / "beta" / "shard_00000.bin"
    tokens = np.fromfile(file, dtype="<u2")
    tokens[::7] = 60_000
    file.write_bytes(tokens.tobytes())
    done = main("--verify", "size", ranks=2)
    assert done.returncode != 0
    assert done.stderr.count("error: shard_00000.bin of beta holds a token that is not in the vocabulary") == 1
    assert "fix:  python -m dataprep.verify --full" in done.stderr
    assert "IndexError" not in done.stderr
    assert [record["status"] for record in records(root, "mix-nano", "end")] == ["failed"]


@pytest.mark.parametrize("flags", [("--seed", "9" * 21), ("--seed", "-1"), ("--seed", "x"), ("--prompt", "\udcff")])
def test_a_seed_or_prompt_that_cannot_be_is_refused(flags: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse_config([*FLAGS, *flags])
    assert left.value.code == 2
    assert f"argument {flags[0]}" in capsys.readouterr().err


def test_a_run_refuses_another_recipe_seed_or_model_by_name(root: Path) -> None:
    here("--run", "mine", *TWENTY_STEPS)
    before = (root / "runs" / "mine" / "journal.jsonl").read_bytes()
    with pytest.raises(DataError, match="trained with another seed"):
        here("--run", "mine", "--seed", "2")
    with pytest.raises(DataError, match="trained with another model"):
        here("--run", "mine", "--model", "tiny")
    with pytest.raises(UsageError, match="--resume never"):
        here("--run", "mine", "--resume", "never")
    repacked = ["--mix", "70:30", "--sources", "alpha,beta", "--name", "mix", "--seq-len", "64", "--seed", "2"]
    (root / "manifests" / "recipes" / "mix.toml").unlink()
    assert pack.main(repacked) == 0
    with pytest.raises(DataError, match="trained with another recipe_sha256"):
        here("--run", "mine")
    assert (root / "runs" / "mine" / "journal.jsonl").read_bytes() == before


def test_a_finished_run_says_so_and_shows_its_sample(root: Path) -> None:
    first = here("--prompt", "the mill")
    sample = first[first.index("sample: the mill|") :].partition("\nfinished")[0]
    journal = root / "runs" / "mix-nano" / "journal.jsonl"
    before = journal.read_bytes()
    again = here("--prompt", "the mill")
    assert "nothing is left to train" in again
    assert sample in again
    assert again.splitlines()[-1].startswith("next: python -m dataprep.sql --file")
    assert journal.read_bytes() == before


def test_a_run_stopped_short_goes_on_with_another_batch_at_the_row_cursor(root: Path) -> None:
    here(*TWENTY_STEPS)
    (stopped,) = records(root, "mix-nano", "end")
    assert (stopped["status"], stopped["rows_done"], stopped["tokens_done"]) == ("stopped", 160, 10_240)
    here("--batch-tokens", "1024")
    steps = records(root, "mix-nano", "step")
    assert [steps[20][key] for key in ("step", "row_from", "row_to")] == [21, 160, 176]
    assert_journal_adds_up(root, "mix-nano")
    rates = [record["lr"] for record in steps if record["row_from"] >= 64]
    assert rates == sorted(rates, reverse=True), "the schedule jumped"


def test_a_loss_that_is_not_finite_stays_out_of_the_weights(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Attempt._accumulate_gradients

    def broken_after_ten(self: Attempt, *rows: Any) -> float:
        loss = honest(self, *rows)
        return float("nan") if self.cursor.step == 10 else loss

    monkeypatch.setattr(Attempt, "_accumulate_gradients", broken_after_ten)
    with pytest.raises(DataError, match="step 11 is not finite"):
        here("--checkpoint-every", "5")
    assert [record["status"] for record in records(root, "mix-nano", "end")] == ["failed"]
    assert len(records(root, "mix-nano", "step")) == 10
    monkeypatch.undo()


def test_two_ranks_say_one_mistake_once(root: Path) -> None:
    script = root / "infinite.py"
    script.write_text(
        "import sys\nfrom dataprep.errors import run\nfrom train.config import parse_config\n"
        "from train.loop import Attempt, train\nAttempt._accumulate_gradients = lambda *_: float('nan')\n"
        "run(lambda: train(parse_config(sys.argv[1:])))\n"
    )
    done = start(str(script), *FLAGS, ranks=2)
    assert done.stderr.count("error: step 1 is not finite") == 1, done.stderr


def test_mistakes_are_three_lines_and_the_right_exit_code(root: Path) -> None:
    (root / "manifests" / "tokens.db").unlink()
    missing = main()
    assert missing.returncode == 3
    assert missing.stderr.splitlines()[-1] == "  fix:  python -m dataprep.index"
    refused = main("--tokens", "some")
    assert refused.returncode == 2
    assert len(missing.stderr.splitlines()) == len(refused.stderr.splitlines()) == 3


def test_help_does_not_load_torch() -> None:
    code = "import sys, train.config as c\ntry: c.parse_config(['--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(("under_torchrun", "code"), [(False, 130), (True, 0)])
def test_a_second_interrupt_leaves_at_once_an_echo_does_not_and_a_hangup_stops_only_torchruns_ranks(
    under_torchrun: bool, code: int
) -> None:
    script = (
        "import os, signal\nfrom train.stopping import listening\n"
        "with listening() as stop:\n"
        f"    os.kill(os.getpid(), signal.SIGHUP)\n    assert stop.asked is {under_torchrun}\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    assert stop.asked\n    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    env = os.environ | ({"TORCHELASTIC_RUN_ID": "x"} if under_torchrun else {})
    done = subprocess.run([sys.executable, "-c", script], env=env, check=False, cwd=REPOSITORY)
    assert done.returncode == code
