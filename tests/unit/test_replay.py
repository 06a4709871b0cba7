"""Replayed histories, worked out by hand: tokens in the weights, seen again, lost. A step is two rows of ten tokens."""

import time
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from conftest import run_in

from dataprep import manifest, verify
from dataprep.errors import DataError, UsageError
from dataprep.ledger import find_journals, read_journals, steps_with_weights
from dataprep.passes import split_passes
from dataprep.paths import SHIPPED_MANIFESTS, Paths
from dataprep.seen import read_seen
from dataprep.seen_again import seen_again
from dataprep.sql import ask
from train.runs.history import read_history
from train.runs.replay import Replayed, replay

DOCS = Path(__file__).resolve().parents[2] / "docs"
WEB = {"name": "web", "tokens": 1_005}  # 100 rows of ten; five tokens fill no row
STEP = {"gpus": 2, "micro-batch": 1, "accumulation": 1, "seq-len": 10}
Entry = dict[str, Any]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(root=tmp_path / "root")


def entry(run: str, from_step: int, to_step: int, **more: Any) -> Entry:
    keys = {key.replace("_", "-"): value for key, value in more.items()}
    return {"run": run, "from-step": from_step, "to-step": to_step} | STEP | keys


def replayed(paths: Paths, *entries: Entry, supplies: tuple[Entry, ...] = (WEB,)) -> dict[str, Replayed]:
    file = paths.root.parent / "history.toml"
    file.write_text(tomli_w.dumps({"supply": list(supplies), "entry": list(entries)}))
    return {line.run: line for line in replay(paths, read_history(file))}


def told(lines: dict[str, Replayed]) -> dict[str, tuple[int, int, int, int | None]]:
    return {run: (r.tokens_in_weights, r.own_tokens, r.tokens_lost, r.reseen_tokens) for run, r in lines.items()}


def asked(paths: Paths) -> dict[str, tuple[int, int, int, int | None]]:
    """The same from tokens.db, which must have nothing to complain of."""
    assert manifest.rebuild(paths).notes == ()
    query = """
        SELECT r.run, sum(a.tokens)::BIGINT, coalesce(sum(a.tokens) FILTER (a.ancestor = r.run), 0)::BIGINT,
               any_value(p.tokens_not_in_weights), (SELECT sum(reseen_tokens)::BIGINT FROM reseen s WHERE s.run = r.run)
        FROM runs r JOIN ancestor_rows a USING (run) JOIN progress p USING (run) GROUP BY r.run
    """
    return {run: tuple(counts) for run, *counts in ask(paths, query)[1]}


