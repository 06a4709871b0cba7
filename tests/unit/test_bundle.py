"""Evaluation bundles: the same from a folder and from a zip, and whatever is wrong in one is refused by name."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_maker import TASKS, make_items, write_bundle, zip_bundle

from dataprep import bundle_files
from dataprep.bundle import LanguageModeling, MultipleChoice, Schema, open_bundle
from dataprep.errors import DataError, QuernError, UsageError

ANIMALS = "world/animals.jsonl"


def refusal(path: Path) -> str:
    with pytest.raises(QuernError) as refused:
        open_bundle(path)
    assert str(refused.value).count("\n") == 2
    return str(refused.value)


def test_a_folder_and_its_zip_hold_the_same_tasks_wherever_core_yaml_lies(tmp_path: Path) -> None:
    top = write_bundle(tmp_path / "here")
    zipped = zip_bundle(top, tmp_path / "core.zip")
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as flat:
        for file in top.rglob("*.*"):
            flat.write(file, file.relative_to(top))
    bundles = [open_bundle(path) for path in (top, tmp_path / "here", zipped, tmp_path / "flat.zip")]
    assert [bundle.name for bundle in bundles] == ["eval_bundle", "here", "core", "flat"]
    assert all(bundle.tasks == bundles[0].tasks for bundle in bundles)
    assert bundles[0].sha256 == bundles[1].sha256
    (top / ".DS_Store").write_text("not read, so not the bundle's")
    assert open_bundle(top).sha256 == bundles[0].sha256
    with (top / "eval_data" / ANIMALS).open("a") as file:
        file.write(json.dumps(make_items()[ANIMALS][0]) + "\n")
    assert open_bundle(top).sha256 != bundles[0].sha256


def test_tasks_and_items_are_in_file_order_with_their_settings(tmp_path: Path) -> None:
    bundle = open_bundle(write_bundle(tmp_path))
    assert [(task.label, task.n_shots, task.kind) for task in bundle.tasks] == [
        (label, shots, kind) for label, (_, shots, kind, _, _) in TASKS.items()
    ]
    animals, fewshot, trophies, counting, _ = bundle.tasks
    assert (animals.delimiter, fewshot.delimiter, animals.baseline, counting.baseline) == (" ", "\nAnswer: ", 0.5, 0)
    first = MultipleChoice("Question: which sound does the cat make?", ("it meows", "it hoots"), 0)
    assert animals.items[0] == first
    assert isinstance(trophies.items[1], Schema)
    assert (trophies.items[1].continuation, trophies.items[1].gold) == ("was too small for it.", 1)
    assert counting.items[3] == LanguageModeling("3 4 5 6 ", "7")


def change(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda item: item.update({key: value})


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (change("gold", 2), "gold = 2"),
        (change("gold", -1), "gold = -1"),
        (change("gold", True), "gold = True"),
        (change("gold", "0"), "gold = '0'"),
        (change("query", 5), "query = 5"),
        (change("query", "half a \ud83d"), "query = 'half a"),
        (change("choices", ["one"]), "choices = ['one']"),
        (change("choices", ["one", None]), "choices = ['one', None]"),
        (lambda item: item.pop("choices"), "choices = None"),
    ],
)
def test_an_item_that_cannot_be_is_refused_with_its_task_file_and_line(
    spoil: Callable[[dict[str, Any]], None], seen: str, tmp_path: Path
) -> None:
    top = write_bundle(tmp_path)
    items = make_items()[ANIMALS]
    spoil(items[2])
    (top / "eval_data" / ANIMALS).write_text("".join(json.dumps(item) + "\n" for item in items))
    said = refusal(top)
    assert "task 'animals_zeroshot'" in said
    assert f"eval_data/{ANIMALS}, line 3" in said
    assert f"seen: {seen}" in said


@pytest.mark.parametrize("line", ["", "{", "[1]", '"text"', "[" * 5000])
def test_a_line_that_is_no_json_object_is_refused(line: str, tmp_path: Path) -> None:
    top = write_bundle(tmp_path)
    file = top / "eval_data" / ANIMALS
    file.write_text(file.read_text() + line + "\n")
    assert "line 9" in refusal(top)


@pytest.mark.parametrize(
    ("old", "new", "seen"),
    [
        ("label: trophies", "label: animals_zeroshot", "two tasks 'animals_zeroshot'"),
        ("icl_task_type: schema", "icl_task_type: essay", "icl_task_type 'essay'"),
        ("num_fewshot: [2]", "num_fewshot: [8]", "8 items for 8 shots"),
        ("num_fewshot: [2]", "num_fewshot: 2", "num_fewshot 2"),
        ("num_fewshot: [2]", "num_fewshot: [-2]", "num_fewshot [-2]"),
        ("label: trophies", "label: trophy", "no row of it in eval_meta_data.csv"),
        ("reading/trophies.jsonl", "reading/none.jsonl", "no such file"),
        ("reading/trophies.jsonl", "../../outside.jsonl", "../../outside.jsonl"),
        ("reading/trophies.jsonl", "/etc/hostname", "/etc/hostname"),
        ("icl_tasks:", "tasks:", "no list icl_tasks"),
        ("icl_tasks:", "icl_tasks: [", "while parsing"),
        ("icl_tasks:", "icl_tasks:\n- !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_task_list_that_cannot_be_is_refused(old: str, new: str, seen: str, zipped: bool, tmp_path: Path) -> None:
    top = write_bundle(tmp_path / "in")
    (tmp_path / "in" / "outside.jsonl").write_text("{}\n")
    text = (top / "core.yaml").read_text()
    assert old in text
    (top / "core.yaml").write_text(text.replace(old, new, 1))
    assert seen in refusal(zip_bundle(top, tmp_path / "core.zip") if zipped else top)


@pytest.mark.parametrize("percent", ["", "chance", "nan", "100", "-1"])
def test_a_baseline_that_is_no_percentage_is_refused_by_its_task(percent: str, tmp_path: Path) -> None:
    tasks = TASKS | {"trophies": (*TASKS["trophies"][:4], percent)}
    assert "the baseline of 'trophies'" in refusal(write_bundle(tmp_path, tasks=tasks))


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    top = write_bundle(tmp_path)
    file = top / "eval_data" / ANIMALS
    file.rename(tmp_path / "outside.jsonl")
    file.symlink_to(tmp_path / "outside.jsonl")
    assert "leads out" in refusal(top)


def test_what_is_too_large_damaged_or_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = write_bundle(tmp_path)
    zipped = zip_bundle(top, tmp_path / "core.zip")
    content = bytearray(zipped.read_bytes())
    content[len(content) // 3] ^= 1
    (tmp_path / "flipped.zip").write_bytes(content)
    (tmp_path / "page.zip").write_text("<html>")
    (tmp_path / "empty").mkdir()
    assert "cannot be read as a zip" in refusal(tmp_path / "flipped.zip")
    assert "cannot be read as a zip" in refusal(tmp_path / "page.zip")
    assert "core.yaml in 0 places" in refusal(tmp_path / "empty")
    with pytest.raises(UsageError, match="there is no bundle"):
        open_bundle(tmp_path / "none.zip")
    monkeypatch.setattr(bundle_files, "MAX_FILE_BYTES", 1000)
    for path in (top, zipped):
        with pytest.raises(DataError, match="too large"):
            open_bundle(path)
