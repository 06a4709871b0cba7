"""The contamination check as a person runs it, on a packed recipe, against a naive search of the plan's own rows."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_maker import write_bundle

from dataprep import contamination
from dataprep.bins import read_receipt
from dataprep.bundle import open_bundle
from dataprep.contaminated import read_contamination, read_lineage
from dataprep.errors import DataError, UsageError
from dataprep.item_tokens import item_text
from dataprep.paths import Paths
from dataprep.plan import open_plan
from dataprep.recipe import Recipe, load_recipe
from dataprep.row_documents import open_shard
from dataprep.vocab_store import load_vocab

N = 13


def document_text(paths: Paths, recipe: Recipe, number: int, document: int) -> str:
    shard = open_shard(paths, recipe, number)
    start = int(shard.ends[document - 1]) if document else 0
    return load_vocab(paths, recipe.tokenizer).decode(shard.tokens[start : int(shard.ends[document]) - 1].tolist())


def plan_grams(paths: Paths, recipe: Recipe, k: int) -> set[tuple[int, ...]]:
    """Every k tokens in a row that the plan's rows cover, by walking over all of them one by one."""
    segments = open_plan(paths, recipe).segments(0, recipe.plan_rows)
    grams = set()
    for number in range(len(recipe.shards)):
        tokens = open_shard(paths, recipe, number).tokens.tolist()
        covered = np.zeros(len(tokens), bool)
        for place in np.flatnonzero(segments.shard == number):
            covered[segments.start[place] : segments.start[place] + segments.length[place]] = True
        n_covered = np.append(0, np.cumsum(covered))
        inside = np.flatnonzero(n_covered[k:] - n_covered[:-k] == k) if len(tokens) >= k else []
        grams |= {tuple(tokens[i : i + k]) for i in inside}
    return grams


def naive_items(paths: Paths, recipe: Recipe, bundle: Path) -> dict[str, list[int]]:
    vocab = load_vocab(paths, recipe.tokenizer)
    grams = {k: plan_grams(paths, recipe, k) for k in range(8, N + 1)}

    def occurs(text: str) -> bool:
        ids = vocab.encode_ordinary(text)
        k = min(N, len(ids))
        return k >= 8 and any(tuple(ids[i : i + k]) in grams[k] for i in range(len(ids) - k + 1))

    return {
        task.label: [
            number
            for number, item in enumerate(task.items)
            if occurs(item_text(item, task.delimiter)) or occurs(" " + item_text(item, task.delimiter))
        ]
        for task in open_bundle(bundle).tasks
    }


