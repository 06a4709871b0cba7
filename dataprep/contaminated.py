"""Contaminated: which items of a bundle occur in a recipe's plan, kept beside the recipes, and read by evaluation.

In:  what `python -m dataprep.contamination` found. Out: manifests/contamination/<recipe>-<bundle sha256[:12]>.json.
Holds: a record counts only for the recipe and the bundle whose sha256 it names: a recipe packed anew was not checked.
A run has the recipes of its whole ancestry in its weights; its items are the union over all of them. Of each the
whole plan counts, also rows that the run did not reach: the checked share is never too small.

    read_lineage(paths, "demo", None, bundle.sha256) → items {"arc_easy": {3, 17}}, unchecked ("mid",)
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from dataprep.judging import FoundItem
from dataprep.ledger import trace_lineage
from dataprep.paths import Paths
from dataprep.sealed import publish_json, read_json
from dataprep.seen import read_ancestry

RECORD_FORMAT = 1
Items = dict[str, frozenset[int]]  # task label → items, counted from 0 in file order


@dataclass(frozen=True, kw_only=True)
class TaskCount:
    """One task's items: all, and those too short to judge. `wording` n-grams occur but are the task's own."""

    task: str
    items: int
    not_judged: int
    wording: int


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """The answer for one recipe and one bundle: `tokens` of the plan were looked through for n-grams of `n`."""

    recipe: str
    recipe_sha256: str
    bundle: str
    bundle_sha256: str
    n: int
    tokens: int
    tasks: tuple[TaskCount, ...]
    found: tuple[FoundItem, ...]
    format: int = RECORD_FORMAT

    def items(self) -> Items:
        """The contaminated items by task; a task without any has an empty set."""
        by_task: dict[str, set[int]] = {task.task: set() for task in self.tasks}
        for item in self.found:
            by_task[item.task].add(item.item)
        return {task: frozenset(items) for task, items in by_task.items()}


@dataclass(frozen=True, kw_only=True)
class LineageContamination:
    """The union over a run's ancestry. `unchecked` names recipes whose plans nobody looked through yet.

    `gap` says where the ancestry cannot be followed: what came before is not in `items`.
    """

    items: Items
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]
    gap: str | None


def publish_contamination(paths: Paths, found: Contamination) -> None:
    """Keep the answer. The newest counts, whatever its n."""
    by_task = {task: sorted(items) for task, items in found.items().items()}
    publish_json(paths.contamination(found.recipe, found.bundle_sha256), asdict(found) | {"contaminated": by_task})


def read_contamination(paths: Paths, recipe: str, recipe_sha256: str, bundle_sha256: str) -> Items | None:
    """The contaminated items by task, or None where this very recipe was not checked against this very bundle."""
    record = read_json(paths.contamination(recipe, bundle_sha256)) or {}
    wanted = {"format": RECORD_FORMAT, "recipe_sha256": recipe_sha256, "bundle_sha256": bundle_sha256}
    by_task = record.get("contaminated")
    if any(record.get(key) != value for key, value in wanted.items()) or not isinstance(by_task, dict):
        return None
    return {task: frozenset(items) for task, items in by_task.items()}


def read_lineage(paths: Paths, run: str, step: int | None, bundle_sha256: str) -> LineageContamination:
    """What is known of the weights of `run` (now, or as saved at `step`)."""
    lineage = trace_lineage(read_ancestry(paths, run), run, step)
    recipes = dict.fromkeys((rows.recipe, rows.recipe_sha256) for rows in lineage.rows)
    found = {recipe: read_contamination(paths, *recipe, bundle_sha256) for recipe in recipes}
    return LineageContamination(
        items=_union([items for items in found.values() if items is not None]),
        checked=tuple(name for (name, _), items in found.items() if items is not None),
        unchecked=tuple(name for (name, _), items in found.items() if items is None),
        gap=lineage.gap,
    )


def _union(several: list[Mapping[str, frozenset[int]]]) -> Items:
    tasks = dict.fromkeys(task for items in several for task in items)
    return {task: frozenset().union(*(items.get(task, frozenset()) for items in several)) for task in tasks}
