"""Seen again: the rows of a plan that a run's weights hold, and those they hold more than once.

In:  a lineage's rows. Out: stretches of rows and how often each was read again; ranges to count in their plan.
Holds: rows are of one recipe by its hash: another recipe over the same shards shows in the view `seen`, as passes.
rows 0–30 of web, then 0–20 of web again -> rows 0–20, 1 time again
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from dataprep.ledger import AncestorRows


@dataclass(frozen=True, kw_only=True)
class SeenAgain:
    """Rows [row_from, row_to) that were read `times` more than once. `row_tokens` as in AncestorRows."""

    recipe: str
    recipe_sha256: str
    row_from: int
    row_to: int
    times: int
    row_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class SeenRange:
    """Rows of an ancestor's plan in a run's weights: their tokens per shard are counted from the plan."""

    run: str
    ancestor: str
    recipe: str
    plan: Path
    row_from: int
    row_to: int


@dataclass(frozen=True, kw_only=True)
class AgainRange:
    """Rows of a plan that a run's weights hold more than once: their tokens are counted from the plan."""

    run: str
    recipe: str
    plan: Path
    row_from: int
    row_to: int
    times: int


def seen_again(rows: Sequence[AncestorRows]) -> list[SeenAgain]:
    """The stretches held more than once, by recipe, ascending."""
    by_recipe: dict[tuple[str, str, int | None], list[AncestorRows]] = defaultdict(list)
    for stretch in rows:
        by_recipe[stretch.recipe, stretch.recipe_sha256, stretch.row_tokens].append(stretch)
    return [
        SeenAgain(
            recipe=recipe, recipe_sha256=sha256, row_from=row_from, row_to=row_to, times=times, row_tokens=row_tokens
        )
        for (recipe, sha256, row_tokens), stretches in by_recipe.items()
        for row_from, row_to, times in _overlaps(stretches)
    ]


def _overlaps(stretches: Sequence[AncestorRows]) -> list[tuple[int, int, int]]:
    """(row_from, row_to, how many stretches beyond the first cover them): one sweep over the edges."""
    edges: Counter[int] = Counter()
    for stretch in stretches:
        edges[stretch.row_from] += 1
        edges[stretch.row_to] -= 1
    found, depth = [], 0
    for edge, following in pairwise(sorted(edges)):
        depth += edges[edge]
        if depth > 1:
            found.append((edge, following, depth - 1))
    return found