@pytest.fixture
def bundle(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Items out of the plan's documents, out of the held-out shard, and of nowhere."""
    monkeypatch.setenv("DATAPREP_ROOT", str(paths.root))
    recipe = load_recipe(paths, "mix")
    texts = [document_text(paths, recipe, 0, document) for document in (1, 2, 3, 4, 10)]
    long = max(texts, key=len)
    lines: list[dict[str, Any]] = [
        {"context": text[: len(text) // 2], "continuation": text[len(text) // 2 :]} for text in texts
    ]
    # The delimiter stands in the middle of each, where the document may have none: what lies beside it still tells.
    lines += [
        {"context": "Zebras quote xylophones; jackdaws love my big sphinx of quartz", "continuation": "vexed!"},
        {"context": "2 +", "continuation": "2"},
        {"context": long[1:].split(" ", 3)[3][:9], "continuation": "zzz"},
    ]
    # Inside a text " the" is one token, "the" three: only with a space before it does this item of 9 tokens occur.
    after = long[long.index(" the ") + 5 :]
    lines.append({"context": "the", "continuation": after[:7]})
    words = long.split(" ")
    choices = {"query": " ".join(words[2:5]), "choices": ["qqqqq", " ".join(words[5:9])], "gold": 1}
    wrong = choices | {"gold": 0, "query": "Zzz"}
    tasks = {
        "stories": ("stories.jsonl", 0, "language_modeling", None, "0"),
        "choices": ("choices.jsonl", 0, "multiple_choice", None, "50"),
    }
    return write_bundle(tmp_path / "b", tasks=tasks, items={"stories.jsonl": lines, "choices.jsonl": [choices, wrong]})


def test_the_items_found_are_those_of_a_naive_search_and_are_kept_for_evaluation(
    paths: Paths, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe(paths, "mix")
    assert contamination.main(["--bundle", str(bundle), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    wanted = naive_items(paths, recipe, bundle)
    assert wanted["stories"] != []
    assert {5, 6}.isdisjoint(wanted["stories"])
    assert 8 in wanted["stories"]
    assert wanted["choices"] == [0]
    found = {task: [item["item"] for item in told["found"] if item["task"] == task] for task in wanted}
    assert found == wanted
    assert {task["task"]: task["not_judged"] for task in told["tasks"]} == {"stories": 1, "choices": 0}
    assert told["tokens"] == sum(source.unique_tokens for source in recipe.sources)

    sha256 = open_bundle(bundle).sha256
    kept = read_contamination(paths, "mix", recipe.sha256, sha256)
    assert kept == {task: frozenset(items) for task, items in wanted.items()}
    assert read_contamination(paths, "mix", "0" * 64, sha256) is None
    assert read_contamination(paths, "mix", recipe.sha256, "0" * 64) is None
    first = (paths.root / told["kept"]).read_bytes()
    assert contamination.main(["--bundle", str(bundle), "--recipe", "mix"]) == 0
    assert (paths.root / told["kept"]).read_bytes() == first


def test_what_all_items_of_a_task_say_is_its_own_wording_and_contaminates_none(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAPREP_ROOT", str(paths.root))
    recipe = load_recipe(paths, "mix")
    said, own = (document_text(paths, recipe, 0, document) for document in (1, 10))
    lines = [{"context": f"{said[:60]} {number * 7919:b}", "continuation": "x"} for number in range(40)]
    lines[5]["continuation"] = own[10:50]
    tasks = {"wordy": ("w.jsonl", 0, "language_modeling", None, "0")}
    many = open_bundle(write_bundle(tmp_path / "many", tasks=tasks, items={"w.jsonl": lines}))
    found = contamination.look_through(paths, recipe, many, N)
    assert found.items() == {"wordy": {5}}
    assert found.tasks[0].wording > 0
    few = open_bundle(write_bundle(tmp_path / "few", tasks=tasks, items={"w.jsonl": lines[:20]}))
    assert contamination.look_through(paths, recipe, few, N).items() == {"wordy": set(range(20))}


def test_a_document_is_named_by_source_shard_and_row_of_its_file(
    paths: Paths, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert contamination.main(["--bundle", str(bundle), "--json", "--recipe", "mix"]) == 0
    told = json.loads(capsys.readouterr().out)
    shard = load_recipe(paths, "mix").shards[0]
    [item] = [item for item in told["found"] if (item["task"], item["item"]) == ("stories", 4)]
    best = item["documents"][0]
    assert (best["source"], best["shard"], best["document"]) == (shard.source, shard.shard, 10)
    assert best["n_matched"] <= item["n_matched"] <= item["n_grams"]
    assert contamination.main(["--bundle", str(bundle), "--list", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("next: python -m dataprep.show ")
    assert sum(line.startswith(("stories", "choices")) for line in lines) == 2 + 2


def test_a_changed_shard_another_vocabulary_and_a_bad_n_are_refused(paths: Paths, bundle: Path) -> None:
    with pytest.raises(UsageError, match="--n is out of range"):
        contamination.main(["--bundle", str(bundle), "--n", "0"])
    with pytest.raises(UsageError, match="there is no bundle"):
        contamination.main(["--recipe", "mix"])
    shard = load_recipe(paths, "mix").shards[0]
    receipt = paths.bins("tiny-bpe", shard.source) / f"{shard.shard}.json"
    assert read_receipt(receipt).shard == shard.shard
    receipt.unlink()
    with pytest.raises(DataError, match="is planned with but not held"):
        contamination.main(["--bundle", str(bundle)])


def test_a_run_has_the_items_of_its_whole_ancestry_and_the_recipes_that_nobody_checked(
    paths: Paths, bundle: Path
) -> None:
    recipe, sha256 = load_recipe(paths, "mix"), open_bundle(bundle).sha256
    shutil.rmtree(paths.runs, ignore_errors=True)
    write_run(paths, "base", recipe="mix", recipe_sha256=recipe.sha256, parent_run=None, parent_step=None)
    write_run(paths, "child", recipe="later", recipe_sha256="1" * 64, parent_run="base", parent_step=1)
    write_run(paths, "lost", recipe="mix", recipe_sha256=recipe.sha256, parent_run="gone", parent_step=1)
    before = read_lineage(paths, "child", None, sha256)
    assert (before.items, before.checked, before.unchecked, before.gap) == ({}, (), ("mix", "later"), None)
    assert contamination.main(["--bundle", str(bundle), "--recipe", "mix"]) == 0
    after = read_lineage(paths, "child", 1, sha256)
    assert (after.checked, after.unchecked) == (("mix",), ("later",))
    assert after.items == read_contamination(paths, "mix", recipe.sha256, sha256)
    assert read_lineage(paths, "base", None, sha256).unchecked == ()
    assert "gone" in (read_lineage(paths, "lost", None, sha256).gap or "")


def write_run(paths: Paths, run: str, **start: Any) -> None:
    common = {"attempt": 1, "time": "2026-01-01T00:00:00Z"}
    records = [
        common | start | {"kind": "start", "stage": "pretrain", "params": 1, "world_size": 1, "batch_rows": 2}
        | {"micro_batch": 2, "accumulation": 1, "rows_done": 0},
        common | {"kind": "step", "step": 1, "row_from": 0, "row_to": 2, "tokens": 128, "loss_tokens": 128}
        | {"loss": 1.0, "lr": 0.1},
        common | {"kind": "checkpoint", "step": 1, "rows_done": 2, "tokens_done": 128, "path": "p", "bytes": 1}
        | {"sha256": "2" * 64},
    ]  # fmt: skip
    paths.journal(run).parent.mkdir(parents=True)
    paths.journal(run).write_text("".join(json.dumps(record) + "\n" for record in records))