HISTORIES: dict[str, tuple[list[Entry], dict[str, tuple[int, int, int, int]]]] = {
    "one run": ([entry("base", 0, 10)], {"base": (200, 200, 0, 0)}),
    "resumed where it stood": ([entry("base", 0, 10), entry("base", 10, 15)], {"base": (300, 300, 0, 0)}),
    "resumed, and read again from row 0": (
        [entry("base", 0, 10), entry("base", 10, 15, reread=True)],
        {"base": (300, 300, 0, 100)},
    ),
    "read again twice, then once past what it knew": (
        [
            entry("base", 0, 10),
            entry("base", 10, 15, reread=True),
            entry("base", 15, 27, from_row=0),  # rows 0-24: ten of them a third time, ten a second, four are new
        ],
        {"base": (540, 540, 0, 100 + 200)},
    ),
    "resumed at another row": (
        [entry("base", 0, 10), entry("base", 10, 15, from_row=16)],  # rows 16-26, of which 16-20 again
        {"base": (300, 300, 0, 40)},
    ),
    "killed after its last checkpoint": ([entry("base", 0, 10, saved=[4, 8])], {"base": (160, 160, 40, 0)}),
    "killed and resumed": (
        [entry("base", 0, 10, saved=[8]), entry("base", 8, 12)],
        {"base": (240, 240, 40, 0)},
    ),
    "rewound": (
        [entry("base", 0, 10, saved=[4, 10]), entry("base", 4, 6)],
        {"base": (120, 120, 120, 0)},
    ),
    "rewound, and read again from row 0": (
        [entry("base", 0, 10, saved=[4, 10]), entry("base", 4, 10, reread=True)],
        {"base": (200, 200, 120, 80)},
    ),
    "begun anew": ([entry("base", 0, 10), entry("base", 0, 3)], {"base": (60, 60, 200, 0)}),
    "beyond the supply's end: rows 0-20 a second time": ([entry("base", 0, 60)], {"base": (1_200, 1_200, 0, 200)}),
    "three passes and a half": ([entry("base", 0, 175)], {"base": (3_500, 3_500, 0, 2_500)}),
    "a fork goes on where its parent's checkpoint stood": (
        [entry("base", 0, 10, saved=[4, 10]), entry("fork", 0, 5, parent="base@4")],
        {"base": (200, 200, 0, 0), "fork": (180, 100, 0, 0)},
    ),
    "a fork that counts its parent's steps on": (
        [entry("base", 0, 10, saved=[4, 10]), entry("fork", 4, 9, parent="base@4")],
        {"base": (200, 200, 0, 0), "fork": (180, 100, 0, 0)},
    ),
    "a fork that forgot what its parent saw": (
        [entry("base", 0, 10, saved=[4, 10]), entry("fork", 0, 5, parent="base@4", reread=True)],
        {"base": (200, 200, 0, 0), "fork": (180, 100, 0, 80)},
    ),
    "a fork's parent is rewound afterwards": (
        [
            entry("base", 0, 10, saved=[4, 10]),
            entry("fork", 0, 5, parent="base@10"),
            entry("base", 4, 6),
        ],
        {"base": (120, 120, 120, 0), "fork": (300, 100, 0, 0)},
    ),
    "a fork of a fork": (
        [
            entry("base", 0, 10),
            entry("mid", 0, 5, parent="base@10", stage="midtrain", reread=True),
            entry("chat", 0, 5, parent="mid@5", stage="sft"),  # on from row 10: rows 10-20 again, as base saw them
        ],
        {"base": (200, 200, 0, 0), "mid": (300, 100, 0, 100), "chat": (400, 100, 0, 200)},
    ),
    "deleted, and its fork lives": (
        [
            entry("base", 0, 10, saved=[4, 10]),
            entry("fork", 0, 5, parent="base@4"),
            entry("base", 10, 12, deleted=True),
        ],
        {"base": (240, 240, 0, 0), "fork": (180, 100, 0, 0)},
    ),
    "deleted, then begun anew under its name": (
        [entry("base", 0, 10, deleted=True), entry("base", 0, 5)],
        {"base": (100, 100, 200, 0)},
    ),
    "its checkpoints after a step were deleted": (
        [entry("base", 0, 10, saved=[4, 10], deleted=4)],
        {"base": (80, 80, 120, 0)},
    ),
    "accumulation doubles a step": (
        [entry("base", 0, 10, accumulation=2)],
        {"base": (400, 400, 0, 0)},
    ),
    "other numbers of GPUs along a run": (
        [entry("base", 0, 10), entry("base", 10, 15, gpus=1), entry("base", 15, 20, gpus=4, micro_batch=2)],
        {"base": (200 + 50 + 400, 650, 0, 0)},
    ),
    "a fork of a fork that saved nothing": (
        [
            entry("base", 0, 10),
            entry("fork", 0, 5, parent="base@10", saved=[]),
        ],
        {"base": (200, 200, 0, 0), "fork": (200, 0, 100, 0)},
    ),
}


@pytest.mark.parametrize("case", HISTORIES)
def test_a_history_comes_to_the_tokens_worked_out_by_hand(case: str, paths: Paths) -> None:
    entries, wanted = HISTORIES[case]
    assert told(replayed(paths, *entries)) == wanted
    for journal in read_journals(paths.runs).values():
        steps = steps_with_weights(journal.records)
        assert all(step["tokens"] == 10 * (step["row_to"] - step["row_from"]) for step in steps)


