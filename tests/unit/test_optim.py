"""Optimizers and the rate: Muon against its formula, both through checkpoint files, schedules at exact points."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dataprep.errors import EnvironmentProblem
from dataprep.shapes import PRESETS
from train.checkpoint import Cursor, load_checkpoint
from train.model import GPT
from train.optim import Optimizer, learning_rate, make_optimizer, set_learning_rate
from train.saving import Saver

VOCAB_SIZE, SEQ_LEN, RATE = 70, 16, 3e-3


def begun(kind: str) -> tuple[GPT, Optimizer]:
    torch.manual_seed(0)
    model = GPT(PRESETS["nano"].shape, vocab_size=VOCAB_SIZE, seq_len=SEQ_LEN)
    optimizer = make_optimizer(model, kind)
    set_learning_rate(optimizer, RATE)
    return model, optimizer


def train(model: GPT, optimizer: Optimizer, n_steps: int, first: int = 0) -> list[float]:
    """The losses of some steps over four rows that repeat in turns."""
    losses = []
    for i in range(first, first + n_steps):
        rows = torch.randint(VOCAB_SIZE, (4, SEQ_LEN + 1), generator=torch.Generator().manual_seed(i % 2))
        loss = model(rows[:, :-1], rows[:, 1:]) / (4 * SEQ_LEN)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def orthogonalized(gradient: Tensor) -> Tensor:
    """Newton-Schulz as in Muon's formula, five rounds in float64."""
    x = gradient.double() / gradient.double().norm()
    for _ in range(5):
        a = x @ x.t()
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_muons_first_step_is_its_formula(shape: tuple[int, int]) -> None:
    model = torch.nn.ModuleDict({"blocks": torch.nn.Linear(shape[1], shape[0], bias=False)})
    optimizer = make_optimizer(model, "muon")
    set_learning_rate(optimizer, 0.01)
    weight = model["blocks"].weight
    before, gradient = weight.detach().clone(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight.grad = gradient
    optimizer.step()
    # Momentum of one step and its look ahead only scale the gradient: 0.05 g, then (1 - 0.95) g + 0.95 · 0.05 g.
    scaled = 0.2 * max(shape) ** 0.5 * orthogonalized(gradient)
    wanted = before.double() * (1 - 0.01 * 0.1) - 0.01 * scaled
    moved = (before - weight.detach()).double()
    assert float((weight.detach() - wanted).norm()) < 0.02 * float(moved.norm())  # torch computes it in bf16
    # Which is as large as a step of AdamW: every entry near 0.2 of the rate.
    assert float(scaled.square().mean().sqrt()) == pytest.approx(0.2, rel=0.3)


def test_muon_has_the_blocks_matrices_and_adamw_the_rest() -> None:
    model, optimizer = begun("muon")
    named = {weight: name for name, weight in model.named_parameters()}
    of_muon, *of_adamw = [[named[weight] for weight in group["params"]] for group in optimizer.param_groups]
    assert len(of_muon) == 7 * PRESETS["nano"].shape.n_layers
    assert all(name.startswith("blocks.") and "norm" not in name for name in of_muon)
    assert of_adamw[0] == ["embedding.weight"]
    assert all("norm" in name for name in of_adamw[1])
    assert len(of_muon) + len(of_adamw[0]) + len(of_adamw[1]) == len(named)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1, 0.0]
    assert {group["lr"] for group in optimizer.param_groups} == {RATE}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_losses_fall(kind: str) -> None:
    losses = train(*begun(kind), 20)
    assert sum(losses[-4:]) < sum(losses[:4]) - 1


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_going_on_from_a_checkpoint_is_going_on(kind: str, tmp_path: Path) -> None:
    model, optimizer = begun(kind)
    train(model, optimizer, 4)
    saver = Saver(tmp_path, {}, keep=1, keep_every=None)
    saver.begin(Cursor(step=4), model, optimizer)
    wanted = train(model, optimizer, 4, first=4)  # while it is written
    saved = saver.published(wait=True)
    saver.close()
    assert saved
    again, fresh = begun(kind)
    load_checkpoint(saved.checkpoint, again, fresh)
    assert train(again, fresh, 4, first=4) == wanted
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_a_torch_without_muon_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(EnvironmentProblem, match="no Muon"):
        begun("muon")


def rate(done: int, *, schedule: str, plan_tokens: int = 1_000, warmup_share: Fraction = Fraction(1, 20)) -> float:
    return learning_rate(done, plan_tokens=plan_tokens, peak=2.0, schedule=schedule, warmup_share=warmup_share)


def test_cosine_rises_to_its_peak_and_falls_to_a_tenth() -> None:
    rates = [rate(done, schedule="cosine") for done in range(1_001)]
    assert rates[25] == pytest.approx(1.0)
    assert rates[50] == max(rates) == 2.0
    assert rates[525] == pytest.approx(1.1)
    assert rates[1_000] == pytest.approx(0.2)
    assert sorted(rates[:51]) == rates[:51]
    assert sorted(rates[50:], reverse=True) == rates[50:]


def test_wsd_stays_at_its_peak_and_falls_over_the_last_fifth() -> None:
    rates = [rate(done, schedule="wsd") for done in range(1_001)]
    assert rates[25] == pytest.approx(1.0)
    assert set(rates[50:801]) == {2.0}
    assert rates[850] == pytest.approx(0.2 + 1.8 * 0.5)  # a quarter of the way down: 1 - sqrt(1/4)
    assert rates[1_000] == pytest.approx(0.2)
    assert all(earlier > later for earlier, later in pairwise(rates[800:]))


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_the_rate_knows_tokens_and_no_steps(schedule: str) -> None:
    assert len({rate(done, schedule=schedule, plan_tokens=2 * done) for done in (512, 10**6, 10**12)}) == 1
    # Another batch takes the same curve at other points: nothing jumps between neighbours.
    fine = [rate(done, schedule=schedule, plan_tokens=10**6) for done in range(0, 10**6 + 1, 1_000)]
    coarse = [rate(done, schedule=schedule, plan_tokens=10**6) for done in range(0, 10**6 + 1, 8_000)]
    assert fine[::8] == coarse
    jumps = [abs(later - earlier) for earlier, later in pairwise(fine)]
    assert max(jumps) < 0.13  # the root falls steepest at first: 1.8 · sqrt(1/200)
    assert rate(10**7, schedule=schedule, plan_tokens=10**6) == fine[-1]


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_without_warm_up_the_first_rate_is_the_peak(schedule: str) -> None:
    assert rate(0, schedule=schedule, warmup_share=Fraction(0)) == 2.0
    assert rate(50, schedule=schedule, warmup_share=Fraction(1, 10)) == pytest.approx(1.0)
