"""python -m train.evaluate: what it prints and keeps, alone and among ranks, and two checkpoints compared."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bundle_maker import write_bundle, zip_bundle
from training import here, records, settle, start

from dataprep.bundle import open_bundle
from dataprep.contaminated import Contamination, TaskCount, publish_contamination
from dataprep.errors import DataError, UsageError
from dataprep.judging import FoundItem
from dataprep.paths import Paths
from dataprep.recipe import load_recipe
from train import evaluate, evaluate_pages

CORE = ("--suite", "core", "--device", "cpu")
COMPARE = ("--device", "cpu", "--compare")


@pytest.fixture(scope="module")
def demo(packed_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root with a run of six steps, saved at 3 and 6, and a bundle outside of it. Its evaluations are not kept."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("evaluate") / "root"
        shutil.copytree(packed_root, root)
        settle(patch, root)
        here("--run", "demo", "--tokens", "3072", "--checkpoint-every", "3", "--validate-rows", "9")
        zip_bundle(write_bundle(root.parent), root.parent / "small.zip")
        yield root


@pytest.fixture(autouse=True)
def nothing_kept(demo: Path) -> None:
    shutil.rmtree(demo / "runs/demo/evaluations", ignore_errors=True)
    (demo / "runs/demo/findings.jsonl").unlink(missing_ok=True)
    shutil.rmtree(demo / "data/bundles", ignore_errors=True)


def asked(*flags: str) -> int:
    return evaluate.main(list(flags))


def kept(root: Path) -> dict[str, dict[str, Any]]:
    return {file.name: json.loads(file.read_text()) for file in (root / "runs/demo/evaluations").glob("*")}


def findings(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "runs/demo/findings.jsonl").read_text().splitlines()]


def test_held_out_scores_are_those_of_training_and_land_among_the_findings(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked("--run", "demo", "--suite", "heldout", "--device", "cpu", "--batch-size", "3") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("demo@6: 3,072 tokens in the weights")
    assert [line.split()[:2] for line in printed.splitlines() if line.startswith(("alpha", "beta"))] == [
        ["alpha", "9"],
        ["beta", "9"],
    ]
    wanted, found = records(demo, "demo", "eval"), findings(demo)
    assert [record["value"] for record in found] == pytest.approx([record["value"] for record in wanted], rel=1e-6)
    assert {(record["kind"], record["step"], record["recipe"]) for record in found} == {("eval", 6, "mix")}


def test_core_answers_do_not_depend_on_batch_size_or_ranks(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = ("--bundle", str(demo.parent / "small.zip"))
    assert asked("--run", "demo", *CORE, *bundle, "--batch-size", "1") == 0
    printed = capsys.readouterr().out
    assert "core: 5 of 5 tasks, long_stories" in printed
    assert "note: long_stories: 4 items longer than 64 tokens: their beginning is cut off" in printed
    [(name, one)] = kept(demo).items()
    assert name.startswith("core_step_00000006_")
    assert name.endswith("_all.json")
    assert [len(task["right"]) for task in one["tasks"]] == [8, 8, 8, 10, 4]
    assert asked("--run", "demo", *CORE, *bundle, "--batch-size", "16") == 0
    assert kept(demo) == {name: one}
    shutil.rmtree(demo / "runs/demo/evaluations")
    asked_by_torchrun = ("-m", "train.evaluate", "--run-name", "demo", *CORE, *bundle, "--json")
    done = start("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *asked_by_torchrun)
    assert done.returncode == 0, done.stderr
    assert kept(demo) == {name: one}
    told = json.loads(done.stdout)
    assert (told["run"], told["step"], told["weights_sha256"]) == ("demo", 6, one["weights_sha256"])
    found = findings(demo)
    assert [record["value"] for record in found[-11:]] == [record["value"] for record in told["records"]]
    assert [(r["suite"], r["task"], r["n"]) for r in told["records"]][-1] == ("core", "CORE", 38)
    assert len(found) == 3 * 11


def test_comparing_asks_what_was_not_asked_and_then_only_reads(
    demo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (demo / "data/bundles").mkdir(parents=True)
    shutil.copy(demo.parent / "small.zip", demo / "data/bundles/core-eval.zip")
    assert asked(*COMPARE, "demo@3", "demo", "--max-per-task", "4") == 0
    printed = capsys.readouterr().out
    assert "demo@3 was not asked yet:" in printed
    assert "demo@6 was not asked yet:" in printed
    assert "CORE from demo@3 to demo@6: " in printed
    assert sorted(file[:18] for file in kept(demo)) == ["core_step_00000003", "core_step_00000006"]
    monkeypatch.setattr(evaluate_pages, "evaluate_core", None)
    assert asked(*COMPARE, "demo", "demo@6", "--max-per-task", "4", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {(of["delta"], of["low"], of["high"], of["verdict"]) for of in told["differences"]} == {
        (0.0, 0.0, 0.0, "not more than noise")
    }
    (demo / "data/bundles/core-eval.zip").unlink()
    assert asked(*COMPARE, "demo@3", "demo") == 0  # what was kept needs no bundle
    assert "CORE from demo@3 to demo@6: " in capsys.readouterr().out


def test_answers_of_other_weights_under_the_same_step_are_not_read_back(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = ("--bundle", str(demo.parent / "small.zip"), "--max-per-task", "4")
    assert asked("--run", "demo", *CORE, *bundle) == 0
    [(name, value)] = kept(demo).items()
    file = demo / "runs/demo/evaluations" / name
    file.write_text(json.dumps(value | {"weights_sha256": "0" * 64}))
    capsys.readouterr()
    assert asked(*COMPARE, "demo", "demo", *bundle) == 0
    assert "demo@6 was not asked yet:" in capsys.readouterr().out
    assert kept(demo) == {name: value}


def test_what_cannot_be_asked_is_refused_with_the_command_that_mends_it(demo: Path) -> None:
    with pytest.raises(UsageError, match="there is no bundle") as refused:
        asked("--run", "demo", *CORE)
    assert refused.value.fix == "python -m dataprep.fetch --source core-eval"
    with pytest.raises(UsageError, match="was not asked yet, and there is no bundle"):
        asked(*COMPARE, "demo", "demo@3")
    with pytest.raises(UsageError, match="--max-per-task 4"):
        asked("--run", "demo", *CORE, "--bundle", str(demo.parent / "small.zip"), "--max-per-task", "2")
    with pytest.raises(UsageError, match="keeps no checkpoint of step 5"):
        asked("--run", "demo@5", "--suite", "heldout", "--device", "cpu")
    (demo.parent / "cut.zip").write_bytes((demo.parent / "small.zip").read_bytes()[:-30])
    with pytest.raises(DataError, match="cannot be read as a zip"):
        asked("--run", "demo", *CORE, "--bundle", str(demo.parent / "cut.zip"))
    for flags in (("--suite", "all", "--run", "demo"), ("--compare", "demo", "demo", "--suite", "core"), ()):
        with pytest.raises(SystemExit, match="2"):
            asked(*flags)


def test_core_without_the_items_in_the_plans_is_told_or_how_to_know_it(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, bundle = Paths(root=demo), open_bundle(demo.parent / "small.zip")
    flags = ("--run", "demo", *CORE, "--bundle", str(demo.parent / "small.zip"))
    assert asked(*flags) == 0
    note = f"python -m dataprep.contamination --bundle {demo.parent / 'small.zip'} --recipe mix"
    assert note in capsys.readouterr().out
    assert len(findings(demo)) == 11
    out = {"trophies": range(3, 8), "long_stories": range(4)}
    found = Contamination(
        recipe="mix",
        recipe_sha256=load_recipe(paths, "mix").sha256,
        bundle=bundle.name,
        bundle_sha256=bundle.sha256,
        n=13,
        tokens=1,
        tasks=tuple(
            TaskCount(task=task.label, items=len(task.items), not_judged=0, wording=0) for task in bundle.tasks
        ),
        found=tuple(
            FoundItem(task=task, item=item, n_grams=1, n_matched=1, documents=())
            for task, items in out.items()
            for item in items
        ),
    )
    publish_contamination(paths, found)
    assert asked(*flags, "--json") == 0
    paths.contamination("mix", bundle.sha256).unlink()
    *told, clean = json.loads(capsys.readouterr().out)["records"]
    [kept_value] = kept(demo).values()
    centered = []
    for task in kept_value["tasks"][:4]:  # nothing is left of long_stories
        right = [
            r == "1" for i, r in zip(task["items"], task["right"], strict=True) if i not in out.get(task["label"], ())
        ]
        centered.append((sum(right) / len(right) - task["baseline"]) / (1 - task["baseline"]))
    assert (clean["suite"], clean["task"], clean["n"]) == ("core-clean", "CORE", 38 - 5 - 4)
    assert clean["value"] == pytest.approx(sum(centered) / 4)
    assert clean["value"] != told[-1]["value"]


def test_samples_are_those_of_the_prompts_and_land_among_the_findings(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = demo.parent / "mine.toml"
    prompts.write_text('openings = ["the mill"]\nfacts = [{ask = "One and", question = "Which?", expect = "two"}]\n')
    assert asked("--run", "demo@3", "--suite", "samples", "--prompts", str(prompts), "--device", "cpu") == 0
    printed = capsys.readouterr().out
    assert "facts step 3 | " in printed
    found = [(r["kind"], r["step"], r["prompt"], r["temperature"], r["expected"]) for r in findings(demo)]
    assert found == [
        ("sample", 3, "the mill", 0.0, None),
        ("sample", 3, "One and", 0.0, "two"),
        ("sample", 3, "the mill", 0.8, None),
        ("sample", 3, "One and", 0.8, "two"),
    ]


def test_different_questions_are_not_compared(demo: Path) -> None:
    bundle = ("--bundle", str(demo.parent / "small.zip"))
    assert asked("--run", "demo@3", *CORE, *bundle, "--max-per-task", "4") == 0
    assert asked("--run", "demo@6", *CORE, *bundle, "--max-per-task", "5") == 0
    with pytest.raises(UsageError, match="not asked the same: another max-per-task"):
        asked(*COMPARE, "demo@3", "demo@6")
