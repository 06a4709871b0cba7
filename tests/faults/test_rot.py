"""A byte that changes on the disk: `verify --full` names the file and a command, and no run begins with it."""

import itertools
import json
import random
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_in
from torture import rot
from training import here

from dataprep import bins, pack, plan_checks, sampled, shards, verify
from dataprep.errors import DataError
from dataprep.hashing import sha256_file
from dataprep.ledger import Journal, read_journal
from dataprep.publish import publishing
from dataprep.sampled import BLOCK_BYTES, STRIDE_BYTES, sampled_sha256
from dataprep.sealed import open_record, publish_record
from dataprep.sealed_lines import seal_line, split_lines


@pytest.fixture(scope="module")
def rotten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root with a file of every kind; each test leaves it whole."""
    root = rot.begin(tmp_path_factory.mktemp("rot"))
    assert rot.verified(root) == (0, [], [])
    yield root
    assert rot.verified(root) == (0, [], [])


@pytest.mark.parametrize("kind", rot.KINDS)
def test_verify_names_a_file_in_which_a_byte_changed_and_a_command(rotten: Path, kind: str) -> None:
    rng = random.Random(kind)
    damages = ("flipped", rot.DAMAGES[1 + list(rot.KINDS).index(kind) % 2])  # all of them: make torture
    outcomes = {damage: rot.judged(rotten, kind, damage, rng) for damage in damages}
    # A journal without its last newline ends in a torn line, and a recipe without its own says the same.
    harmless = {"journal": {"cut", "added"}, "findings": {"cut", "added"}, "recipe": {"cut"}}.get(kind, set())
    wanted = {damage: "survived" if damage in harmless else "reported" for damage in damages}
    assert outcomes == wanted


def test_a_digit_that_changed_in_a_checkpoints_state_is_named(rotten: Path) -> None:
    """The step it is of, say: size and form are right, and only its own hash tells."""
    state = rot.file_of(rotten, "state")
    whole = state.read_bytes()
    state.write_bytes(re.sub(rb'"step": (\d)', lambda found: b'"step": %d' % (9 - int(found[1])), whole))
    try:
        assert any("not those that were saved" in fault for fault in rot.verified(rotten)[1])
    finally:
        state.write_bytes(whole)


def test_a_torn_last_line_of_a_journal_is_ignored_with_a_note(rotten: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = rotten / "runs/run/journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"kind": "st')
    try:
        assert run_in(rotten, verify.main) == 0
        assert "a torn last line is ignored: run" in capsys.readouterr().out
    finally:
        journal.write_bytes(whole)


def test_a_digit_that_changed_in_the_middle_of_a_journal_is_named_by_its_line(tmp_path: Path, rotten: Path) -> None:
    lines = (rotten / "runs/run/journal.jsonl").read_bytes().splitlines(keepends=True)
    assert b'"loss": ' in lines[1]
    lines[1] = re.sub(rb'"loss": (\d)', lambda found: b'"loss": %d' % (9 - int(found[1])), lines[1])
    (tmp_path / "run").mkdir()
    (tmp_path / "run/journal.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(DataError, match="line 2 of the journal of run 'run' is damaged"):
        read_journal(tmp_path / "run/journal.jsonl")


def test_a_line_that_lost_its_seal_among_sealed_ones_is_damage() -> None:
    lines = seal_line(b'{"step": 1}') + b'\n{"step": 2}\n'
    assert split_lines(lines) == ([b'{"step": 1}', b'not sealed: {"step": 2}'], None)


def test_a_journal_from_before_there_were_seals_is_read_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/journal.jsonl").write_text('{"kind": "mark", "attempt": 1}\n')
    assert read_journal(tmp_path / "run/journal.jsonl").records == ({"kind": "mark", "attempt": 1},)


def test_a_first_line_that_lost_its_seal_to_a_flipped_bit_does_not_pass_for_one_from_before_seals(
    tmp_path: Path,
) -> None:
    file = tmp_path / "run/journal.jsonl"
    file.parent.mkdir()
    lines = [seal_line(b'{"kind": "mark", "attempt": %d}' % number) for number in (1, 2)]
    whole = b"\n".join([*lines, b""])
    for place, bit in itertools.product(range(len(lines[0])), range(8)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        with pytest.raises(DataError, match="line 1 of the journal"):
            read_journal(file)


def test_a_journal_that_lost_whole_lines_of_its_end_is_named_and_not_gone_on_with(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--run", "run", "--checkpoint-every", "4", "--tokens")
    here(*flags, "2048")
    journal = root / "runs/run/journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:3]))
    with pytest.raises(DataError, match="has lost its last lines") as refused:
        here(*flags, "4096")
    assert (refused.value.seen, refused.value.wanted) == (
        "steps to row 16 in runs/run/journal.jsonl",
        "to row 32, which step_00000004 holds",
    )
    assert verify.main([]) == 3
    assert "run: lines of the journal are lost: it ends at row 16" in capsys.readouterr().out


@pytest.mark.usefixtures("root")
def test_a_run_that_trains_on_while_it_is_verified_has_lost_no_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--run", "run", "--checkpoint-every", "4", "--tokens")
    here(*flags, "2048")

    def train_on(file: Path) -> Journal:
        journal = read_journal(file)
        here(*flags, "4096")
        return journal

    monkeypatch.setattr(plan_checks, "read_journal", train_on)
    assert verify.main([]) == 0, capsys.readouterr().out


def test_a_planned_shard_whose_receipt_is_gone_is_named_with_what_makes_it_again(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As somebody leaves it who pasted the first half of what mends a bin."""
    (root / "data/bins/tiny-bpe/alpha/shard_00001.json").unlink()
    assert verify.main([]) == 3
    printed = capsys.readouterr().out
    assert "mix: shard_00001 of alpha is planned with but not held" in printed
    assert "make shards SOURCE=alpha N=3" in printed


