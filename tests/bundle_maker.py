"""A small evaluation bundle of our own making, as a folder and as a zip, in the shape of the real one.

In:  a folder to write into. Out: `eval_bundle/` with core.yaml, eval_meta_data.csv and eval_data/**, or a zip of it.
Holds: all three types, shots from 0 to 3, a delimiter other than " ", and a task too long for a context of 64 tokens.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

# label → (file below eval_data/, shots, type, delimiter or None for the default, chance in percent)
TASKS: dict[str, tuple[str, int, str, str | None, str]] = {
    "animals_zeroshot": ("world/animals.jsonl", 0, "multiple_choice", None, "50"),
    "animals_fewshot": ("world/animals.jsonl", 3, "multiple_choice", "\nAnswer: ", "50"),
    "trophies": ("reading/trophies.jsonl", 2, "schema", None, "50.0"),
    "counting": ("symbols/counting.jsonl", 3, "language_modeling", None, "0"),
    "long_stories": ("reading/long_stories.jsonl", 1, "multiple_choice", None, "33.3"),
}
_ANIMALS = ("cat", "dog", "horse", "owl", "frog", "snake", "wolf", "goat")
_SOUNDS = ("meows", "barks", "neighs", "hoots", "croaks", "hisses", "howls", "bleats")


def make_items() -> dict[str, list[dict[str, Any]]]:
    """The items by file; change a copy of them and give it to `write_bundle`."""
    n = len(_ANIMALS)
    return {
        "world/animals.jsonl": [
            {
                "query": f"Question: which sound does the {animal} make?",
                "choices": [
                    f"it {_SOUNDS[i if i % 2 == 0 else (i + 3) % n]}",
                    f"it {_SOUNDS[i if i % 2 else (i + 3) % n]}",
                ],
                "gold": i % 2,
            }
            for i, animal in enumerate(_ANIMALS)
        ],
        "reading/trophies.jsonl": [
            {
                "context_options": [
                    f"The {animal} was bigger than the box because the {animal}",
                    f"The {animal} was bigger than the box because the box",
                ],
                "continuation": f"was too {'large' if i % 2 == 0 else 'small'} for it.",
                "gold": i % 2,
            }
            for i, animal in enumerate(_ANIMALS)
        ],
        "symbols/counting.jsonl": [
            {"context": f"{i} {i + 1} {i + 2} {i + 3} ", "continuation": f"{i + 4}", "aliases": []} for i in range(10)
        ],
        "reading/long_stories.jsonl": [
            {
                "query": " ".join(
                    f"On day {day} the {animal} walked to the river and came home." for day in range(1, 13)
                ),
                "choices": [f"The {animal} slept.", f"The {animal} flew to the moon.", "Nobody knew."],
                "gold": 0,
            }
            for animal in _ANIMALS[:4]
        ],
    }


def write_bundle(
    folder: Path,
    *,
    tasks: dict[str, tuple[str, int, str, str | None, str]] | None = None,
    items: dict[str, list[dict[str, Any]]] | None = None,
) -> Path:
    """Write `folder`/eval_bundle and return it."""
    tasks, top = tasks or TASKS, folder / "eval_bundle"
    for file, values in (items or make_items()).items():
        (top / "eval_data" / file).parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(value, ensure_ascii=False) + "\n" for value in values]
        (top / "eval_data" / file).write_text("".join(lines), encoding="utf-8")
    entries = [_entry(label, *task[:4]) for label, task in tasks.items()]
    (top / "core.yaml").write_text("icl_tasks:\n" + "".join(entries))
    rows = [
        f'{label},"world, and language",{task[4]},"of our own making, for tests"\n' for label, task in tasks.items()
    ]
    (top / "eval_meta_data.csv").write_text("Eval Task,Task Category,Random baseline,Description\n" + "".join(rows))
    return top


def zip_bundle(top: Path, file: Path) -> Path:
    """The folder `top` as a zip, under its own name, as the real one is."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for member in sorted(top.rglob("*")):
            if member.is_file():
                out.write(member, f"{top.name}/{member.relative_to(top)}")
    return file


def _entry(label: str, file: str, shots: int, kind: str, delimiter: str | None) -> str:
    said = "" if delimiter is None else f"  continuation_delimiter: {json.dumps(delimiter)}\n"
    return f"-\n  label: {label}\n  dataset_uri: {file}\n  num_fewshot: [{shots}]\n  icl_task_type: {kind}\n{said}"
