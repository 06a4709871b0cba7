"""Estimate: what training so many tokens takes: steps, FLOPs, hours, dollars. The verb and the trainer's header ask it.

In:  a model's size, a batch, targets (rows × seq_len, padding included: it is computed too), a GPU. Out: `RunEstimate`.
Holds: steps × tokens per step + the remainder + what fills no row = targets, exactly; nothing here does I/O;
       a device that is not in the table has no hours unless its speed is given, and no dollars unless its price is.

6N is the field's rule for the forward and backward products of N parameters. With attention it is 6N + 12·L·H·E·T
(layers, query heads, head size, seq_len: PaLM, appendix B; nanoGPT and nanochat count the same way). Shared
key/value heads do not lessen it: every query head still takes its products. It is not halved for the causal mask,
so that a figure can be compared with published ones; and an input table that is not the head too multiplies nothing.
Utilisation (mfu) is by 6N here, so hours are 6·N·D / (GPUs · peak · mfu).

    124M parameters, 2.5B tokens, one H100 at 40%: 1.86e18 FLOPs / 3.956e14 per second = 4,702 s = 1.3 hours
"""

from dataclasses import dataclass

from dataprep.batch import Batch
from dataprep.gpus import Gpu
from dataprep.shapes import ModelShape, count_parameters, padded_vocab_size

DEFAULT_MFU = 0.4
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model's size. No shape means a size alone: what its attention and its embedding take is not known."""

    parameters: int
    shape: ModelShape | None = None
    vocab_size: int | None = None

    @property
    def non_embedding_parameters(self) -> int | None:
        """Without the token table, and without the head where it is a table of its own."""
        tables = self._table_parameters
        return None if self.shape is None else self.parameters - tables * (1 if self.shape.tied else 2)

    def flops_per_token(self, seq_len: int) -> "FlopsPerToken":
        """Both counts."""
        by_6n = 6 * self.parameters
        if self.shape is None:
            return FlopsPerToken(by_6n=by_6n, with_attention=None)
        attention = 12 * self.shape.n_layers * self.shape.n_heads * self.shape.head_dim * seq_len
        looked_up = 0 if self.shape.tied else 6 * self._table_parameters
        return FlopsPerToken(by_6n=by_6n, with_attention=by_6n - looked_up + attention)

    @property
    def _table_parameters(self) -> int:
        return padded_vocab_size(self.vocab_size or 0) * self.shape.width if self.shape else 0


@dataclass(frozen=True, kw_only=True)
class FlopsPerToken:
    """Forward and backward, for one target."""

    by_6n: int
    with_attention: int | None


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """What a run takes. Counts are exact; hours and dollars follow from the speed, and None is: not known."""

    targets: int
    step_tokens: int
    steps: int  # full ones
    remainder_rows: int  # of one more step
    remainder_tokens: int
    unfilled_tokens: int  # too few for a row: they are not trained
    flops: int
    flops_with_attention: int | None
    mfu: float | None  # None: the speed was given
    tokens_per_s: float | None  # of all GPUs together
    hours: float | None
    usd_per_gpu_hour: float | None
    usd: float | None

    @property
    def step_sentence(self) -> str:
        """The division as a person checks it."""
        text = f"{self.steps:,} of {self.step_tokens:,} tokens"
        if self.remainder_rows:
            text += f" + 1 of {self.remainder_rows:,} rows ({self.remainder_tokens:,} tokens)"
        return text + (f"; {self.unfilled_tokens:,} tokens fill no row" if self.unfilled_tokens else "")

    @property
    def cost_sentence(self) -> str | None:
        """Hours and dollars; None where not even the hours are known."""
        if self.hours is None:
            return None
        speed = f"{self.tokens_per_s:,.0f} tok/s" + (f", {100 * self.mfu:g}% of the peak by 6N" if self.mfu else "")
        text = f"{self.hours:,.2f} hours at {speed}"
        return text if self.usd is None else f"{text}; ${self.usd:,.2f} at ${self.usd_per_gpu_hour:,.2f} per GPU-hour"


def count_model(shape: ModelShape, vocab_size: int) -> Model:
    """The model of this shape."""
    return Model(parameters=count_parameters(shape, vocab_size), shape=shape, vocab_size=vocab_size)


def flops_per_token(shape: ModelShape, vocab_size: int, seq_len: int) -> FlopsPerToken:
    """The same of a shape by itself: what utilisation by 6N, and with attention, is reckoned from."""
    return count_model(shape, vocab_size).flops_per_token(seq_len)


def estimate_run(
    *,
    targets: int,
    batch: Batch,
    model: Model,
    gpu: Gpu | None,
    mfu: float = DEFAULT_MFU,
    usd_per_hour: float | None = None,
    tokens_per_s: float | None = None,
) -> RunEstimate:
    """What `targets` take on `batch.world_size` of `gpu`. A price or a measured speed that is given wins."""
    step_tokens = batch.rows * batch.seq_len
    steps, left = divmod(targets, step_tokens)
    remainder_rows, unfilled = divmod(left, batch.seq_len)
    flops = model.flops_per_token(batch.seq_len)
    speed = tokens_per_s or expected_speed(model, gpu, n_gpus=batch.world_size, mfu=mfu)
    price = usd_per_hour or (gpu.usd_per_hour if gpu else None)
    hours = targets / speed / _SECONDS_PER_HOUR if speed else None
    return RunEstimate(
        targets=targets,
        step_tokens=step_tokens,
        steps=steps,
        remainder_rows=remainder_rows,
        remainder_tokens=left - unfilled,
        unfilled_tokens=unfilled,
        flops=flops.by_6n * targets,
        flops_with_attention=flops.with_attention * targets if flops.with_attention else None,
        mfu=None if tokens_per_s or speed is None else mfu,
        tokens_per_s=speed,
        hours=hours,
        usd_per_gpu_hour=price,
        usd=hours * batch.world_size * price if hours is not None and price else None,
    )


def expected_speed(model: Model, gpu: Gpu | None, *, n_gpus: int, mfu: float) -> float | None:
    """Tokens per second of all GPUs together; None where the peak is not known."""
    return n_gpus * gpu.peak_flops * mfu / (6 * model.parameters) if gpu else None
