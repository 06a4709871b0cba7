"""Bundle: the tasks of an evaluation bundle, as CORE publishes them, read and checked.

In:  a folder or a .zip: core.yaml (which tasks), eval_meta_data.csv (chance), eval_data/**.jsonl (items).
Out: `Bundle`: its sha256 and a `Task` per entry of core.yaml, in that order, with items in file order.
Holds: nothing is guessed: a task without its baseline, its file or a type we know is refused by name,
and so is an item whose gold is out of range, with its task, file and line.

    open_bundle(Path("data/bundles/core-eval.zip")).tasks[0]
    Task(label="hellaswag_zeroshot", kind="multiple_choice", n_shots=0, delimiter=" ", baseline=0.25, items=(…))
"""

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from dataprep.bundle_files import TASK_LIST, BundleFiles, open_files
from dataprep.errors import DataError

BASELINES, DATA_FOLDER = "eval_meta_data.csv", "eval_data"
_LABEL_COLUMN, _BASELINE_COLUMN = "Eval Task", "Random baseline"
_DELIMITER = " "


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """One beginning, several ends: `choices[gold]` is right."""

    query: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True, slots=True)
class Schema:
    """Several beginnings, one end: `context_options[gold]` is the one that it belongs to."""

    context_options: tuple[str, ...]
    continuation: str
    gold: int


@dataclass(frozen=True, slots=True)
class LanguageModeling:
    """One beginning, one end, which greedy continuation must hit exactly."""

    context: str
    continuation: str


Item = MultipleChoice | Schema | LanguageModeling


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task. `baseline` is what chance gets, a fraction; `delimiter` stands between context and continuation."""

    label: str
    kind: str
    n_shots: int
    delimiter: str
    baseline: float
    items: tuple[Item, ...]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Everything that CORE asks."""

    name: str
    sha256: str
    tasks: tuple[Task, ...]


def open_bundle(path: Path) -> Bundle:
    """The bundle at `path`, whole. Raises UsageError where there is none, DataError naming what is wrong in it."""
    files = open_files(path)
    baselines = _baselines(files, path)
    tasks: list[Task] = []
    for entry in _entries(files, path):
        task = _task(files, entry, baselines, path)
        if task.label in {other.label for other in tasks}:
            _refuse(f"{TASK_LIST} in {path}", seen=f"two tasks {task.label!r}", wanted="one of each label")
        tasks.append(task)
    return Bundle(name=path.stem, sha256=files.sha256(), tasks=tuple(tasks))


def _entries(files: BundleFiles, path: Path) -> list[Any]:
    import yaml

    where = f"{TASK_LIST} in {path}"
    try:
        value = yaml.safe_load(files.read(TASK_LIST))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date of month 99 is a ValueError
        _refuse(where, seen=error, wanted="YAML")
    entries = value.get("icl_tasks") if isinstance(value, dict) else None
    if not isinstance(entries, list) or not entries:
        _refuse(where, seen="no list icl_tasks", wanted="icl_tasks: a list of tasks")
    return entries


