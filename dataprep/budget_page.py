"""Budget page: a budget as people read it, and as JSON.

In:  a `Budget`: everything that was decided. Out: text of a few tables; a dictionary of exact numbers.
Holds: nothing is computed here but sums and rounding for the eye; the two forms tell the same numbers.
"""

from dataclasses import asdict, dataclass
from typing import Any

from dataprep.allowance import compare
from dataprep.batch import Batch
from dataprep.console import size, table
from dataprep.estimate import Model, RunEstimate
from dataprep.footprint import Checkpoints, Vram, estimate_checkpoints, estimate_vram
from dataprep.gpus import GIB, Gpu, Rented, gpu_table
from dataprep.recipe import Recipe
from dataprep.shapes import PRESETS, ModelShape
from dataprep.sources import make_shards
from dataprep.stock import Stock


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What was asked for, and what it takes."""

    asked: tuple[str, float | int | str]
    model: Model
    preset: str  # the model's, or the nearest one's to a size alone
    is_preset: bool
    tokenizer: str
    vocab_size: int
    rented: Rented
    batch: Batch
    run: RunEstimate
    by_gpu: tuple[tuple[Gpu, RunEstimate], ...]
    recipe: Recipe | None
    stocks: tuple[Stock, ...]
    keep: int

    @property
    def shape(self) -> ModelShape:
        """What memory is estimated by."""
        return self.model.shape or PRESETS[self.preset].shape

    @property
    def vram(self) -> Vram:
        """Of each GPU."""
        return estimate_vram(self.shape, parameters=self.model.parameters, vocab_size=self.vocab_size, batch=self.batch)

    @property
    def checkpoints(self) -> Checkpoints:
        """Of the run's folder."""
        return estimate_checkpoints(self.model.parameters, keep=self.keep)

    @property
    def next_command(self) -> str:
        """What brings the run nearer: shards that are missing, else the plan, else the training."""
        if self.recipe:
            launch = f"torchrun --standalone --nproc_per_node={self.rented.count}"
            return f"{launch} train/main.py --manifest --recipe {self.recipe.name} {self._training_flags}"
        stock = self.stocks[0]
        if stock.missing != 0 and stock.imported:
            return f"python -m dataprep.import --from FORMAT --source {stock.source} --tokenizer {self.tokenizer} FILE…"
        if stock.missing != 0:
            return make_shards(stock.source, n=stock.needed or 1, tokenizer=self.tokenizer)
        rows = self.run.targets // self.batch.seq_len
        packed = f"--mix 1 --sources {stock.source} --tokenizer {self.tokenizer} --seq-len {self.batch.seq_len}"
        return f"python -m dataprep.pack {packed} --tokens {max(1, rows) * self.batch.seq_len}"

    @property
    def _training_flags(self) -> str:
        """The model and the batch of this page: other steps than it tells would be trained without them."""
        head = "" if self.shape.tied else " --head untied"
        batch = f"--batch-tokens {self.run.step_tokens} --micro-batch {self.batch.micro_batch}"
        return f"--model {self.preset}{head} {batch}"

    def to_json(self) -> dict[str, Any]:
        """Every number, exactly."""
        parts = {"accumulation": self.batch.accumulation, "rows": self.batch.rows, "tokens": self.run.step_tokens}
        return {
            "asked": dict([self.asked]),
            "model": {
                "preset": self.preset if self.is_preset else None,
                "parameters": self.model.parameters,
                "non_embedding_parameters": self.model.non_embedding_parameters,
                "tokenizer": self.tokenizer,
                "vocab_size": self.vocab_size,
                "flops_per_token": asdict(self.model.flops_per_token(self.batch.seq_len)),
            },
            "batch": asdict(self.batch) | parts,
            "run": asdict(self.run),
            "estimates": [asdict(line) for line in compare(self.model, self.run)],
            "recipe": _recipe_counts(self.recipe) if self.recipe else None,
            "shards": [asdict(stock) for stock in self.stocks],
            "prices_of": gpu_table().date,
            "gpus": [
                {"gpu": gpu.name, "asked": gpu == self.rented.gpu, "fits": self.fits(gpu)} | asdict(run)
                for gpu, run in self.by_gpu
            ],
            "vram_estimate": asdict(self.vram) | {"total": self.vram.total, "activations_of": self.preset},
            "checkpoints": asdict(self.checkpoints),
        }

    def fits(self, gpu: Gpu) -> bool:
        """Whether its memory is as large as the estimate."""
        return self.vram.total <= gpu.memory_gib * GIB


def page(budget: Budget) -> str:
    """The whole page."""
    parts = (_header(budget), _estimates(budget), _shards(budget), _gpus(budget), _memory(budget))
    return "\n\n".join(part for part in parts if part)


