"""`dataprep.verify`: all PASS on a sound root, and each kind of damage FAILs by its own name."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import run_in

from dataprep import verify
from dataprep.paths import Paths
from dataprep.recipe import load_recipe, publish_recipe


@pytest.fixture
def root(packed_root: Path, tmp_path: Path) -> Path:
    root = tmp_path / "root"
    shutil.copytree(packed_root, root)
    return root


def failed(root: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> set[str]:
    capsys.readouterr()
    code = run_in(root, verify.main, "--json", *flags)
    names = {f["name"] for f in json.loads(capsys.readouterr().out) if not f["passed"]}
    assert code == (3 if names else 0)
    return names


def test_a_sound_root_passes_every_check(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert failed(root, capsys) == set()
    assert failed(root, capsys, "--full") == set()


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def flip_bin(root: Path) -> None:
    flip(root / "data/bins/tiny-bpe/alpha/shard_00001.bin", 1000)


def cut_bin(root: Path) -> None:
    file = root / "data/bins/tiny-bpe/alpha/shard_00001.bin"
    file.write_bytes(file.read_bytes()[:-1])


def lengthen_docs(root: Path) -> None:
    file = root / "data/bins/tiny-bpe/beta/shard_00000.docs"
    file.write_bytes(file.read_bytes() + b"\0")


def flip_docs(root: Path) -> None:
    flip(root / "data/bins/tiny-bpe/beta/shard_00000.docs", 80)


def spoil_receipt(root: Path) -> None:
    (root / "data/bins/tiny-bpe/beta/shard_00000.json").write_text("{")


def lose_shard(root: Path) -> None:
    for suffix in ("json", "bin", "docs"):
        (root / f"data/bins/tiny-bpe/alpha/shard_00003.{suffix}").unlink()


def change_vocabulary(root: Path) -> None:
    flip(root / "data/vocab/tiny-bpe.tiktoken", 2)


def flip_plan(root: Path) -> None:
    flip(root / "manifests/plans/mix.parquet", 100)


def edit_recipe(root: Path) -> None:
    file = root / "manifests/recipes/mix.toml"
    file.write_text(file.read_text().replace("seq_len = 64", "seq_len = 65"))


def overstate_recipe(root: Path) -> None:
    """A lie with all its hashes in order: only counting the plan again can tell."""
    recipe = load_recipe(Paths(root=root), "mix")
    publish_recipe(Paths(root=root), replace(recipe, tokens=recipe.tokens + 1))


def state(root: Path, **lies: int) -> None:
    """Publish the recipe with other numbers and all its hashes in order."""
    publish_recipe(Paths(root=root), replace(load_recipe(Paths(root=root), "mix"), **lies))


def state_of_alpha(root: Path, **added: int) -> None:
    """The same for a number of one source."""
    recipe = load_recipe(Paths(root=root), "mix")
    alpha = replace(recipe.sources[0], **{key: getattr(recipe.sources[0], key) + n for key, n in added.items()})
    publish_recipe(Paths(root=root), replace(recipe, sources=(alpha, recipe.sources[1])))


def misplace_left_over(root: Path) -> None:
    recipe = load_recipe(Paths(root=root), "mix")
    beta = replace(recipe.sources[1], left_over_tokens=recipe.sources[1].left_over_tokens - 1)
    publish_recipe(Paths(root=root), replace(recipe, sources=(recipe.sources[0], beta)))


def spoil_record(root: Path) -> None:
    (root / "data/sources/alpha.json").write_text("[]")


def spoil_raw_receipt(root: Path) -> None:
    (root / "data/raw/alpha").mkdir(parents=True)
    (root / "data/raw/alpha/shard_00000.parquet.json").write_text("{")


def spoil_journal(root: Path) -> None:
    (root / "runs/lost").mkdir(parents=True)
    (root / "runs/lost/journal.jsonl").write_text('{"kind": "start", "attempt": 1}\n')


# A plan is recounted with the document ends of its shards: without them that cannot be done either.
RECOUNTS = {"plans hold what their recipes say", "every prefix is within one row of its share"}
DAMAGE: dict[Callable[[Path], None], tuple[list[str], set[str]]] = {
    flip_bin: (["--full"], {"tokens = bin bytes / 2", "one end token closes each document"}),
    cut_bin: (
        [],
        {"tokens = bin bytes / 2", "document ends add up to the tokens", "planned shards are unchanged"} | RECOUNTS,
    ),
    lengthen_docs: (
        [],
        {"tokens = bin bytes / 2", "document ends add up to the tokens", "planned shards are unchanged"} | RECOUNTS,
    ),
    flip_docs: (["--full"], {"tokens = bin bytes / 2", "one end token closes each document"}),
    spoil_receipt: (
        [],
        {"receipts can be read", "planned shards are unchanged", "tokens.db says what the receipts say"} | RECOUNTS,
    ),
    spoil_record: ([], {"every shard asked for is held"}),
    spoil_raw_receipt: ([], {"raw files are as fetched"}),
    spoil_journal: ([], {"ledgers agree with checkpoints"}),
    lose_shard: ([], {"every shard asked for is held"}),
    change_vocabulary: ([], {"bins carry their vocabulary's fingerprint"}),
    flip_plan: (
        [],
        {
            "plans hold what their recipes say",
            "every prefix is within one row of its share",
            "no token is planned twice in a pass",
            "plans are as packed",
        },
    ),
    edit_recipe: ([], {"recipes are as packed"}),
    overstate_recipe: ([], {"plans hold what their recipes say"}),
    misplace_left_over: ([], {"tokens = planned + excluded + held out + left over + dropped"}),
}


LIES = ["documents", "split_documents", "segments", "loss_tokens", "pad_tokens", "dropped_tokens", "plan_rows"]
LIES += ["vocab_size", "end_id", "pad_id"]
LIES_OF_A_SOURCE = ["share", "asked", "plan_rows", "tokens", "unique_tokens", "loss_tokens", "pad_tokens", "documents"]
LIES_OF_A_SOURCE += ["split_documents", "passes", "dropped_tokens"]


@pytest.mark.parametrize("key", LIES)
def test_a_recipe_that_states_another_number_fails(root: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    state(root, **{key: getattr(load_recipe(Paths(root=root), "mix"), key) + 1})
    assert "plans hold what their recipes say" in failed(root, capsys)


@pytest.mark.parametrize("key", LIES_OF_A_SOURCE)
def test_a_source_of_which_another_number_is_stated_fails(
    root: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state_of_alpha(root, **{key: 1})
    assert "plans hold what their recipes say" in failed(root, capsys)


def test_epochs_and_budgets_that_were_not_kept_fail(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state(root, epochs=3)
    assert "every prefix is within one row of its share" in failed(root, capsys)
    state(root, epochs=2)
    assert "no token is planned twice in a pass" in failed(root, capsys)
    state(root, epochs=1, budget_tokens=640)
    assert "plans hold what their recipes say" in failed(root, capsys)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_each_kind_of_damage_fails_by_name(
    root: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    flags, wanted = DAMAGE[damage]
    damage(root)
    found = failed(root, capsys, *flags)
    assert wanted & found, found
    assert found <= wanted | {"tokens = planned + excluded + held out + left over + dropped"}, found
