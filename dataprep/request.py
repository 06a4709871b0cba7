"""Request: what `dataprep.pack` was asked for, as one frozen value.

In:  the command line. Out: `Request`, which the planner turns into rows and the recipe keeps.
Holds: one budget at most; every field but the epochs decides which token is in which row.
`--mix 30:70 --sources a,b+c`: a has 30 parts; b and c have 70 together, in proportion to their supply.
"""

from dataclasses import dataclass

UNITS = ("tokens", "loss-tokens", "documents")
LOSSES = ("all", "assistant")
ATTENTIONS = ("full", "document")
ON_SHORT = ("error", "repeat", "shrink")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for. No budget means all that the ratio allows."""

    mix: tuple[int, ...]
    shares: tuple[tuple[str, ...], ...]  # the sources of each part of the mix
    unit: str
    budget_tokens: int | None  # of rows: rows × seq_len
    budget_loss_tokens: int | None
    budget_source_tokens: int | None  # without padding
    seq_len: int
    split: str
    strategy: str
    shuffle: str
    long: str
    loss: str
    attention: str
    on_short: str
    max_passes: int
    epochs: int
    seed: int
    exclude_seen: tuple[str, ...] = ()  # RUN@STEP: what these weights hold is not in the plan

    @property
    def source_names(self) -> tuple[str, ...]:
        """Every source, in the order asked."""
        return tuple(source for share in self.shares for source in share)

    def share_of(self, source: str) -> int:
        """The part of the mix a source belongs to."""
        return next(i for i, share in enumerate(self.shares) if source in share)
