"""Checks of what recipes exclude as seen: read from the ledger again, for as long as it can tell.

In:  recipes, journals and the plans these name. Out: one finding; the seen tokens of one recipe.
Holds: runs outlive what they were trained on: what can no longer be told is counted apart, and is no fault.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from dataprep import intervals
from dataprep.checks import Finding, finding
from dataprep.errors import QuernError
from dataprep.packing import Pieces
from dataprep.paths import Paths
from dataprep.plan import open_plan
from dataprep.recipe import Recipe
from dataprep.seen import hash_seen, read_seen, saved_weights


def check_seen(paths: Paths, recipes: Sequence[Recipe]) -> Finding:
    """What recipes say they left out as seen is what the ledger says, and none of it is in their plans."""
    excluding = [recipe for recipe in recipes if recipe.exclude_seen]
    faults, n_untold, rewound = [], 0, []
    for recipe in excluding:
        seen, were_last = _seen_then(paths, recipe)
        if seen is None:
            n_untold += 1
            continue
        faults += [f"{recipe.name}: {fault}" for fault in _faults(paths, recipe, seen)]
        rewound += [] if were_last else [recipe.name]
    untold = f", of {n_untold:,} the ledger cannot tell any more" if n_untold else ""
    again = f"; what they exclude was trained again since, on other rows: {', '.join(rewound)}" if rewound else ""
    return finding("no token is planned that its recipe excludes", f"{len(excluding):,} recipes{untold}{again}", faults)


def seen_of(paths: Paths, recipe: Recipe) -> Pieces | None:
    """The tokens that a recipe excludes as seen; None where a journal, recipe or plan is gone."""
    return _seen_then(paths, recipe)[0]


def _seen_then(paths: Paths, recipe: Recipe) -> tuple[Pieces | None, bool]:
    """What the weights held that the recipe was packed with, and whether these are still the last of their step.

    A run that is rewound and goes on with another batch saves a step again, of other rows. The recipe holds what it
    says for as long as the journal knows the weights that it was packed with; the last ones are what its faults are of.
    """
    last: Pieces | None = None
    where = {"fingerprint": recipe.fingerprint, "shards": recipe.shards}
    try:
        for weights in itertools.product(*(saved_weights(paths, run_step) for run_step in recipe.exclude_seen)):
            seen = read_seen(paths, recipe.exclude_seen, **where, weights=weights)
            if hash_seen(seen, recipe.shards) == recipe.seen_sha256:
                return seen, last is None
            last = seen if last is None else last
    except QuernError:
        pass  # told apart, by None
    return last, True


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