def _header(budget: Budget) -> str:
    model, run, flops = budget.model, budget.run, budget.model.flops_per_token(budget.batch.seq_len)
    size_alone = f"a size alone: no attention in its FLOPs; batch and memory as of {budget.preset}, the nearest preset"
    counted = f"{model.non_embedding_parameters or 0:,} without embedding and head, {budget.tokenizer}'s vocabulary"
    attention = f"; {run.flops_with_attention:.4g} with attention" if run.flops_with_attention else ""
    per_token = f"6N = {flops.by_6n:,} per token" + (f", {flops.with_attention:,}" if flops.with_attention else "")
    flag, value = budget.asked
    lines = {
        "model": f"{budget.preset if budget.is_preset else 'size'}: {model.parameters:,} parameters"
        f" ({counted if budget.is_preset else size_alone})",
        "asked": f"--{flag} {value}" if isinstance(value, str) else f"--{flag} {value:,.15g}",
        "plan": _recipe_sentence(budget.recipe) if budget.recipe else None,
        "step": budget.batch.product,
        "steps": run.step_sentence,
        "FLOPs": f"{run.flops:.4g} by 6N{attention} ({per_token})",
        "cost": f"{run.cost_sentence or 'not known: give --tokens-per-s, as measured'} on {budget.rented.name}",
    }
    return "\n".join(f"{name:6} {text}" for name, text in lines.items() if text)


def _estimates(budget: Budget) -> str:
    """Three estimates side by side, for this run and for what Chinchilla would make of its model and of its FLOPs."""
    flag = {"flops": "FLOPs", "ratio": "ratio"}.get(budget.asked[0], "direct")
    names = {"direct": "direct: tokens D", "FLOPs": "FLOPs: C = 6ND", "ratio": "ratio: D / N"}
    titles = (f"{title} (asked)" if name == flag else title for name, title in names.items())
    rows = [
        (line.what, line.parameters, line.tokens, float(line.flops), line.tokens_per_parameter, line.hours, line.usd)
        for line in compare(budget.model, budget.run)
    ]
    return table(["three estimates", "parameters N", *titles, "hours", "USD"], rows)


def _shards(budget: Budget) -> str:
    """What each source would need if the run drew from it alone."""
    if not budget.stocks:
        return ""
    rows = [
        (
            stock.source,
            None if stock.tokens_per_shard is None else round(stock.tokens_per_shard),
            f"{stock.held:,} held" if stock.measured else "stated" if stock.tokens_per_shard else "hold one shard",
            stock.needed,
            stock.held,
            stock.missing,
            *("–" if part is None else size(part) for part in (stock.parquet_bytes, stock.bin_bytes)),
        )
        for stock in budget.stocks
    ]
    header = ("shards of", "tokens each", "measured by", "needed", "held", "missing", "parquet", "bins")
    return table(header, rows)


def _gpus(budget: Budget) -> str:
    """The same run on as many of every GPU of the table; the asked one is marked, and has what was given for it."""
    asked = budget.rented.gpu
    rows = [
        (
            f"{budget.rented.count}x{gpu.name}" + (" *" if gpu == asked else ""),
            gpu.peak_flops / 1e12,
            None if run.tokens_per_s is None else round(run.tokens_per_s),
            run.hours,
            run.usd_per_gpu_hour,
            run.usd,
            gpu.memory_gib,
            "yes" if budget.fits(gpu) else "no",
        )
        for gpu, run in budget.by_gpu
    ]
    title = "GPUs (* asked)" if asked else "GPUs"
    header = (title, "peak TFLOP/s", "tok/s", "hours", "USD per GPU-hour", "USD", "GiB", "fits")
    return f"{table(header, rows)}\n{gpu_table().warning}; peaks are dense bf16; what fits is by the estimate below"


def _memory(budget: Budget) -> str:
    terms = asdict(budget.vram).items()
    vram = " + ".join(f"{name.replace('_', ' ')} {n_bytes / GIB:.1f}" for name, n_bytes in terms)
    kept = budget.checkpoints
    return "\n".join(
        (
            f"VRAM   about {budget.vram.total / GIB:.1f} GiB per GPU, an estimate for eager AdamW: {vram}",
            f"disk   {size(kept.total)} of checkpoints: {kept.kept} kept and one being written, {size(kept.one)} each",
        )
    )


def _recipe_counts(recipe: Recipe) -> dict[str, int | str]:
    """Examples, epochs, rows after packing."""
    return {
        "recipe": recipe.name,
        "examples": recipe.documents,
        "epochs": recipe.epochs,
        "examples_per_epoch": recipe.documents // recipe.epochs,
        "rows": recipe.plan_rows,
        "tokens": recipe.tokens,
        "loss_tokens": recipe.loss_tokens,
        "pad_tokens": recipe.pad_tokens,
    }


def _recipe_sentence(recipe: Recipe) -> str:
    epochs = f" in {recipe.epochs:,} epochs of {recipe.documents // recipe.epochs:,}" if recipe.epochs > 1 else ""
    return (
        f"{recipe.name}: {recipe.documents:,} examples{epochs}, packed into"
        f" {recipe.plan_rows:,} rows of {recipe.seq_len:,}:"
        f" {recipe.tokens:,} tokens, {recipe.loss_tokens:,} with loss, {recipe.pad_tokens:,} padding"
    )
