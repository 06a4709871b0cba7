"""Validation: how well the weights foretell the held-out rows, per source, in nats per target and bits per byte.

In:  a model, `HeldOutRows`, the ranks. Out: `Score`s, the same on every rank.
Holds: one micro-batch is in memory at a time; weights, gradients, mode and random numbers stay as they were; scores
       are sums over rows in the list's order, so the number of ranks and the micro-batch change them by rounding only.
Rule: the loss is over the targets that count, as in training. Bits per byte are over those of them that are text:
      their losses in bits / their UTF-8 bytes, so that tokenizers can be compared; specials are in neither.
Losses 1.2 and 0.8 for "the" and " mill" and 3.0 for the end token: 1.667 nats; 2.0 / ln 2 / 8 = 0.361 bits per byte.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from dataprep.ledger import Record
from dataprep.standing import standing_evals
from train.checkpoint import Cursor
from train.gradients import precision
from train.head import UNCOUNTED
from train.heldout import HeldOutRows
from train.model import GPT
from train.ranks import Ranks

LOSS_SUITE, BITS_SUITE = "heldout", "heldout-bpb"


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A mean over what all rows hold together, and its standard error over rows; None for a single row."""

    value: float
    stderr: float | None


@dataclass(frozen=True, kw_only=True)
class Score:
    """One source's: nats per target that counts, and bits per byte of text."""

    source: str
    n_rows: int
    rows_sha256: str
    loss: Ratio
    bits_per_byte: Ratio


def validate(model: GPT, held_out: HeldOutRows, ranks: Ranks, *, micro_batch: int) -> list[Score]:
    """Judge the model as it is. Every rank takes part, and takes a stretch of the list."""
    share = -(-held_out.n_rows // ranks.world_size)
    row_from = min(ranks.rank * share, held_out.n_rows)
    row_to = min(row_from + share, held_out.n_rows)
    own_R4 = ranks.agree(partial(_sums, model, held_out, row_from, row_to, micro_batch))
    sums_R4 = np.concatenate(ranks.gather(own_R4))
    scores = []
    for held in held_out.sources:
        loss, counted, text_loss, n_bytes = sums_R4[held.row_from : held.row_to].T
        score = Score(
            source=held.source,
            n_rows=held.row_to - held.row_from,
            rows_sha256=held.rows_sha256,
            loss=ratio(loss, counted),
            bits_per_byte=ratio(text_loss / math.log(2), n_bytes),
        )
        scores.append(score)
    return scores


@torch.inference_mode()
def _sums(model: GPT, held_out: HeldOutRows, row_from: int, row_to: int, micro_batch: int) -> np.ndarray:
    """For each row, float64[R, 4]: summed loss, targets that count; of those that are text: summed loss, bytes."""
    device = model.cos_TE.device
    parts = [np.empty((0, 4))]
    for first in range(row_from, row_to, micro_batch):
        last = min(first + micro_batch, row_to)
        rows = held_out.rows(first, last, n_rows=micro_batch)
        arrays = [torch.from_numpy(array_BT).to(device) for array_BT in rows.arrays]
        with precision(device):
            losses_BT = model.token_losses(*arrays).double().cpu().numpy()
        bytes_BT = held_out.byte_counts(rows)
        columns = (losses_BT, rows.targets_RT != UNCOUNTED, losses_BT * (bytes_BT > 0), bytes_BT)
        parts.append(np.stack([column.sum(axis=1) for column in columns], axis=1)[: last - first])
    return np.concatenate(parts)


def ratio(totals_R: np.ndarray, sizes_R: np.ndarray) -> Ratio:
    """Σ totals / Σ sizes. Rows differ in size: the standard error is the ratio estimator's (Cochran 1977, 2.11)."""
    n_rows, size = len(totals_R), float(sizes_R.sum())
    value = float(totals_R.sum()) / size
    squares = float(((totals_R - value * sizes_R) ** 2).sum())
    stderr = math.sqrt(squares * n_rows / (n_rows - 1)) / size if n_rows > 1 else None
    return Ratio(value=value, stderr=stderr)


def eval_records(cursor: Cursor, scores: Sequence[Score]) -> list[Record]:
    """The journal's records: two for each source. A value that is not finite has no place in JSON and is null."""
    where = {"step": cursor.step, "rows_done": cursor.rows_done, "tokens_done": cursor.tokens_done}
    return [
        {
            **where,
            "suite": suite,
            "task": score.source,
            "n": score.n_rows,
            "value": _finite(of.value),
            "stderr": _finite(of.stderr),
            "rows_sha256": score.rows_sha256,
        }
        for score in scores
        for suite, of in ((LOSS_SUITE, score.loss), (BITS_SUITE, score.bits_per_byte))
    ]


def is_judged(records: Sequence[Record], held_out: HeldOutRows, cursor: Cursor) -> bool:
    """Whether the journal holds every score of the weights that stand at `cursor`."""
    here = [record for record in standing_evals(records) if record["rows_done"] == cursor.rows_done]
    known = {(record["suite"], record["task"]) for record in here}
    return all((BITS_SUITE, held.source) in known for held in held_out.sources)


def shown(step: int, scores: Sequence[Score]) -> str:
    """A line for whoever watches."""
    parts = [f"{s.source} {s.loss.value:.3f} ({s.bits_per_byte.value:.2f} bits/byte)" for s in scores]
    return " | ".join([f"heldout step {step}", *parts])


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
