"""Row supply: how many rows a replayed recipe has in one pass, and what tokens are in them.

In:  a packed recipe and its plan, or supplies that are only counted. Out: `RowSupply`.
Holds: rows are counted on beyond the end: row r of pass p is p × plan_rows + r, and holds what row r holds.
web of 1,000 tokens in rows of 64: 15 rows a pass; rows 10 to 20 are 640 tokens, five of the rows seen before
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate

from dataprep.ledger import AncestorRows
from dataprep.paths import Paths
from dataprep.recipe import load_recipe, recipe_names
from dataprep.seen_again import seen_again
from train.runs.history import Entry, Supply, refusal


@dataclass(frozen=True, kw_only=True)
class RowSupply:
    """The rows of one recipe. `row_tokens` where every row is full; else `tokens_before[r]` are in rows 0 to r."""

    recipe: str
    sha256: str
    seq_len: int
    plan_rows: int
    row_tokens: int | None
    tokens_before: tuple[int, ...] = ()
    all_count: bool = True  # every token counts in the loss

    def tokens(self, row_from: int, row_to: int) -> int:
        """Tokens of rows [row_from, row_to), over any number of passes."""
        return self._until(row_to) - self._until(row_from)

    def _until(self, row: int) -> int:
        if self.row_tokens is not None:
            return row * self.row_tokens
        passes, rest = divmod(row, self.plan_rows)
        return passes * self.tokens_before[-1] + self.tokens_before[rest]


class RowSupplies:
    """Every recipe of a history, opened once."""

    def __init__(self, paths: Paths, supplies: Sequence[Supply]) -> None:
        self._paths = paths
        self._counted: dict[str, list[Supply]] = {}
        for supply in supplies:
            self._counted.setdefault(supply.recipe or supply.name, []).append(supply)
        self._opened: dict[str, RowSupply] = {}

    def of(self, where: str, entry: Entry) -> RowSupply:
        """The rows an entry trained on. Raises UsageError."""
        recipe = entry.recipe or (next(iter(self._counted)) if len(self._counted) == 1 else None)
        known = [*self._counted, *recipe_names(self._paths)]
        if recipe not in known or known.count(recipe) > 1:
            problem = "two recipes have that name" if recipe in known else "its recipe is not known"
            raise refusal(where, problem, seen=recipe or "no recipe", wanted=", ".join(known) or "a [[supply]]")
        if recipe not in self._opened:
            self._opened[recipe] = self._open(where, recipe, entry.seq_len)
        rows = self._opened[recipe]
        if entry.seq_len != rows.seq_len:
            raise refusal(
                where,
                f"rows of {recipe} have one length, or none could be told from another",
                seen=f"seq-len {entry.seq_len}",
                wanted=str(rows.seq_len),
            )
        return rows

    def reseen_tokens(self, lineage: Sequence[AncestorRows]) -> int | None:
        """Tokens that a lineage holds more than once; None where an ancestor's recipe is not one of these."""
        total = 0
        for again in seen_again(lineage):
            rows = self._opened.get(again.recipe)
            if rows is None or rows.sha256 != again.recipe_sha256:
                return None
            total += rows.tokens(again.row_from, again.row_to) * again.times
        return total

    def _open(self, where: str, recipe: str, seq_len: int) -> RowSupply:
        if recipe not in self._counted:
            return _packed(self._paths, recipe)
        rows = _counted(recipe, self._counted[recipe], seq_len)
        if not rows.plan_rows:
            raise refusal(where, f"{recipe} has not one row", seen=f"seq-len {seq_len}", wanted="a larger supply")
        return rows


def _counted(recipe: str, supplies: list[Supply], seq_len: int) -> RowSupply:
    """As pack would cut and mix them: a pass ends where the first supply is used up at its share."""
    total = sum(supply.share for supply in supplies)
    facts = {"seq_len": seq_len, "supplies": [asdict(supply) for supply in supplies]}
    return RowSupply(
        recipe=recipe,
        sha256=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
        seq_len=seq_len,
        plan_rows=min(supply.n_tokens // seq_len * total // supply.share for supply in supplies),
        row_tokens=seq_len,
    )


def _packed(paths: Paths, name: str) -> RowSupply:
    """The tokens of every row, counted from the plan."""
    import numpy as np

    from dataprep.plan import open_plan

    recipe = load_recipe(paths, name)
    segments = open_plan(paths, recipe).segments(0, recipe.plan_rows)
    lengths = np.bincount(segments.row, weights=segments.length, minlength=recipe.plan_rows).astype(np.int64)
    return RowSupply(
        recipe=name,
        sha256=recipe.sha256,
        seq_len=recipe.seq_len,
        plan_rows=recipe.plan_rows,
        row_tokens=None,
        tokens_before=tuple(accumulate(lengths.tolist(), initial=0)),
        all_count=recipe.loss == "all",
    )