def test_the_database_tells_the_same_of_all_of_them(paths: Paths) -> None:
    entries: list[Entry] = []
    wanted = {}
    for number, (of_one, tokens) in enumerate(HISTORIES.values()):
        entries += [e | {key: f"{number}-{e[key]}" for key in ("run", "parent") if key in e} for e in of_one]
        wanted |= {f"{number}-{run}": counts for run, counts in tokens.items()}
    replayed(paths, *entries)
    assert asked(paths) == wanted
    assert run_in(paths.root, verify.main) == 0


def test_the_example_in_the_documentation_is_worked_out_by_hand(paths: Paths) -> None:
    lines = {line.run: line for line in replay(paths, read_history(DOCS / "history.toml"))}
    step = 589_824
    assert told(lines) == {
        "base": (6_000 * step, 6_000 * step, 500 * step, 2_000 * step),
        "fork": (3_000 * step, 1_000 * step, 0, 1_000 * step),
    }
    manifest.rebuild(paths)
    header, rows = ask(paths, (SHIPPED_MANIFESTS / "queries" / "tokens_in_weights.sql").read_text())
    base, fork = (dict(zip(header, row, strict=True)) for row in rows)
    assert {"parent": None, "trashed_at": None, "tokens_in_weights": 6_000 * step}.items() <= base.items()
    assert (base["of_ancestors"], base["own"], base["computed_not_in_weights"]) == (0, 6_000 * step, 500 * step)
    assert fork["trashed_at"] is not None
    assert (fork["parent"], fork["of_ancestors"], fork["own"]) == ("base@2000", 2_000 * step, 1_000 * step)
    _, rows = ask(paths, (SHIPPED_MANIFESTS / "queries" / "reseen.sql").read_text())
    assert [(run, reseen) for run, _, _, _, _, reseen, _ in rows] == [("base", 2_000 * step), ("fork", 1_000 * step)]


def test_another_supply_begins_at_its_first_row_and_the_first_goes_on_where_it_stood(paths: Paths) -> None:
    chat = {"name": "chat", "shards": 3, "tokens-per-shard": 40}  # twelve rows
    lines = replayed(
        paths,
        entry("base", 0, 10, recipe="web"),
        entry("chat", 0, 8, recipe="chat", parent="base@10"),  # sixteen rows: four again
        entry("chat", 8, 10, recipe="web"),
        entry("chat", 10, 11, recipe="chat"),
        supplies=(WEB, chat),
    )
    assert told(lines) == {"base": (200, 200, 0, 0), "chat": (420, 220, 0, 40 + 20)}
    assert asked(paths) == told(lines)
    query = "SELECT ancestor, recipe, row_from, row_to, tokens FROM lineage WHERE run = 'chat'"
    assert ask(paths, query)[1] == [
        *(("base", "web", 0, 20, 200), ("chat", "chat", 0, 12, 120), ("chat", "chat", 0, 4, 40)),
        *(("chat", "web", 20, 24, 40), ("chat", "chat", 4, 6, 20)),
    ]


def test_supplies_of_one_recipe_are_mixed_until_the_first_is_used_up(paths: Paths) -> None:
    mixed = (
        {"name": "a", "tokens": 300, "share": 3, "recipe": "mix"},  # 30 rows of 3 parts in 4: 40 rows a pass
        {"name": "b", "tokens": 9_000, "share": 1, "recipe": "mix"},
    )
    assert told(replayed(paths, entry("base", 0, 25), supplies=mixed)) == {"base": (500, 500, 0, 100)}


def test_a_deleted_run_is_in_the_trash_and_its_rows_are_in_the_ledger(paths: Paths) -> None:
    replayed(paths, entry("base", 0, 10, saved=[4, 10], deleted=True))
    assert not (paths.runs / "base").exists()
    assert list(find_journals(paths.runs)) == ["base"]
    manifest.rebuild(paths)
    assert ask(paths, "SELECT count(*), sum(tokens)::BIGINT, bool_and(in_weights) FROM steps")[1] == [(10, 200, True)]
    assert ask(paths, "SELECT run FROM runs WHERE trashed_at IS NOT NULL")[1] == [("base",)]


