"""Drawing: which row of which source is the next row of the plan.

In:  every share's rows, the ratio and its unit, a budget. Out: draws, in plan order.
Holds: shares are exact at every prefix in the unit asked; a source is repeated only when that was
asked, in whole passes, each in a new order; a budget that cannot be met is refused with the nearest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dataprep import mixing, packing
from dataprep.errors import BudgetError
from dataprep.request import Request
from dataprep.rows import SourceRows


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Rows in the order they are used: source number, and the source's own row number."""

    source: np.ndarray  # uint16[n]
    row: np.ndarray  # int64[n]

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, chosen: np.ndarray | slice) -> "Draws":
        return Draws(source=self.source[chosen], row=self.row[chosen])


def draw(sources: Sequence[SourceRows], request: Request) -> Draws:
    """Every row of the plan, epoch after epoch. Raises BudgetError where supply does not allow it."""
    members = [[i for i, s in enumerate(sources) if s.supply.source in share] for share in request.shares]
    held = [sum(sources[i].n_rows for i in share) for share in members]
    passes = request.max_passes if request.on_short == "repeat" else 1
    shares = [_share_draws(sources, share, passes, request) for share in members]
    order = _order(sources, shares, request)
    order = order[: _n_rows(sources, shares, held, order, request)]
    return _epochs(shares, order, request)


def _share_draws(sources: Sequence[SourceRows], members: Sequence[int], passes: int, request: Request) -> Draws:
    """All rows of one share, `passes` times; its sources in proportion to their rows at every prefix."""
    n_rows = [sources[i].n_rows for i in members]
    one = np.zeros(n_rows[0] * passes, dtype=np.uint16)
    which = mixing.source_order(n_rows, sum(n_rows) * passes) if len(members) > 1 else one
    draws = Draws(source=np.array(members, dtype=np.uint16)[which], row=np.zeros(len(which), dtype=np.int64))
    for i, member in enumerate(members):
        rows = sources[member]
        draws.row[which == i] = packing.repeat_order(
            rows.n_rows,
            rows.n_rows * passes,
            last_is_short=rows.last_is_short,
            seed=request.seed,
            purpose=f"rows of {rows.supply.source}",
        )
    return draws


def _order(sources: Sequence[SourceRows], shares: Sequence[Draws], request: Request) -> np.ndarray:
    """The share of each row, as far as the rows reach: uint16[n]."""
    if request.unit == "tokens":  # a row is `seq_len` tokens, whichever source it is of
        return mixing.source_order(request.mix, mixing.feasible_rows(request.mix, [len(share) for share in shares]))
    units = [_facts(sources, share, request.unit) for share in shares]
    return mixing.order_by_units(request.mix, units, sum(len(share) for share in shares))


def _facts(sources: Sequence[SourceRows], draws: Draws, unit: str) -> np.ndarray:
    """What each drawn row gives in `unit`: int64[n]."""
    facts = np.zeros(len(draws), dtype=np.int64)
    for i in np.unique(draws.source):
        mine = draws.source == i
        facts[mine] = sources[i].units(unit)[draws.row[mine]]
    return facts


