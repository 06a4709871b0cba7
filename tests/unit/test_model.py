"""The model, its loss and its optimizer, against plain reference computations."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it

from dataprep.shapes import PRESETS, count_parameters, padded_vocab_size
from train import head
from train.attention import rotary_tables, rotate
from train.head import summed_loss, token_losses
from train.model import GPT
from train.optim import make_optimizer

NANO = PRESETS["nano"].shape
VOCAB_SIZE, SEQ_LEN = 70, 16


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(NANO, vocab_size=VOCAB_SIZE, seq_len=SEQ_LEN).double()


def rows(n_rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.randint(VOCAB_SIZE, (n_rows, SEQ_LEN + 1), generator=torch.Generator().manual_seed(seed))
    return drawn[:, :-1].clone(), drawn[:, 1:].clone()


def gradients(model: GPT) -> torch.Tensor:
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_parameter_count_is_the_built_models(name: str, tied: bool) -> None:
    shape = replace(PRESETS[name].shape, tied=tied)
    with torch.device("meta"):
        built = GPT(shape, vocab_size=50_268, seq_len=64)
    assert count_parameters(shape, 50_268) == sum(weight.numel() for weight in built.parameters())


def test_an_untied_head_is_a_matrix_of_its_own() -> None:
    torch.manual_seed(0)
    untied = GPT(replace(NANO, tied=False), vocab_size=VOCAB_SIZE, seq_len=SEQ_LEN).double()
    assert untied.head is not None
    assert untied.head.weight.std().item() == pytest.approx(0.02, rel=0.1)
    inputs, targets = rows(2)
    with torch.no_grad():
        untied.head.weight[7] = 0
    assert torch.equal(untied.next_logits(inputs)[:, 7], torch.zeros(2))
    untied(inputs, targets).backward()
    absent = next(token for token in range(VOCAB_SIZE) if token not in inputs and token not in targets)
    assert torch.count_nonzero(untied.embedding.weight.grad[absent]) == 0  # only what was read has a gradient there
    assert torch.count_nonzero(untied.head.weight.grad[absent]) > 0


def test_presets_are_as_large_as_their_names_say() -> None:
    for name, size in {"124m": 124e6, "350m": 350e6, "500m": 500e6, "1b": 1e9}.items():
        assert count_parameters(PRESETS[name].shape, 50_268) == pytest.approx(size, rel=0.01)
    assert padded_vocab_size(50_268) == 50_304


def test_a_position_never_sees_a_later_one(model: GPT) -> None:
    inputs, _ = rows(2)
    changed = inputs.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % VOCAB_SIZE
    before, after = model._hidden(inputs), model._hidden(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.allclose(before[:, 9:], after[:, 9:])


def test_attention_between_two_positions_depends_on_their_distance_alone() -> None:
    cos, sin = rotary_tables(32, 8)
    torch.manual_seed(0)
    query, key = torch.randn(8), torch.randn(8)
    at = lambda vector, t: rotate(vector[None], cos[t : t + 1], sin[t : t + 1])[0]  # noqa: E731 -- reads as a formula
    assert at(query, 9) @ at(key, 4) == pytest.approx(float(at(query, 25) @ at(key, 20)), abs=1e-5)
    assert at(query, 9) @ at(key, 4) != pytest.approx(float(at(query, 9) @ at(key, 5)), abs=1e-3)


def test_the_chunked_loss_and_its_gradients_are_cross_entropys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(head._CHUNK_LOGITS, "cpu", 4 * VOCAB_SIZE)  # 10 positions in chunks of 4, 4 and 2
    torch.manual_seed(0)
    hidden = torch.randn(10, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(VOCAB_SIZE, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(VOCAB_SIZE, (10,))
    targets[[0, 5, 9]] = -1
    plain = F.cross_entropy(hidden @ weight.t(), targets, ignore_index=-1, reduction="sum")
    wanted = torch.autograd.grad(3 * plain, (hidden, weight))
    ours = summed_loss(hidden, weight, targets)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(3 * ours, (hidden, weight)), wanted)


def test_without_gradients_each_targets_loss_is_cross_entropys_and_no_gradient_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(head._CHUNK_LOGITS, "cpu", 4 * VOCAB_SIZE)
    monkeypatch.delattr(head, "_HeadLoss")
    torch.manual_seed(0)
    hidden, weight = torch.randn(10, 8, requires_grad=True), torch.randn(VOCAB_SIZE, 8, requires_grad=True)
    targets = torch.randint(VOCAB_SIZE, (10,))
    targets[[0, 5, 9]] = -1
    plain = F.cross_entropy(hidden @ weight.t(), targets, ignore_index=-1, reduction="none").detach()
    ours = token_losses(hidden, weight, targets)
    assert not ours.requires_grad
    torch.testing.assert_close(ours, plain)


def test_in_bf16_too_the_loss_without_gradients_is_the_loss_with_them() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(10, 8), torch.randn(VOCAB_SIZE, 8, requires_grad=True)
    targets = torch.randint(VOCAB_SIZE, (10,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, trained = token_losses(hidden, weight, targets), summed_loss(hidden, weight, targets)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.sum(), trained)
    assert not torch.equal(ours, token_losses(hidden, weight, targets))


def test_a_batch_in_which_nothing_counts_is_exactly_zero(model: GPT) -> None:
    inputs, targets = rows(2)
    loss = model(inputs, torch.full_like(targets, -1))
    loss.backward()
    assert loss.item() == 0
    assert torch.count_nonzero(gradients(model)) == 0


def test_padding_changes_neither_loss_nor_gradients(model: GPT) -> None:
    inputs, targets = rows(3)
    targets[1, 10:] = -1
    model(inputs, targets).backward()
    wanted = gradients(model)
    model.zero_grad()
    inputs[1, 10:] = VOCAB_SIZE - 1
    model(inputs, targets).backward()
    torch.testing.assert_close(gradients(model), wanted)


def test_gradients_split_over_two_ranks_and_micro_batches_are_the_full_batchs(model: GPT) -> None:
    inputs, targets = rows(8)
    targets[5:, 3:] = -1  # the second rank has far fewer targets that count
    n_counted = int((targets != -1).sum())
    (model(inputs, targets) / n_counted).backward()
    full = gradients(model)
    of_ranks = []
    for rank in range(2):
        model.zero_grad()
        for first in (4 * rank, 4 * rank + 2):
            (model(inputs[first : first + 2], targets[first : first + 2]) * (2 / n_counted)).backward()
        of_ranks.append(gradients(model))
    torch.testing.assert_close(torch.stack(of_ranks).mean(0), full, rtol=0, atol=1e-9)


def test_decay_falls_on_matrices_only(model: GPT) -> None:
    decayed, kept = make_optimizer(model, "adamw").param_groups
    assert {weight.ndim for weight in decayed["params"]} == {2}
    assert {weight.ndim for weight in kept["params"]} == {1}
    assert (decayed["weight_decay"] > 0, kept["weight_decay"]) == (True, 0)
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))