def test_what_mends_a_bin_is_one_printed_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / "data/bins/tiny-bpe/alpha/shard_00001.bin"
    whole = file.read_bytes()
    flip(file, 77)
    assert verify.main(["--full"]) == 3
    (fix,) = set(re.findall(r"fix:  (.*)", capsys.readouterr().out))
    removed, _, made = fix.partition("; ")
    assert made == "make shards SOURCE=alpha N=3 TOKENIZER=tiny-bpe CATALOGUE=my.toml"
    subprocess.run(shlex.split(removed), cwd=root, check=True)
    # What that target runs: make itself would install first.
    asked = ["--source", "alpha", "--n", "3", "--tokenizer", "tiny-bpe", "--catalogue", str(root / "my.toml")]
    assert shards.main(asked) == 0
    assert file.read_bytes() == whole
    assert verify.main(["--full"]) == 0


def test_what_mends_a_plan_is_one_printed_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / "manifests/plans/mix.parquet"
    whole = file.read_bytes()
    flip(file, 99)
    with pytest.raises(DataError, match="the plan of 'mix' is not the one") as refused:
        here()
    assert refused.value.fix in [line.partition("fix:  ")[2] for line in said(root, capsys)]
    assert pack.main(shlex.split(refused.value.fix)[3:]) == 0
    assert file.read_bytes() == whole
    assert verify.main(["--full"]) == 0