def _n_rows(
    sources: Sequence[SourceRows], shares: Sequence[Draws], held: Sequence[int], order: np.ndarray, request: Request
) -> int:
    """How many rows the plan has. Raises BudgetError."""
    if request.budget_tokens is not None:
        return _within(request.budget_tokens // request.seq_len, len(order), sources, held, request)
    for unit, budget in (("loss-tokens", request.budget_loss_tokens), ("source-tokens", request.budget_source_tokens)):
        if budget is not None:
            reached = np.cumsum(_facts(sources, merge_shares(shares, order), unit))
            return _within_units(reached, unit, budget, shrink=request.on_short == "shrink")
    if request.on_short != "repeat":
        return _within(len(order), len(order), sources, held, request)
    # Everything once, and the shorter shares as often as that takes.
    turns = [np.flatnonzero(order == i) for i in range(len(held))]
    ends = [places[:n][-1:] for places, n in zip(turns, held, strict=True)]
    return max((int(end[0]) + 1 for end in ends if len(end)), default=len(order))


def _within(wanted: int, feasible: int, sources: Sequence[SourceRows], held: Sequence[int], request: Request) -> int:
    if wanted == 0:
        raise BudgetError(
            "the budget is smaller than one row",
            seen=f"{request.budget_tokens or 0:,} tokens, {sum(held):,} rows held",
            wanted=f"at least {request.seq_len:,} tokens, one row",
            fix=f"--tokens {request.seq_len * min(sum(mixing.reduce_weights(request.mix)), feasible)}",
        )
    if wanted <= feasible or request.on_short == "shrink":
        return min(wanted, feasible)
    raise _too_short(wanted, feasible, sources, held, request)


def _within_units(reached: np.ndarray, unit: str, budget: int, *, shrink: bool) -> int:
    """The most rows whose `unit`s are within `budget`; `reached` counts them after every row there is."""
    most = int(reached[-1]) if len(reached) else 0
    n_rows = int(np.searchsorted(reached, budget, side="right"))
    if n_rows and (most >= budget or shrink):
        return n_rows
    raise BudgetError(
        f"there are not that many {unit.replace('-', ' ')} in this ratio" if most < budget else "less than one row",
        seen=f"{most:,} in {len(reached):,} rows",
        wanted=f"{budget:,}",
        fix=f"--{unit} {most}, --on-short shrink or repeat, or more shards: make shards with a larger N",
    )


def _too_short(
    wanted: int, feasible: int, sources: Sequence[SourceRows], held: Sequence[int], request: Request
) -> BudgetError:
    needs = mixing.rows_of(request.mix, wanted)
    worst = max(range(len(needs)), key=lambda i: needs[i] - held[i])
    share = [source.supply for source in sources if source.supply.source in request.shares[worst]]
    n_shards = sum(len(supply.receipts) for supply in share)
    limit = f" in {request.max_passes} passes" if request.on_short == "repeat" else ""
    more = f"--max-passes {request.max_passes * 2}" if request.on_short == "repeat" else "--on-short repeat"
    return BudgetError(
        f"{'+'.join(request.shares[worst])} cannot supply its share of this budget{limit}",
        seen=f"{held[worst]:,} rows of {request.seq_len:,} in {n_shards:,} shards",
        wanted=f"about {needs[worst]:,} of the plan's {wanted:,} rows",
        fix=f"--tokens {feasible * request.seq_len} is the most this ratio allows; or"
        f" {more}; or about {-(-n_shards * needs[worst] // held[worst]):,} shards like those held",
    )


def merge_shares(shares: Sequence[Draws], order: np.ndarray) -> Draws:
    """Each share's draws at its places in the plan."""
    merged = Draws(source=np.zeros(len(order), dtype=np.uint16), row=np.zeros(len(order), dtype=np.int64))
    for i, share in enumerate(shares):
        places = np.flatnonzero(order == i)
        merged.source[places], merged.row[places] = share.source[: len(places)], share.row[: len(places)]
    return merged


def _epochs(shares: Sequence[Draws], order: np.ndarray, request: Request) -> Draws:
    """The plan, `epochs` times: the same rows, each epoch in a new order where rows are equal."""
    used = [share[: int((order == i).sum())] for i, share in enumerate(shares)]
    parts = []
    for epoch in range(request.epochs):
        again = used
        if epoch and request.unit == "tokens":  # in other units a row has its place because of what it gives
            again = [
                share[packing.shuffled(len(share), request.seed, f"epoch {epoch} of share {i}")]
                for i, share in enumerate(used)
            ]
        parts.append(merge_shares(again, order))
    if len(parts) == 1:
        return parts[0]
    return Draws(source=np.concatenate([p.source for p in parts]), row=np.concatenate([p.row for p in parts]))