def _baselines(files: BundleFiles, path: Path) -> dict[str, float]:
    """What chance gets by task, as fractions of one; the file has percents."""
    where = f"{BASELINES} in {path}"
    try:
        rows = list(csv.DictReader(io.StringIO(files.read(BASELINES).decode("utf-8-sig"), newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        _refuse(where, seen=error, wanted="a CSV file in UTF-8")
    missing = {_LABEL_COLUMN, _BASELINE_COLUMN} - (rows[0].keys() if rows else set())
    if missing:
        _refuse(where, seen=f"no column {', '.join(sorted(missing))}", wanted=f"{_LABEL_COLUMN}, {_BASELINE_COLUMN}")
    baselines: dict[str, float] = {}
    for row in rows:
        label = row[_LABEL_COLUMN]
        baseline = _fraction(f"the baseline of {label!r} in {where}", row[_BASELINE_COLUMN])
        if baselines.setdefault(label, baseline) != baseline:
            _refuse(where, seen=f"two baselines of {label!r}", wanted="one")
    return baselines


def _fraction(where: str, percent: str | None) -> float:
    try:
        fraction = float(percent or "") / 100
    except ValueError:
        fraction = -1.0
    if not 0 <= fraction < 1:  # not so for NaN either
        _refuse(where, seen=repr(percent), wanted="a percentage from 0 to below 100")
    return fraction


def _task(files: BundleFiles, entry: Any, baselines: Mapping[str, float], path: Path) -> Task:
    label = entry.get("label") if isinstance(entry, dict) else None
    if not isinstance(label, str) or not label:
        _refuse(f"{TASK_LIST} in {path}", seen=f"an entry {str(entry)[:60]!r}", wanted="a task with a label")
    where = f"task {label!r} of {path}"
    kind, file, shots = entry.get("icl_task_type"), entry.get("dataset_uri"), entry.get("num_fewshot")
    delimiter = entry.get("continuation_delimiter", _DELIMITER)
    if not isinstance(kind, str) or kind not in _READERS:
        _refuse(where, seen=f"icl_task_type {kind!r}", wanted="one of " + ", ".join(_READERS))
    if not isinstance(file, str) or not file:
        _refuse(where, seen=f"dataset_uri {file!r}", wanted=f"a file below {DATA_FOLDER}/")
    if not isinstance(shots, list) or len(shots) != 1 or type(shots[0]) is not int or shots[0] < 0:
        _refuse(where, seen=f"num_fewshot {shots!r}", wanted="a list of one whole number, such as [10]")
    if not isinstance(delimiter, str):
        _refuse(where, seen=f"continuation_delimiter {delimiter!r}", wanted="a text")
    if label not in baselines:
        _refuse(where, seen=f"no row of it in {BASELINES}", wanted="its random baseline")
    items = _items(files.read(f"{DATA_FOLDER}/{file}"), kind, f"{where}, {DATA_FOLDER}/{file}")
    if len(items) <= shots[0]:
        _refuse(where, seen=f"{len(items)} items for {shots[0]} shots", wanted="more items than shots")
    return Task(
        label=label, kind=kind, n_shots=shots[0], delimiter=delimiter, baseline=baselines[label], items=tuple(items)
    )


def _items(content: bytes, kind: str, where: str) -> list[Item]:
    lines = content.removesuffix(b"\n").split(b"\n")  # and not at every separator that Unicode has
    return [_item(line, kind, f"{where}, line {number}") for number, line in enumerate(lines, 1)]


def _item(line: bytes, kind: str, where: str) -> Item:
    try:
        value = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        _refuse(where, seen=error, wanted="a JSON object")
    if not isinstance(value, dict):
        _refuse(where, seen=repr(value)[:60], wanted="a JSON object")
    return _READERS[kind](value, where)


def _multiple_choice(value: dict[str, Any], where: str) -> Item:
    choices = _texts(value, "choices", where)
    return MultipleChoice(_text(value, "query", where), choices, _gold(value, choices, where))


def _schema(value: dict[str, Any], where: str) -> Item:
    options = _texts(value, "context_options", where)
    return Schema(options, _text(value, "continuation", where), _gold(value, options, where))


def _language_modeling(value: dict[str, Any], where: str) -> Item:
    return LanguageModeling(_text(value, "context", where), _text(value, "continuation", where))


_READERS: Mapping[str, Callable[[dict[str, Any], str], Item]] = {
    "multiple_choice": _multiple_choice,
    "schema": _schema,
    "language_modeling": _language_modeling,
}


def _text(value: dict[str, Any], key: str, where: str) -> str:
    if not _is_text(value.get(key)):
        _refuse(where, seen=f"{key} = {value.get(key)!r}"[:100], wanted="a text of whole characters")
    return value[key]


def _texts(value: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    texts = value.get(key)
    if not isinstance(texts, list) or len(texts) < 2 or not all(_is_text(text) for text in texts):  # noqa: PLR2004 -- a choice
        _refuse(where, seen=f"{key} = {texts!r}"[:100], wanted="a list of two texts or more")
    return tuple(texts)


def _is_text(value: Any) -> bool:
    """Half a surrogate pair, which JSON can spell, is no character: no tokenizer takes it."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value))


def _gold(value: dict[str, Any], options: tuple[str, ...], where: str) -> int:
    gold = value.get("gold")
    if type(gold) is not int or not 0 <= gold < len(options):
        _refuse(where, seen=f"gold = {gold!r}", wanted=f"a whole number from 0 to {len(options) - 1}")
    return gold


def _refuse(where: str, *, seen: object, wanted: str) -> NoReturn:
    raise DataError(f"{where}: not usable", seen=seen, wanted=wanted, fix="python -m dataprep.fetch --source core-eval")