BASE = entry("base", 0, 10)
REFUSED: dict[str, tuple[list[Entry], str]] = {
    "a run that begins in the middle": ([entry("base", 5, 10)], "entry 1: a run's first step"),
    "a gap": (
        [BASE, entry("base", 12, 15)],
        "no weights of step 12.*seen: steps 0, 10",
    ),
    "a step that was not saved": ([BASE, entry("base", 5, 15)], "no weights of step 5"),
    "a parent nobody knows": (
        [entry("fork", 0, 5, parent="base@4")],
        "no weights base@4.*seen: saved: none",
    ),
    "a parent's step that was not saved": (
        [BASE, entry("fork", 0, 5, parent="base@4")],
        "entry 2: there are no weights base@4.*seen: saved: 10",
    ),
    "a parent that was rewound before": (
        [entry("base", 0, 10, saved=[4, 10]), entry("base", 4, 6), entry("fork", 0, 5, parent="base@10")],
        "entry 3: there are no weights base@10",
    ),
    "a parent that was deleted before": (
        [entry("base", 0, 10, deleted=True), entry("fork", 0, 5, parent="base@10")],
        "entry 2: there are no weights base@10.*seen: it was deleted before",
    ),
    "a deleted run that goes on": (
        [entry("base", 0, 10, deleted=True), entry("base", 10, 15)],
        "no weights of step 10",
    ),
    "another parent": (
        [BASE, entry("fork", 0, 5, parent="base@10"), entry("fork", 5, 8, parent="base@4")],
        "entry 3: run fork began with another parent",
    ),
    "another seq-len of one supply": (
        [BASE, entry("base", 10, 15, seq_len=20)],
        "rows of web have one",
    ),
    "a row beyond the supply": (
        [entry("base", 0, 10, from_row=100)],
        "no such row.*seen: from-row 100, wanted: below 100",
    ),
    "a recipe nobody knows": (
        [entry("base", 0, 10, recipe="wob")],
        "its recipe is not known.*seen: wob, wanted: web",
    ),
    "a deleted step that was not saved": ([entry("base", 0, 10, deleted=4)], "that step was never saved"),
    "backwards": ([entry("base", 10, 10)], "it goes backwards"),
    "saved outside its steps": ([entry("base", 0, 10, saved=[11])], "it cannot have saved these"),
    "two rows to begin with": ([entry("base", 0, 10, reread=True, from_row=4)], "two rows to read on from"),
    "no accumulation": ([{k: v for k, v in BASE.items() if k != "accumulation"}], "no accumulation"),
    "a misspelled key": ([entry("base", 0, 10, acumulation=2)], "unknown key acumulation"),
    "a number of no GPUs": ([entry("base", 0, 10, gpus=0)], "gpus cannot be that"),
    "true as a number": ([entry("base", 0, 10, micro_batch=True)], "micro-batch cannot be that"),
    "a parent without a step": ([entry("base", 0, 10, parent="other")], "wanted: RUN@STEP"),
    "a name that is a path": ([entry("../base", 0, 10)], "run cannot be that"),
    "true as a saved step": ([entry("base", 0, 10, saved=[True])], "saved cannot be that"),
    "more steps than memory holds": ([entry("base", 0, 4 * 10**15)], "nobody trained that"),
    "more tokens than BIGINT counts": ([entry("base", 0, 10, gpus=10**17)], "nobody trained that"),
    "thousands of passes": ([entry("base", 0, 10, gpus=10**6)], "its supply is too small.*100,000 passes"),
    "a stage of another kind": ([entry("base", 0, 10, stage="warmup")], "no such stage"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_refused_entry_leaves_nothing_written(case: str, paths: Paths) -> None:
    entries, match = REFUSED[case]
    with pytest.raises(UsageError, match=f"(?s){match}") as refused:
        replayed(paths, *entries)
    assert len(str(refused.value).splitlines()) == 3
    assert {file.name for file in paths.runs.glob("*")} <= {".runs.lock"}


def test_one_supply_pasted_twice_is_not_twice_the_tokens(paths: Paths) -> None:
    with pytest.raises(UsageError, match="supply 2: another one has its name"):
        replayed(paths, BASE, supplies=(WEB, WEB))


def test_the_factors_of_a_step_and_the_rows_done_are_told_where_only_a_size_is_known(paths: Paths) -> None:
    replayed(paths, entry("base", 0, 10, accumulation=4), entry("base", 10, 15, reread=True))
    manifest.rebuild(paths)
    math = "SELECT seq_len, tokens_per_step, rows_consumed, product_holds FROM batch_math"
    assert ask(paths, math)[1] == [(10, 20, 2, True)]
    assert ask(paths, "SELECT rows_done, tokens_in_weights FROM progress")[1] == [(90, 900)]


def test_the_documents_of_a_supply_that_was_only_counted_are_not_asked_back(paths: Paths) -> None:
    replayed(paths, BASE)
    with pytest.raises(DataError, match="of which only the size is known"):
        read_seen(paths, ["base@10"], fingerprint="", shards=())


def test_a_query_over_plans_says_that_there_are_none(paths: Paths) -> None:
    replayed(paths, BASE)
    manifest.rebuild(paths)
    query = (SHIPPED_MANIFESTS / "queries" / "left_after_run.sql").read_text()
    with pytest.raises(DataError, match="the query reads plans, and there are none"):
        ask(paths, query)


@pytest.mark.parametrize("content", ["", "entry = 5", "[[entri]]\nrun = 'a'", "[entry]\nrun = 'a'", "no toml", "\x00"])
def test_a_file_that_is_no_history_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "history.toml"
    file.write_text(content)
    with pytest.raises(UsageError):
        read_history(file)


def test_the_same_file_again_writes_nothing_and_another_one_never_writes_over_it(paths: Paths) -> None:
    entries = [BASE, entry("fork", 0, 5, parent="base@10"), entry("gone", 0, 3, deleted=True)]
    replayed(paths, *entries)
    before = {run: file.read_bytes() for run, file in find_journals(paths.runs).items()}
    again = replayed(paths, *entries)
    assert [line.written for line in again.values()] == [False, False, False]
    assert told(again)["fork"] == (300, 100, 0, 0)
    with pytest.raises(UsageError, match="run 'base' exists and is not written over"):
        replayed(paths, entry("new", 0, 3), entry("base", 0, 10, gpus=4))
    with pytest.raises(UsageError, match="run 'gone' exists"):
        replayed(paths, entry("gone", 0, 3))
    assert {run: file.read_bytes() for run, file in find_journals(paths.runs).items()} == before


def test_a_replay_that_was_cut_short_writes_the_runs_that_are_missing(paths: Paths) -> None:
    entries = [BASE, entry("fork", 0, 5, parent="base@10")]
    replayed(paths, *entries)
    (paths.runs / "fork" / "journal.jsonl").unlink()
    (paths.runs / "fork").rmdir()
    assert [line.written for line in replayed(paths, *entries).values()] == [False, True]
    assert asked(paths) == {"base": (200, 200, 0, 0), "fork": (300, 100, 0, 0)}


def test_a_later_file_may_fork_from_an_earlier_ones_runs(paths: Paths) -> None:
    replayed(paths, BASE)
    lines = replayed(paths, entry("fork", 0, 5, parent="base@10"))
    assert told(lines) == {"fork": (300, 100, 0, 0)}


def test_a_hundred_thousand_steps_take_seconds(paths: Paths) -> None:
    began = time.perf_counter()
    lines = replayed(paths, entry("base", 0, 100_000), supplies=({"name": "web", "tokens": 1_500_000},))
    assert told(lines) == {"base": (2_000_000, 2_000_000, 0, 500_000)}
    assert time.perf_counter() - began < 20


def test_rows_are_split_where_a_pass_ends() -> None:
    assert split_passes(8, 23, 10) == [(0, 8, 10), (1, 10, 20), (2, 20, 23)]
    assert split_passes(10, 20, 10) == [(1, 10, 20)]
    assert split_passes(8, 23, None) == [(0, 8, 23)]


def test_nothing_is_seen_again_where_nothing_was_seen() -> None:
    assert seen_again([]) == []
