"""`pack --exclude-seen` at the command line: what it subtracts, prints, repeats and refuses; and what is left."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
from conftest import run_in, write_source
from trained import Run, Token, rows_of, trash
from training import here, records, settle

from dataprep import manifest, pack, shards, verify
from dataprep.errors import DataError, QuernError, UsageError
from dataprep.paths import SHIPPED_MANIFESTS, Paths
from dataprep.rank_file import format_ranks
from dataprep.recipe import load_recipe, publish_recipe
from dataprep.sealed import open_record
from dataprep.sql import ask
from dataprep.vocab_store import publish_vocab

MORE = ["--mix", "30:70", "--sources", "alpha,beta", "--seq-len", "64", "--seed", "2"]


@pytest.fixture
def base(paths: Paths) -> Run:
    """A run of `mix` that saved steps 5 and 10 of 8 rows each, and computed two more steps in vain."""
    base = Run(paths, "base", load_recipe(paths, "mix"))
    base.start(batch_rows=8)
    for step in range(1, 13):
        base.take_step()
        if step in (5, 10):
            base.save()
    return base


def packed(paths: Paths, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, object]:
    capsys.readouterr()
    assert run_in(paths.root, pack.main, *MORE, "--json", *flags) == 0
    return json.loads(capsys.readouterr().out)


def seen_of(got: dict[str, object]) -> dict[str, int]:
    return {source["source"]: source["seen_tokens"] for source in got["sources"]}  # type: ignore[attr-defined]


def held_by(tokens: frozenset[Token]) -> dict[str, int]:
    return {source: sum(token[0] == source for token in tokens) for source in ("alpha", "beta")}


def test_what_the_newest_weights_hold_is_left_out_and_the_counts_are_printed(
    paths: Paths, base: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    got = packed(paths, capsys, "--exclude-seen", "base", "--name", "more")
    held = base.saved[10][1]
    assert (got["exclude_seen"], seen_of(got)) == (["base@10"], held_by(held))
    planned = {token for row in rows_of(paths, load_recipe(paths, "more")) for token in row}
    assert planned
    assert not planned & held
    assert run_in(paths.root, pack.main, *MORE, "--exclude-seen", "base", "--name", "more") == 0
    alpha, beta = (f"{name} {count:,}" for name, count in held_by(held).items())
    assert f"excluded as seen: {alpha}, {beta} tokens, held by base@10" in capsys.readouterr().out
    assert run_in(paths.root, verify.main) == 0


def test_a_step_can_be_named_and_runs_are_added_up(paths: Paths, base: Run, capsys: pytest.CaptureFixture[str]) -> None:
    got = packed(paths, capsys, "--exclude-seen", "base@5")
    assert seen_of(got) == held_by(base.saved[5][1])
    child = Run(paths, "child", load_recipe(paths, "mix"), ("base", 5), base.saved[5][1])
    child.start(batch_rows=3)
    child.take_step()
    child.save()
    both = packed(paths, capsys, "--exclude-seen", "child@1", "--exclude-seen", "base@10", "--exclude-seen", "base@10")
    assert both["exclude_seen"] == ["base@10", "child@1"]
    assert seen_of(both) == held_by(base.saved[10][1] | child.saved[1][1])


def test_the_same_command_is_the_same_recipe_after_the_run_went_on(
    paths: Paths, base: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--exclude-seen", "base", "--name", "more")
    first = packed(paths, capsys, *asked)
    base.save()  # its step 12
    (paths.plans / "more.parquet").unlink()
    again = packed(paths, capsys, *asked)
    assert (again["made"], again["sha256"], again["plan_sha256"]) == (True, first["sha256"], first["plan_sha256"])
    assert packed(paths, capsys, *asked)["made"] is False
    assert packed(paths, capsys, "--exclude-seen", "base")["exclude_seen"] == ["base@12"]
    with pytest.raises(UsageError, match="'more' is taken by another recipe"):
        packed(paths, capsys, "--exclude-seen", "base@12", "--name", "more")


def test_a_rewound_run_counts_as_it_stands_now(paths: Paths, base: Run, capsys: pytest.CaptureFixture[str]) -> None:
    base.start(5, batch_rows=8)
    base.take_step()  # not saved: the weights are those of step 5 again
    assert packed(paths, capsys, "--exclude-seen", "base")["exclude_seen"] == ["base@5"]
    trash(paths, "base")
    assert seen_of(packed(paths, capsys, "--exclude-seen", "base")) == held_by(base.saved[5][1])


def lose_recipe(paths: Paths) -> None:
    (paths.recipes / "mix.toml").unlink()


def pack_anew(paths: Paths) -> None:
    recipe = load_recipe(paths, "mix")
    publish_recipe(paths, replace(recipe, seed=recipe.seed + 1))


def lose_plan(paths: Paths) -> None:
    (paths.plans / "mix.parquet").unlink()


def lose_parent(paths: Paths) -> None:
    shutil.rmtree(paths.runs / "base")


def spoil_parent(paths: Paths) -> None:
    with (paths.runs / "base" / "journal.jsonl").open("a") as journal:
        journal.write("{\n")


def change_shard(paths: Paths) -> None:
    receipt = paths.bins("tiny-bpe", "alpha") / "shard_00000.json"
    told = open_record(receipt.read_bytes())
    told["bin"]["sha256"] = "0" * 64
    receipt.write_text(json.dumps(told))


DAMAGE: dict[Callable[[Paths], None], str] = {
    lose_recipe: "recipe 'mix', which child@1 was trained on, is gone",
    pack_anew: "recipe 'mix', which child@1 was trained on, is packed anew",
    lose_plan: "the plan of 'mix' is not the one its recipe names",
    lose_parent: "what child@1 has seen cannot be told",
    spoil_parent: "line 16 of the journal of run 'base' is damaged",
    change_shard: "shard_00000 of alpha is not the one that base was trained on",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_what_cannot_be_told_is_refused_by_name_and_nothing_is_packed(
    paths: Paths, base: Run, damage: Callable[[Paths], None]
) -> None:
    child = Run(paths, "child", load_recipe(paths, "mix"), ("base", 5), base.saved[5][1])
    child.start(batch_rows=3)
    child.take_step()
    child.save()
    (paths.runs / "unrelated").mkdir()
    (paths.runs / "unrelated" / "journal.jsonl").write_text("{\n")  # somebody else's damage hinders nobody
    damage(paths)
    with pytest.raises(QuernError, match=DAMAGE[damage]) as refused:
        run_in(paths.root, pack.main, *MORE, "--exclude-seen", "child", "--name", "more")
    assert len(str(refused.value).splitlines()) == 3
    assert not (paths.recipes / "more.toml").exists()


REFUSALS = {
    "nobody": ("there is no run 'nobody'", "base"),
    "base@7": ("run 'base' saved no weights at step 7", "--exclude-seen base@10"),
    "young": ("run 'young' has no weights of its own yet", "--exclude-seen base@5 for what it began with"),
}


@pytest.mark.parametrize("asked", REFUSALS)
def test_runs_and_steps_that_are_not_there_are_refused_with_those_that_are(paths: Paths, base: Run, asked: str) -> None:
    young = Run(paths, "young", load_recipe(paths, "mix"), ("base", 5), base.saved[5][1])
    young.start(batch_rows=3)
    young.take_step()
    what, told = REFUSALS[asked]
    with pytest.raises(UsageError, match=what) as refused:
        run_in(paths.root, pack.main, *MORE, "--exclude-seen", asked)
    assert told in str(refused.value)


@pytest.mark.usefixtures("base")
def test_weights_of_another_tokenizer_are_refused(paths: Paths) -> None:
    """The same text has other tokens there: nobody can say which of these it was."""
    publish_vocab(paths, "bytes", format_ranks([bytes([i]) for i in range(256)]), origin="made by the tests")
    asked = ["--source", "alpha", "--n", "1", "--catalogue", str(paths.root / "my.toml"), "--tokenizer", "bytes"]
    (paths.root / "my.toml").unlink()
    write_source(paths.root, "alpha", [["the mill"], ["the mill"]])
    assert run_in(paths.root, shards.main, *asked) == 0
    with pytest.raises(DataError, match="base@10 was trained under another tokenizer"):
        run_in(
            paths.root, pack.main, "--mix", "1", "--sources", "alpha", "--tokenizer", "bytes", "--exclude-seen", "base"
        )


def test_verify_counts_the_excluded_tokens_again_while_the_ledger_can_tell(
    paths: Paths, base: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def found() -> dict[str, object]:
        capsys.readouterr()
        run_in(paths.root, verify.main, "--json")
        findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
        return findings["no token is planned that its recipe excludes"]

    packed(paths, capsys, "--exclude-seen", "base", "--name", "more", "--strategy", "best-fit", "--long", "truncate")
    assert (found()["passed"], found()["compared"]) == (True, "1 recipes")
    recipe = load_recipe(paths, "more")
    alpha = recipe.sources[0]
    lie = replace(alpha, seen_tokens=alpha.seen_tokens - 1, excluded_tokens=alpha.excluded_tokens - 1)
    publish_recipe(paths, replace(recipe, sources=(lie, *recipe.sources[1:])))
    (fault,) = found()["faults"]  # type: ignore[misc]
    assert "tokens of alpha were seen" in fault
    publish_recipe(paths, replace(recipe, exclude_seen=("base@5",)))
    assert any("held other rows" in fault for fault in found()["faults"])  # type: ignore[attr-defined]
    publish_recipe(paths, recipe)
    shutil.rmtree(paths.runs / "base")
    assert (found()["passed"], found()["compared"]) == (True, "1 recipes, of 1 the ledger cannot tell any more")
    capsys.readouterr()
    assert run_in(paths.root, verify.main) == 0
    assert base.saved  # the run itself was sound


def test_a_recipe_stays_sound_though_the_run_it_excludes_was_rewound_and_saved_the_step_again_of_other_rows(
    paths: Paths, base: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    packed(paths, capsys, "--exclude-seen", "base", "--name", "more")
    base.start(5, batch_rows=4)
    for _ in range(5):
        base.take_step()
    base.save()  # its step 10 once more: 60 rows, not 80
    capsys.readouterr()
    assert run_in(paths.root, verify.main) == 0
    assert "trained again since, on other rows: more" in capsys.readouterr().out
    assert seen_of(packed(paths, capsys, "--exclude-seen", "base@10")) == held_by(base.saved[10][1])


def query(paths: Paths, name: str) -> list[tuple[object, ...]]:
    manifest.rebuild(paths)
    return ask(paths, (SHIPPED_MANIFESTS / "queries" / f"{name}.sql").read_text())[1]


def test_work_lost_in_a_crash_is_shown_apart_and_what_is_left_is_counted(paths: Paths, base: Run) -> None:
    base.start(5, batch_rows=4)
    base.take_step()
    assert query(paths, "not_in_weights") == [
        ("base", 1, 7, 40, 96, 7 * 512, None),
        ("base", 2, 1, 40, 44, 4 * 64, None),
    ]
    tokens = dict(ask(paths, "SELECT source, tokens FROM supply WHERE split = 'train'")[1])
    seen = held_by(base.saved[5][1])
    assert query(paths, "left_after_run") == [
        ("base", source, tokens[source], seen[source], tokens[source] - seen[source]) for source in ("alpha", "beta")
    ]


def test_tokens_that_were_seen_twice_are_left_out_and_counted_once(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_in(paths.root, pack.main, *MORE, "--tokens", "6400", "--epochs", "2", "--name", "twice") == 0
    twice = Run(paths, "twice", load_recipe(paths, "twice"))
    twice.start(batch_rows=150)  # every row once, half of them a second time
    twice.take_step()
    twice.save()
    seen = held_by(twice.saved[1][1])
    assert seen_of(packed(paths, capsys, "--exclude-seen", "twice")) == seen
    assert sum(seen.values()) == 6400
    assert [line[:2] + line[3:4] for line in query(paths, "left_after_run")] == [
        ("twice", source, seen[source]) for source in ("alpha", "beta")
    ]


def test_a_new_mixture_in_the_middle_of_training_goes_on_where_each_source_stood(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trainer itself: 40 % of 70:30, then all that is left at 30:70, from the first run's weights."""
    settle(monkeypatch, paths.root)
    batch = ("--batch-tokens", "1024")
    first = load_recipe(paths, "mix")
    forty_percent = str(first.plan_rows * 2 // 5 // 16 * 1024)
    here(*batch, "--run", "base", "--tokens", forty_percent)
    packed(paths, capsys, "--exclude-seen", "base", "--name", "rest")
    here(*batch, "--recipe", "rest", "--run", "rest", "--parent", "base")

    rest, step = load_recipe(paths, "rest"), records(paths.root, "base", "step")[-1]
    trained = [token for row in rows_of(paths, first)[: step["row_to"]] for token in row]
    trained += [token for row in rows_of(paths, rest) for token in row]
    assert len(set(trained)) == len(trained)
    left = {source.source: source.left_over_tokens for source in rest.sources}
    assert [(line[1], line[3], line[4]) for line in query(paths, "left_after_run") if line[0] == "rest"] == [
        (source, held_by(frozenset(trained))[source], left[source]) for source in ("alpha", "beta")
    ]
    assert run_in(paths.root, verify.main) == 0
