"""Estimates against arithmetic done by hand, and what must hold whatever is asked."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataprep.allowance import compare, tokens_by_flops, tokens_by_hours, tokens_by_ratio
from dataprep.batch import Batch, derive_batch
from dataprep.errors import UsageError
from dataprep.estimate import Model, RunEstimate, count_model, estimate_run, expected_speed, flops_per_token
from dataprep.gpus import Gpu, find_gpu
from dataprep.shapes import PRESETS

GPT2 = 50_268
SMALL = Model(parameters=124_000_000)
STEP_512 = Batch(seq_len=64, world_size=2, micro_batch=2, accumulation=2)


def known(name: str) -> Gpu:
    gpu = find_gpu(name)
    assert gpu is not None
    return gpu


def run_of(targets: int, model: Model = SMALL, gpu: Gpu | None = None, batch: Batch = STEP_512) -> RunEstimate:
    return estimate_run(targets=targets, batch=batch, model=model, gpu=gpu, mfu=0.4)


def test_124m_parameters_at_20_tokens_each_are_1_3_hours_of_an_h100() -> None:
    targets = tokens_by_ratio(Fraction(20), parameters=124_000_000)
    assert targets == 2_480_000_000
    one_gpu = Batch(seq_len=1024, world_size=1, micro_batch=16, accumulation=32)
    run = run_of(targets, gpu=known("H100"), batch=one_gpu)
    assert run.flops == 1_845_120_000_000_000_000  # 6 · 124e6 · 2.48e9
    assert run.tokens_per_s == pytest.approx(531_720.43, abs=0.01)  # 989e12 · 0.4 / 744e6
    assert run.hours == pytest.approx(1.29559, abs=1e-5)
    assert run.usd == pytest.approx(1.29559 * known("H100").usd_per_hour, abs=1e-4)
    assert (run.steps, run.remainder_rows, run.unfilled_tokens) == (4730, 115, 0)


def test_the_500m_preset_is_counted_as_on_paper() -> None:
    model = count_model(PRESETS["500m"].shape, GPT2)
    attention = 1280 * (2 * 10 * 128 + 2 * 5 * 128) + 2 * 128
    layer = attention + 3 * 1280 * 3456 + 2 * 1280
    assert model.non_embedding_parameters == 24 * layer + 1280 == 436_538_624
    assert model.parameters == 436_538_624 + 50_304 * 1280 == 500_927_744
    flops = model.flops_per_token(2048)
    assert flops.by_6n == 3_005_566_464
    assert flops.with_attention == 3_005_566_464 + 12 * 24 * 10 * 128 * 2048 == 3_760_541_184
    assert flops_per_token(PRESETS["500m"].shape, GPT2, 2048) == flops


def test_an_input_table_of_its_own_has_parameters_but_multiplies_nothing() -> None:
    tied = PRESETS["124m"].shape
    one, two = (count_model(shape, GPT2) for shape in (tied, replace(tied, tied=False)))
    assert two.parameters - one.parameters == 50_304 * 768
    assert two.non_embedding_parameters == one.non_embedding_parameters == 86_135_040
    assert two.flops_per_token(1024).by_6n - one.flops_per_token(1024).by_6n == 6 * 50_304 * 768
    assert two.flops_per_token(1024).with_attention == one.flops_per_token(1024).with_attention


def test_a_size_alone_has_no_attention_to_count() -> None:
    assert run_of(512).flops_with_attention is None
    assert SMALL.non_embedding_parameters is None


def test_what_is_left_of_a_division_is_told_in_rows_and_in_tokens_that_fill_none() -> None:
    run = run_of(1_700)  # 3 · 512 = 1,536; 164 are left: 2 rows of 64 and 36 tokens
    assert (run.step_tokens, run.steps, run.remainder_rows, run.remainder_tokens, run.unfilled_tokens) == (
        *(512, 3, 2, 128, 36),
    )
    assert run.step_sentence == "3 of 512 tokens + 1 of 2 rows (128 tokens); 36 tokens fill no row"
    assert run_of(1_536).step_sentence == "3 of 512 tokens"


@given(
    targets=st.integers(1, 10**15),
    seq_len=st.integers(1, 10**4),
    world_size=st.integers(1, 64),
    micro_batch=st.integers(1, 64),
    accumulation=st.integers(1, 64),
)
def test_no_token_of_any_division_is_lost(targets: int, **factors: int) -> None:
    batch = Batch(**factors)
    run = run_of(targets, batch=batch)
    assert run.steps * run.step_tokens + run.remainder_tokens + run.unfilled_tokens == targets
    assert run.remainder_tokens == run.remainder_rows * batch.seq_len < run.step_tokens
    assert run.unfilled_tokens < batch.seq_len


def test_accumulation_is_a_factor_of_the_tokens_per_step() -> None:
    batch = derive_batch(batch_tokens=589_824, seq_len=2048, world_size=4, micro_batch=18)
    assert batch.accumulation == 4
    assert batch.product == "world 4 x micro-batch 18 x accumulation 4 x seq_len 2,048 = 589,824 tokens"
    assert run_of(10**10, batch=batch).step_tokens == 4 * 18 * 4 * 2048
    with pytest.raises(UsageError, match="--batch-tokens 442368 or 589824"):
        derive_batch(batch_tokens=524_288, seq_len=2048, world_size=4, micro_batch=18)


def test_each_of_the_three_estimates_gives_the_other_two() -> None:
    n_parameters = 124_000_000
    tokens = tokens_by_ratio(Fraction(20), parameters=n_parameters)
    run = run_of(tokens)
    assert tokens_by_flops(Fraction(run.flops), parameters=n_parameters) == tokens
    this, at_20, best = compare(SMALL, run)
    assert (this.tokens, this.flops, this.tokens_per_parameter) == (tokens, run.flops, 20)
    # At 20 tokens per parameter the model already has the size its FLOPs train best.
    assert (at_20.tokens, best.parameters, best.tokens) == (tokens, n_parameters, tokens)


def test_four_times_the_chinchilla_tokens_would_train_twice_the_model_best() -> None:
    _, at_20, best = compare(SMALL, run_of(80 * 124_000_000, gpu=known("A100-80GB")))
    run = run_of(80 * 124_000_000, gpu=known("A100-80GB"))
    assert (best.parameters, best.tokens) == (248_000_000, 40 * 124_000_000)
    assert best.hours == run.hours
    assert run.usd is not None
    assert at_20.usd == pytest.approx(run.usd / 4)


@given(
    hours=st.floats(0.01, 10_000),
    n_gpus=st.integers(1, 64),
    name=st.sampled_from(["H100", "A100-40GB", "RTX-4090", "B200"]),
)
def test_dollars_to_tokens_to_dollars_differ_by_less_than_a_step_and_never_exceed(
    hours: float, n_gpus: int, name: str
) -> None:
    gpu, batch = known(name), replace(STEP_512, world_size=n_gpus)
    usd, step_tokens = hours * n_gpus * gpu.usd_per_hour, batch.rows * batch.seq_len
    speed = expected_speed(SMALL, gpu, n_gpus=n_gpus, mfu=0.4)
    assert speed is not None
    paid_hours = Fraction(usd) / Fraction(n_gpus * gpu.usd_per_hour)
    targets = tokens_by_hours(paid_hours, tokens_per_s=speed, step_tokens=step_tokens)
    spent, one_step = run_of(targets, gpu=gpu, batch=batch).usd, run_of(step_tokens, gpu=gpu, batch=batch).usd
    assert spent is not None
    assert one_step is not None
    assert usd - 1.001 * one_step < spent <= usd * (1 + 1e-12)
    assert targets % step_tokens == 0


def test_a_price_and_a_speed_that_are_given_win() -> None:
    settings = {"targets": 3_600_000, "batch": STEP_512, "model": SMALL, "gpu": known("H100")}
    run = estimate_run(**settings, usd_per_hour=1.25, tokens_per_s=500.0)
    assert (run.hours, run.usd, run.mfu) == (2.0, 5.0, None)  # 2 hours · 2 GPUs · $1.25
    assert run.cost_sentence == "2.00 hours at 500 tok/s; $5.00 at $1.25 per GPU-hour"


def test_a_cpu_has_no_hours_until_its_speed_is_known_and_no_dollars_until_its_price_is() -> None:
    run = run_of(3_600_000)
    assert (run.tokens_per_s, run.hours, run.usd, run.cost_sentence) == (None, None, None, None)
    assert [line.hours for line in compare(SMALL, run)] == [None, None, None]
    measured = estimate_run(targets=3_600_000, batch=STEP_512, model=SMALL, gpu=None, tokens_per_s=500.0)
    assert (measured.hours, measured.usd) == (2.0, None)
