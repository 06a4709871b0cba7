"""The cache: keys and values of what rows have read, so that a new token runs by itself.

In:  a model's shape, how many rows, how many positions at most. Out: a `View` per layer for `n_new` more positions.
Holds: a row's position p lies in slot p, whatever the other rows hold; a position sees its row's slots up to its own,
       so what padding left behind a row's length is never seen and is written over.
Costs 2 · layers · K · E numbers per row and position: gpt2-sized, 1,024 positions in float32: 25 MB a row.
    lengths 3, 1    one more token each goes to slots 3 and 1, and sees slots 0..3 and 0..1
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dataprep.shapes import ModelShape
from train.attention import View


class Cache:
    """What `lengths[row]` positions of each row left behind, layer by layer."""

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]], lengths: Sequence[int]) -> None:
        self._layers = layers  # keys_BKCE and values_BKCE
        self.lengths = list(lengths)

    @classmethod
    def empty(cls, shape: ModelShape, *, n_rows: int, n_positions: int, like: Tensor) -> "Cache":
        """Room for `n_positions` of each row, on the device and in the dtype of `like`."""
        size = (n_rows, shape.n_kv_heads, n_positions, shape.head_dim)
        layers = [(like.new_zeros(size), like.new_zeros(size)) for _ in range(shape.n_layers)]
        return cls(layers, [0] * n_rows)

    def row(self, row: int) -> "Cache":
        """One row, forgotten, in the same memory: what is read into it is here too, but for its length."""
        return Cache([(keys[row : row + 1], values[row : row + 1]) for keys, values in self._layers], [0])

    def only(self, rows: Sequence[int]) -> "Cache":
        """A copy of some rows, in this order."""
        kept = torch.tensor(list(rows), dtype=torch.int64, device=self._layers[0][0].device)
        return Cache([(keys[kept], values[kept]) for keys, values in self._layers], [self.lengths[row] for row in rows])

    def views(self, cos_TE: Tensor, sin_TE: Tensor, n_new: int) -> list[View]:
        """What `n_new` more positions of each row see, layer by layer. They count as read from here on."""
        first_B1 = torch.tensor(self.lengths, device=cos_TE.device)[:, None]
        positions_BT = first_B1 + torch.arange(n_new, device=cos_TE.device)
        n_slots = max(self.lengths) + n_new
        seen_B1TC = None  # rows that begin: plain causal attention
        if n_slots > n_new:
            seen_B1TC = (torch.arange(n_slots, device=cos_TE.device) <= positions_BT[:, :, None])[:, None]
        cos, sin = cos_TE[positions_BT][:, None], sin_TE[positions_BT][:, None]
        self.lengths = [length + n_new for length in self.lengths]
        return [
            View(cos=cos, sin=sin, mask_B1TT=seen_B1TC, remember=_remember(keys, values, positions_BT, n_slots))
            for keys, values in self._layers
        ]


def _remember(
    keys_BKCE: Tensor, values_BKCE: Tensor, positions_BT: Tensor, n_slots: int
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Puts new keys and values of one layer into their slots; gives back all that are in use."""
    rows_B1 = torch.arange(len(positions_BT), device=positions_BT.device)[:, None]

    def remember(k_BKTE: Tensor, v_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        keys_BKCE[rows_B1, :, positions_BT] = k_BKTE.transpose(1, 2)
        values_BKCE[rows_B1, :, positions_BT] = v_BKTE.transpose(1, 2)
        return keys_BKCE[:, :, :n_slots], values_BKCE[:, :, :n_slots]

    return remember