def test_what_mends_a_recipe_in_which_a_count_changed_is_one_printed_command(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "manifests/recipes/mix.toml"
    whole = file.read_text()
    file.write_text(re.sub(r"(?m)^documents = \d", "documents = 9", whole, count=1))
    (fix,) = {line.partition("fix:  ")[2] for line in said(root, capsys) if "fix:  " in line}
    removed, _, packed = fix.partition("; ")
    subprocess.run(shlex.split(removed), check=True)
    assert pack.main(shlex.split(packed)[3:]) == 0
    assert file.read_text() == whole


def test_the_last_checkpoint_of_a_run_is_not_said_to_be_gone_on_without(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here("--run", "run", "--checkpoint-every", "2", "--tokens", "2048")
    folders = sorted((root / "runs/run/checkpoints").glob("step_*"))
    flip(folders[0] / "optimizer.pt", 700)
    goes_on = [line for line in said(root, capsys) if "fix:  rm -r" in line]
    assert "train/main.py --manifest --run-name run" in goes_on[0]
    for folder in folders[1:]:
        flip(folder / "optimizer.pt", 700)
    last = [line for line in said(root, capsys) if "fix:  rm -r" in line]
    assert len(last) == len(folders)
    assert not any("main.py" in line for line in last)


@pytest.mark.parametrize("look", ["sampled", "full"])
@pytest.mark.parametrize("shard", ["alpha/shard_00001", "beta/shard_00001"])  # trained on, judged by
def test_training_does_not_begin_with_a_bin_in_which_a_byte_changed(root: Path, shard: str, look: str) -> None:
    flip(root / f"data/bins/tiny-bpe/{shard}.bin", 1000)
    with pytest.raises(DataError, match=f"{Path(shard).name}.bin of {Path(shard).parent} changed after it was made"):
        here("--verify", look)
    assert not (root / "runs/mix-nano").exists()


def test_what_a_sample_cannot_see_the_full_hash_does(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are hashed whole; with smaller blocks one of ours is large."""
    for name, n_bytes in {"WHOLE_BYTES": 1024, "BLOCK_BYTES": 64, "STRIDE_BYTES": 1024}.items():
        monkeypatch.setattr(sampled, name, n_bytes)
    monkeypatch.setattr("dataprep.soundness.WHOLE_BYTES", 1024)
    for receipt in (root / "data/bins").glob("*/*/*.json"):
        receipt.unlink()
    for source, n in (("alpha", "3"), ("beta", "1")):
        asked = ["--source", source, "--n", n, "--tokenizer", "tiny-bpe", "--catalogue", str(root / "my.toml")]
        assert shards.main(asked) == 0
    bin_file = root / "data/bins/tiny-bpe/alpha/shard_00001.bin"
    fact = bins.read_receipt(bin_file.with_suffix(".json")).bin
    assert fact.sampled_sha256 == sampled_sha256(bin_file) != fact.sha256
    flip(bin_file, 1024 + 500)  # between two blocks
    here("--tokens", "512")
    with pytest.raises(DataError, match="full sha256"):
        here("--verify", "full", "--run", "another")
    flip(bin_file, 1024 + 10)
    with pytest.raises(DataError, match="sampled sha256"):
        here("--run", "another")


@pytest.mark.parametrize("n_bytes", [0, 1, BLOCK_BYTES, STRIDE_BYTES - 1, STRIDE_BYTES + 5, 2 * STRIDE_BYTES + 5000])
@pytest.mark.parametrize("step", [997_777, 4096, STRIDE_BYTES + 1])
def test_the_sampled_hash_is_the_same_written_and_read(tmp_path: Path, n_bytes: int, step: int) -> None:
    content = random.Random(n_bytes).randbytes(n_bytes)
    with publishing(tmp_path / "file") as out:
        for place in range(0, n_bytes, step):
            out.write(content[place : place + step])
    assert out.sampled_sha256 in {None, sampled_sha256(tmp_path / "file")}
    assert (out.sampled_sha256 is None) == (n_bytes <= sampled.WHOLE_BYTES)
    assert out.sha256 == sha256_file(tmp_path / "file")


def test_a_receipt_without_the_sampled_hash_and_the_seal_is_read_as_it_was(root: Path) -> None:
    for file in (root / "data/bins").glob("*/*/*.json"):
        value = open_record(file.read_bytes())
        assert "sampled_sha256" not in value["bin"], "small files say nothing of it"
        file.write_text(json.dumps(value))
    assert verify.main(["--full"]) == 0
    here("--tokens", "512")


def test_a_record_tells_any_byte_that_changed(tmp_path: Path) -> None:
    value = {"file": {"sha256": "0" * 64}, "name": "naïve"}
    publish_record(tmp_path / "a", value)
    whole = (tmp_path / "a").read_bytes()
    assert open_record(whole) == value
    for place in range(len(whole)):
        changed = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        try:
            read = open_record(changed)
        except ValueError:
            continue
        # The seal's own name: readers know every key that may be there, and refuse this one.
        assert read.keys() - value.keys(), place


def test_a_damaged_checkpoint_is_passed_over_and_the_run_ends_as_if_it_were_whole(root: Path) -> None:
    flags = ("--checkpoint-every", "2", "--tokens", "4096")
    here("--run", "whole", *flags)
    here("--run", "hit", *flags[:-1], "2048")
    newest = max((root / "runs/hit/checkpoints").glob("step_*"))
    flip(newest / "optimizer.pt", 700)
    assert f"checkpoint {newest.name} is damaged and skipped: optimizer.pt" in here("--run", "hit", *flags)
    ends = [read_journal(root / f"runs/{run}/journal.jsonl").of_kind("checkpoint")[-1] for run in ("whole", "hit")]
    assert ends[0]["sha256"] == ends[1]["sha256"]


def said(root: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    run_in(root, verify.main, "--full")
    return capsys.readouterr().out.splitlines()


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
