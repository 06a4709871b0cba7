"""Batch arithmetic: tokens per step as a product of whole numbers, or settings that do divide.

In:  tokens per step, seq_len, micro-batch, world size. Out: `Batch`, every factor named.
Holds: world_size × micro_batch × accumulation × seq_len = tokens per step, exactly.
derive_batch(batch_tokens=2048, seq_len=64, world_size=2, micro_batch=4) -> accumulation 4
"""

import math
from dataclasses import dataclass
from typing import NoReturn

from dataprep.errors import UsageError
from dataprep.shapes import Preset


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How one step's rows fall on ranks and forward passes."""

    seq_len: int
    world_size: int
    micro_batch: int
    accumulation: int

    @property
    def rank_rows(self) -> int:
        """Rows of one rank in one full step."""
        return self.micro_batch * self.accumulation

    @property
    def rows(self) -> int:
        """Rows of one full step."""
        return self.world_size * self.rank_rows

    @property
    def product(self) -> str:
        """The arithmetic as a person checks it."""
        factors = f"{self.world_size} x micro-batch {self.micro_batch} x accumulation {self.accumulation}"
        return f"world {factors} x seq_len {self.seq_len:,} = {self.rows * self.seq_len:,} tokens"


def choose_batch(
    preset: Preset, *, seq_len: int, world_size: int, batch_tokens: int | None, micro_batch: int | None
) -> Batch:
    """The batch asked for; what was not asked for comes from the preset, cut to what divides.

    Rows per step never follow from the world size: another number of ranks trains the same steps.
    """
    if batch_tokens is None:
        batch_tokens = max(1, preset.batch_tokens // seq_len) * seq_len
    if micro_batch is None:
        rank_rows, left = divmod(batch_tokens, seq_len * world_size)
        most = 1 if left else max(1, preset.micro_batch_tokens // seq_len)
        micro_batch = max(divisor for divisor in divisors(max(1, rank_rows)) if divisor <= most)
    return derive_batch(batch_tokens=batch_tokens, seq_len=seq_len, world_size=world_size, micro_batch=micro_batch)


def derive_batch(*, batch_tokens: int, seq_len: int, world_size: int, micro_batch: int) -> Batch:
    """Derive the accumulation. Raises UsageError naming settings that divide."""
    rows, cut = divmod(batch_tokens, seq_len)
    accumulation, left = divmod(rows, micro_batch * world_size)
    if cut or left or not rows:
        _refuse(batch_tokens, seq_len, world_size, micro_batch)
    return Batch(seq_len=seq_len, world_size=world_size, micro_batch=micro_batch, accumulation=accumulation)


def divisors(number: int) -> list[int]:
    """Every divisor of `number`, ascending."""
    small = [candidate for candidate in range(1, math.isqrt(number) + 1) if number % candidate == 0]
    return sorted({*small, *(number // divisor for divisor in small)})


def _refuse(batch_tokens: int, seq_len: int, world_size: int, micro_batch: int) -> NoReturn:
    unit = seq_len * world_size * micro_batch
    below = batch_tokens // unit * unit
    nearest = [tokens for tokens in (below, below + unit) if tokens]
    fix = "--batch-tokens " + " or ".join(str(tokens) for tokens in nearest)
    rows, cut = divmod(batch_tokens, seq_len)
    if rows and not cut and rows % world_size == 0:
        possible = ", ".join(str(micro) for micro in divisors(rows // world_size))
        fix += f"; or keep it with --micro-batch one of {possible}"
    raise UsageError(
        "tokens per step do not divide into whole micro-batches",
        seen=f"{batch_tokens:,} tokens / (world {world_size} x micro-batch {micro_batch} x seq_len {seq_len:,})",
        wanted=f"a multiple of {unit:,}",
        fix=fix,
    )
