"""Checks of what recipes exclude as seen: read from the ledger again, for as long as it can tell.

In:  recipes, journals and the plans these name. Out: one finding; the seen tokens of one recipe.
Holds: runs outlive what they were trained on: what can no longer be told is counted apart, and is no fault.
"""

from collections.abc import Sequence

import numpy as np

from dataprep import intervals
from dataprep.checks import Finding, finding
from dataprep.errors import QuernError
from dataprep.packing import Pieces
from dataprep.paths import Paths
from dataprep.plan import open_plan
from dataprep.recipe import Recipe
from dataprep.seen import hash_seen, read_seen


def check_seen(paths: Paths, recipes: Sequence[Recipe]) -> Finding:
    """What recipes say they left out as seen is what the ledger says, and none of it is in their plans."""
    excluding = [recipe for recipe in recipes if recipe.exclude_seen]
    faults, n_untold = [], 0
    for recipe in excluding:
        seen = seen_of(paths, recipe)
        if seen is None:
            n_untold += 1
        else:
            faults += [f"{recipe.name}: {fault}" for fault in _faults(paths, recipe, seen)]
    untold = f", of {n_untold:,} the ledger cannot tell any more" if n_untold else ""
    return finding("no token is planned that its recipe excludes", f"{len(excluding):,} recipes{untold}", faults)


def seen_of(paths: Paths, recipe: Recipe) -> Pieces | None:
    """The tokens that a recipe excludes as seen; None where a journal, recipe or plan is gone."""
    try:
        return read_seen(paths, recipe.exclude_seen, fingerprint=recipe.fingerprint, shards=recipe.shards)
    except QuernError:
        return None


def _faults(paths: Paths, recipe: Recipe, seen: Pieces) -> list[str]:
    faults = []
    if hash_seen(seen, recipe.shards) != recipe.seen_sha256:
        faults.append(f"{', '.join(recipe.exclude_seen)} held other rows when it was packed")
    for source in recipe.sources:
        mine = [i for i, shard in enumerate(recipe.shards) if shard.source == source.source]
        found = int(seen.length[np.isin(seen.shard, mine)].sum())
        if found != source.seen_tokens or found > source.excluded_tokens:
            faults.append(f"{found:,} tokens of {source.source} were seen, {source.seen_tokens:,} are stated")
    try:
        planned = intervals.union(open_plan(paths, recipe).segments(0, recipe.plan_rows))
    except QuernError:
        return faults  # the plan's own check says so
    again = int(planned.length.sum() - intervals.subtract(planned, seen).length.sum())
    return [*faults, f"{again:,} tokens are planned that were seen"] if again else faults
