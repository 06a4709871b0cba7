"""One step's gradients, by real processes, against one naive pass over everything: equal to 1e-6 in float64."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from ranked import PAD, SEQ_LEN, Step, make_model, trained_by


def step(*, n_rows: int, capacity: int, micro_batch: int, documents: bool, compiled: bool = False) -> Step:
    """`n_rows` real rows, a third of their targets uncounted, then rows of padding up to `capacity`."""
    rng = np.random.default_rng(n_rows)
    drawn = rng.integers(0, PAD, (capacity, SEQ_LEN + 1))
    inputs, targets = drawn[:, :-1].copy(), drawn[:, 1:].copy()
    targets[rng.random(targets.shape) < 1 / 3] = -1
    targets[2:4] = -1  # at micro-batch 2 the second one has nothing that counts
    inputs[n_rows:], targets[n_rows:] = PAD, -1
    numbers = np.cumsum(rng.random(inputs.shape) < 1 / 5, axis=1)
    numbers[n_rows:] = 0
    arrays = (inputs, targets, numbers) if documents else (inputs, targets)
    return Step(arrays=arrays, micro_batch=micro_batch, compiled=compiled)


def naive(of: Step) -> tuple[float, list[torch.Tensor]]:
    """All logits, one document after the other by itself, one process: nothing of the trainer but its blocks."""
    model = make_model()
    total = torch.zeros((), dtype=torch.float64)
    inputs, targets, *numbers = (torch.from_numpy(array) for array in of.arrays)
    documents = numbers[0] if numbers else torch.zeros_like(inputs)
    for row in range(len(inputs)):
        for number in documents[row].unique():
            mine = documents[row] == number
            logits = model._hidden(inputs[row, mine][None])[0] @ model.embedding.weight.t()
            total = total + F.cross_entropy(logits, targets[row, mine], ignore_index=-1, reduction="sum")
    mean = total / of.loss_tokens
    mean.backward()
    return mean.item(), [weight.grad for weight in model.parameters() if weight.grad is not None]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_gradients_are_those_of_one_naive_pass_however_the_step_is_split(world_size: int, tmp_path: Path) -> None:
    steps = [
        step(n_rows=12, capacity=12, micro_batch=2, documents=False),
        step(n_rows=22, capacity=24, micro_batch=4, documents=True),
        step(n_rows=3, capacity=12, micro_batch=1, documents=True),  # uneven: there are ranks with nothing at all
    ]
    if world_size == 2:
        steps.append(step(n_rows=12, capacity=12, micro_batch=2, documents=True, compiled=True))
    for asked, (loss, gradients) in zip(steps, trained_by(world_size, steps, tmp_path), strict=True):
        wanted_loss, wanted = naive(asked)
        assert loss == pytest.approx(wanted_loss, rel=1e-6)  # summed in fp32
        assert len(gradients) == len(wanted)
        for found, gradient in zip(gradients, wanted, strict=True):
            assert float((found - gradient).norm()) < 1e-6 * float(gradient.norm())


def test_three_ranks_sum_their_first_step_as_every_later_one(tmp_path: Path) -> None:
    first = step(n_rows=12, capacity=12, micro_batch=2, documents=True)
    (_, at_first), (_, later) = trained_by(3, [first, replace(first, times=3)], tmp_path)
    for gradient, again in zip(at_first, later, strict=True):
        assert torch.equal(gradient, again)  # to the bit: a resumed run's first step is a later one of the undisturbed


def test_a_step_in_which_nothing_counts_has_no_gradient(tmp_path: Path) -> None:
    nothing = step(n_rows=0, capacity=4, micro_batch=2, documents=True)
    [(loss, gradients)] = trained_by(1, [nothing], tmp_path)
    assert loss == 0
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients)
