"""Scoring: what a model answers to questions, and whether that is right.

In:  a model, questions, how many rows to compute at once. Out: for each question whether it was answered rightly.
Rules: a choice's score is the mean loss over its span, the least wins, the first of equals; a continuation is right
       where every token of it is the likeliest, the lowest id of equals.
Holds: what is computed at once changes sums by rounding only, and rounding decides nothing: a question whose best two
       choices (or whose likeliest tokens) lie nearer than rounding reaches is asked again, each sequence in a row by
       itself and in fp32, which depends on nothing but the question. Rounding the losses would not do: two batch
       sizes would then disagree at the rounding's own edges.
Cost: logits exist for judged positions only, a chunk at a time; masks are B·T² bytes.
Suffixes: B rows, T positions, D width, V vocabulary, S judged tokens, C of them in a chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor

from train.attention import View, causal_view
from train.core.questions import Question
from train.core.rows import Batch, Row, batches, make_rows, single_rows, stack
from train.gradients import precision

# Nats, or logits. In fp32 on a CPU batches were seen to differ by 2e-7; bf16 on a GPU: by 1e-2, a guess.
_NEAR = {"cpu": 1e-3, "cuda": 1e-1}
_CHUNK_LOGITS = 1 << 24  # 64 MiB


class Foreteller(Protocol):
    """What is asked of a model."""

    cos_TE: Tensor
    sin_TE: Tensor

    @property
    def head_weight(self) -> Tensor:
        """The output head's weight_VD."""
        ...

    def hidden(self, inputs_BT: Tensor, view: View) -> Tensor:
        """The last layer's hidden_BTD, from which the head foretells."""
        ...


@dataclass(frozen=True, kw_only=True)
class SequenceScores:
    """By sequence: `losses` are means over spans, infinite where one is empty; `is_likeliest` says it of every token.

    `margins`: by how much a target's logit was above the best other one, or below it, where that is closest to turning.
    """

    losses: np.ndarray
    is_likeliest: np.ndarray
    margins: np.ndarray


@torch.inference_mode()
def answer(model: Foreteller, questions: Sequence[Question], *, batch_size: int) -> list[bool]:
    """Whether each question is answered rightly."""
    device = model.cos_TE.device
    n_sequences = [len(question.sequences) for question in questions]
    with torch.compiler.set_stance("force_eager"):  # every shape is another one
        with precision(device):
            scores = _scores(model, make_rows(questions, len(model.cos_TE)), sum(n_sequences), batch_size)
        right = []
        for question, end in zip(questions, np.cumsum(n_sequences), strict=True):
            own = slice(end - len(question.sequences), end)
            is_right, gap = _judged(question, scores, own)
            if gap < _NEAR[device.type]:
                alone = _scores(model, single_rows(question), len(question.sequences), 1)
                is_right, _ = _judged(question, alone, slice(None))
            right.append(is_right)
    return right


def _judged(question: Question, scores: SequenceScores, own: slice) -> tuple[bool, float]:
    """Whether it is right, and how much the scores would have to change for another answer."""
    if question.gold is None:
        return bool(scores.is_likeliest[own][0]), float(abs(scores.margins[own][0]))
    losses = scores.losses[own]
    finite = np.sort(losses[np.isfinite(losses)])
    return int(losses.argmin()) == question.gold, float(finite[1] - finite[0]) if len(finite) > 1 else np.inf


def _scores(model: Foreteller, rows: Sequence[Row], n_sequences: int, batch_size: int) -> SequenceScores:
    totals, counts = np.zeros(n_sequences), np.zeros(n_sequences)
    is_likeliest, margins = np.ones(n_sequences, dtype=bool), np.full(n_sequences, np.inf)
    judged = [row for row in rows if len(row.targets_S)]  # choices that nothing parts have no token to judge
    for group in batches(judged, batch_size):
        batch = stack(group)
        losses_S, margins_S, likeliest_S = _foretold(model, batch)
        np.add.at(totals, batch.owners_S, losses_S)
        np.add.at(counts, batch.owners_S, 1)
        np.logical_and.at(is_likeliest, batch.owners_S, likeliest_S)
        np.minimum.at(margins, batch.owners_S, margins_S)
    losses = np.where(counts > 0, totals / np.maximum(counts, 1), np.inf)
    return SequenceScores(losses=losses, is_likeliest=is_likeliest, margins=margins)


def _foretold(model: Foreteller, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each judged token: its loss (float64), how far its logit is above the best other one, whether it is first."""
    device = model.cos_TE.device
    hidden_BTD = model.hidden(torch.from_numpy(batch.tokens_BT).to(device), _view(model, batch))
    hidden_SD = hidden_BTD[torch.from_numpy(batch.rows_S).to(device), torch.from_numpy(batch.places_S).to(device)]
    targets_S = torch.from_numpy(batch.targets_S).to(device)
    parts = []
    with torch.autocast(device.type, enabled=False):
        weight_VD = model.head_weight.float()
        n_chunk = max(1, _CHUNK_LOGITS // len(weight_VD))
        for first in range(0, len(targets_S), n_chunk):
            chunk = slice(first, first + n_chunk)
            parts.append(_of_chunk(F.linear(hidden_SD[chunk].float(), weight_VD), targets_S[chunk]))
    losses_S, margins_S, likeliest_S = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return losses_S.astype(np.float64), margins_S, likeliest_S


def _of_chunk(logits_CV: Tensor, targets_C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    losses_C = F.cross_entropy(logits_CV, targets_C, reduction="none")
    own_C = logits_CV.gather(1, targets_C[:, None])[:, 0]
    likeliest_C = logits_CV.argmax(dim=1) == targets_C  # the first of equals, as torch documents it
    best_C2 = logits_CV.topk(2, dim=1).values
    return losses_C, own_C - torch.where(likeliest_C, best_C2[:, 1], best_C2[:, 0]), likeliest_C


def _view(model: Foreteller, batch: Batch) -> View:
    """A token sees what is shared and its own branch, up to itself."""
    device = model.cos_TE.device
    if batch.is_plain:
        return causal_view(model.cos_TE, model.sin_TE, batch.tokens_BT.shape[1])
    positions_BT = torch.from_numpy(batch.positions_BT).to(device)
    branches_BT = torch.from_numpy(batch.branches_BT).to(device)
    seen_BTT = (branches_BT[:, None, :] == 0) | (branches_BT[:, None, :] == branches_BT[:, :, None])
    cos, sin = model.cos_TE[positions_BT][:, None], model.sin_TE[positions_BT][:, None]
    return View(cos=cos, sin=sin, mask_B1TT=seen_BTT[:, None].tril())
