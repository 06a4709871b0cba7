"""The run: from a recipe to a trained model. This is the essay; the other files are its words.

In:  the command line. Out: runs/<run>/: journal.jsonl, checkpoints/; lines for whoever watches.
Holds: rows [rows_done, rows_done + B) are trained next, whatever the world size, micro-batch or number of kills;
       the loss is the sum over counted targets of all ranks and micro-batches, divided by their global number.
python train/main.py --manifest --model tiny     torchrun --standalone --nproc_per_node=2 train/main.py --manifest
"""

import contextlib
import math
import shlex
import time
from functools import partial
from typing import NoReturn

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dataprep.errors import DataError, EnvironmentProblem, as_typed
from dataprep.ledger import rows_in_weights
from train.beginning import Parent, find_checkpoint, find_parent
from train.checkpoint import Cursor, clear_the_way, load_checkpoint, load_moments, load_weights
from train.config import TrainConfig
from train.journal import Journal
from train.loader import RankRows, handed_out, row_stream_hash
from train.model import GPT
from train.optim import GRAD_NORM_LIMIT, learning_rate, make_optimizer, set_learning_rate
from train.prepare import Job, open_job
from train.progress import StepLines, header
from train.ranks import Ranks, joined
from train.records import checkpoint_record, end_record, speed, start_record, step_record
from train.sample import complete, shown
from train.saving import Saver
from train.stopping import StopRequest, listening

NEXT = as_typed("next: python -m dataprep.sql --file manifests/queries/seen.sql")


def train(config: TrainConfig) -> int:
    """Train the plan from where the run stands to its end, to --tokens, or to a signal. Every rank runs this."""
    with joined(config.device) as ranks:
        job = ranks.agree(lambda: open_job(config, world_size=ranks.world_size))
        if config.print_row_hash:
            return _print_row_hash(job, ranks)
        with contextlib.ExitStack() as held:
            # Judged before the journal exists: a refused parent leaves no run behind.
            found = ranks.agree(lambda: find_parent(job, held) if ranks.is_first else None)
            parent = ranks.gather(found)[0]
            with contextlib.closing(ranks.agree(lambda: Journal(job.journal if ranks.is_first else None))) as journal:
                return Attempt(job, ranks, journal, parent, parent_held=held).run()


class Attempt:
    """One try at a run: a model, where it stands, and the journal that says so."""

    def __init__(
        self, job: Job, ranks: Ranks, journal: Journal, parent: Parent | None, *, parent_held: contextlib.ExitStack
    ) -> None:
        self.job, self.ranks, self.journal, self.parent, self.parent_held = job, ranks, journal, parent, parent_held
        if journal.torn_bytes:
            ranks.say(f"the journal's last line was cut short by a kill: {journal.torn_bytes} bytes removed")

        # The first rank judges the checkpoints, every byte of them; the others load the one it chose.
        found = ranks.agree(lambda: find_checkpoint(job, journal.records) if ranks.is_first else None)
        self.resumed = ranks.gather(found)[0]
        self.cursor = self.saved = self.resumed.cursor if self.resumed else Cursor()
        self.last_row = job.last_row(self.cursor)

        # First weights come from the seed, on the CPU: the same ones whatever device they move to.
        torch.manual_seed(job.settings.seed)
        model = GPT(job.settings.shape, vocab_size=job.recipe.vocab_size, seq_len=job.recipe.seq_len)
        self.model = model.to(ranks.device)
        self.n_parameters = sum(weight.numel() for weight in self.model.parameters())
        self.optimizer = make_optimizer(self.model)
        if self.resumed:
            load_checkpoint(self.resumed, self.model, self.optimizer)
        elif parent:
            assert parent.checkpoint, "a run without a checkpoint of its own begins with its parent's"
            load_weights(parent.checkpoint, self.model)
            if parent.optimizer_kept:
                load_moments(parent.checkpoint, self.optimizer)
        config = job.config
        self.saver = Saver(job.checkpoints, job.identity, keep=config.keep, keep_every=config.keep_every)
        self.saved_at = time.monotonic()
        # Gradients of several ranks are averaged by DDP; one rank needs none of it.
        many = ranks.world_size > 1
        self.trained = DistributedDataParallel(self.model, gradient_as_bucket_view=True) if many else self.model

    def run(self) -> int:
        """Train what is left, save, sample, and say what to run next."""
        ranks = self.ranks
        ranks.say(header(self.job, self.cursor, ranks, self.n_parameters, self.parent))
        if ranks.gather(self._ended_here())[0]:
            return self._repeat_the_end()

        self._begin()
        status = "failed"
        try:
            with listening() as stop:
                interrupted = self._train_rows(stop)
                self._save()
                ranks.agree(partial(self._note_saved, wait=True))
            if not interrupted:
                self._sample()
            status = "finished" if self.cursor.rows_done == self.job.recipe.plan_rows else "stopped"
        finally:
            self._end(status)
        ranks.say(f"{status} at step {self.cursor.step}; the weights hold {self.cursor.tokens_done:,} tokens")
        ranks.say(f"go on with: {self._command()}" if interrupted else NEXT)
        return 0

    # ---- the training itself

    def _train_rows(self, stop: StopRequest) -> bool:
        """Step until the last row; True when a signal ended it sooner."""
        job, ranks = self.job, self.ranks
        lines = StepLines(job, self.cursor, ranks)
        while self.cursor.rows_done < self.last_row:
            started = time.perf_counter()
            row_from = self.cursor.rows_done
            row_to = min(row_from + job.batch.rows, self.last_row)

            # Ranks agree before they compute: that rows and the last save are sound, how much counts, whether one
            # was told to stop, whether by the first rank's clock it is time to save.
            rows = ranks.agree(partial(self._next_rows, row_from, row_to))
            counts = (rows.n_tokens, rows.n_loss_tokens, int(stop.asked), int(self._is_overdue()))
            tokens, loss_tokens, n_told, n_overdue = ranks.sum_counts(*counts)
            if n_told:
                return True

            # The rate of a step is the one for the tokens done after it: the first is above 0, the last the lowest.
            before, after = self.cursor, self.cursor.after(row_to=row_to, tokens=tokens, loss_tokens=loss_tokens)
            rate = learning_rate(after.tokens_done, plan_tokens=job.recipe.tokens, peak=job.settings.peak_rate)
            set_learning_rate(self.optimizer, rate)

            loss = self._accumulate_gradients(rows, loss_tokens)
            grad_norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), GRAD_NORM_LIMIT))
            self._check_finite(loss, grad_norm, after)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.cursor = after

            measured = {"loss": loss, "lr": rate, "grad_norm": grad_norm}
            measured |= speed(ranks, self.n_parameters, tokens, time.perf_counter() - started)
            record = step_record(before, after, measured)
            self.journal.write("step", **record)
            if ranks.is_first:
                lines.add(record, after)
            if n_overdue or after.step % job.config.checkpoint_every == 0:
                self._save()
        return False

    def _next_rows(self, row_from: int, row_to: int) -> RankRows:
        """What this rank computes in a step. On the way the first rank looks after its save in flight."""
        self._note_saved()
        return self.job.loader.rank_rows(row_from, row_to, batch=self.job.batch, rank=self.ranks.rank)

    def _accumulate_gradients(self, rows: RankRows, loss_tokens: int) -> float:
        """Add up the gradients of this rank's micro-batches; returns the mean loss over every rank's counted targets.

        DDP averages gradients over ranks, so each rank's share is multiplied by their number. Micro-batches with
        nothing in them take part too: a rank that stayed away would leave the others waiting.
        """
        device, world_size = self.ranks.device, self.ranks.world_size
        n_counted = max(loss_tokens, 1)  # where nothing counts the loss is 0, not 0/0
        arrays = [torch.from_numpy(array_AMT).to(device) for array_AMT in rows.arrays]
        total = torch.zeros((), device=device)
        for i, micro_batch in enumerate(zip(*arrays, strict=True), 1):
            with self._exchange(is_last=i == self.job.batch.accumulation):
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                    summed = self.trained(*micro_batch)
                (summed * (world_size / n_counted)).backward()
            total += summed.detach()
        return self.ranks.sum_scalar(total) / n_counted

    def _exchange(self, *, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients of all but a step's last micro-batch stay on their rank."""
        if isinstance(self.trained, DistributedDataParallel) and not is_last:
            return self.trained.no_sync()
        return contextlib.nullcontext()

    def _check_finite(self, loss: float, grad_norm: float, after: Cursor) -> None:
        """Refuse to put a broken step into the weights; every rank sees the same numbers, and one says so."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            self.ranks.agree(partial(self._refuse_infinite, loss, grad_norm, after))

    def _refuse_infinite(self, loss: float, grad_norm: float, after: Cursor) -> NoReturn:
        raise DataError(
            f"step {after.step} is not finite; the newest checkpoint is of step {self.saved.step}",
            seen=f"loss {loss}, gradient norm {grad_norm}, rows {self.cursor.rows_done} to {after.rows_done}",
            wanted="finite numbers",
            fix=f"{self._command()} --learning-rate {self.job.settings.peak_rate / 2:g}",
        )

    # ---- what is kept

    def _begin(self) -> None:
        """Open the attempt in the journal and clear what a kill left behind."""
        kept = rows_in_weights(self.journal.records)
        if self.resumed and (kept[-1].row_to if kept else 0) < self.cursor.rows_done:
            # Killed between the checkpoint's rename and its record: it is still the work of the attempt before.
            record = checkpoint_record(self.job, self.resumed)
            self.journal.write("checkpoint", **record | {"attempt": self.journal.attempt - 1})
        self.journal.write("start", **start_record(self.job, self.ranks, self.cursor, self.n_parameters, self.parent))
        self.parent_held.close()  # from here on the journal says what we began from
        if self.ranks.is_first:
            clear_the_way(self.job.checkpoints, self.cursor.step)

    def _save(self) -> None:
        """Begin a checkpoint, once per step; it is written while training goes on."""
        if self.saved == self.cursor:
            return
        self.ranks.agree(self._begin_save)
        self.saved, self.saved_at = self.cursor, time.monotonic()

    def _begin_save(self) -> None:
        """Its steps are durable first: weights hold no unjournaled rows."""
        self._note_saved(wait=True)
        if self.ranks.is_first:
            self.journal.make_durable()
            self.saver.begin(self.cursor, self.model, self.optimizer)

    def _note_saved(self, *, wait: bool = False) -> None:
        """Journal what was published since the last look; only then may older ones go. Raises what the saver met."""
        saved = self.saver.published(wait=wait)
        if saved:
            measured = {"stall_seconds": saved.stall_seconds, "write_seconds": saved.write_seconds}
            self.journal.write("checkpoint", **checkpoint_record(self.job, saved.checkpoint), **measured)
            self.journal.make_durable()
            self.saver.remove_old()
        for warning in self.saver.removed(wait=wait):
            self.ranks.say(warning)

    def _is_overdue(self) -> bool:
        """Whether --checkpoint-minutes have passed without a checkpoint, by the first rank's clock alone."""
        minutes = self.job.config.checkpoint_minutes
        return bool(minutes and self.ranks.is_first and time.monotonic() - self.saved_at >= 60 * minutes)

    def _end(self, status: str) -> None:
        """The attempt's last word. On a full disk this fails as well: what failed first is what is told."""
        forgiven = (OSError, EnvironmentProblem) if status == "failed" else ()
        with contextlib.suppress(*forgiven):
            self._note_saved(wait=True)
        self.saver.close()
        with contextlib.suppress(*forgiven):
            self.journal.write("end", **end_record(self.cursor, status))

    def _sample(self) -> None:
        """Let the model speak once: as an assistant where it learnt from what one says."""
        if not self.ranks.is_first:
            return
        config = self.job.config
        completion = complete(
            self.model, self.job.vocab, config.prompt, seed=self.job.settings.seed, chat=self.job.is_chat
        )
        self.journal.write("sample", step=self.cursor.step, prompt=config.prompt, completion=completion)
        self.ranks.say(shown(config.prompt, completion, chat=self.job.is_chat))

    # ---- when there is nothing to do

    def _ended_here(self) -> bool:
        """Whether the journal already tells this run's end, up to the row asked for."""
        ends = [record for record in self.journal.records if record["kind"] == "end" and record["status"] != "failed"]
        return self.cursor.rows_done == self.last_row and any(e["rows_done"] == self.last_row for e in ends)

    def _repeat_the_end(self) -> int:
        samples = [record for record in self.journal.records if record["kind"] == "sample"]
        self.ranks.say(f"nothing is left to train: the weights hold {self.cursor.tokens_done:,} tokens")
        if samples:
            self.ranks.say(shown(samples[-1]["prompt"], samples[-1]["completion"], chat=self.job.is_chat))
        self.ranks.say(NEXT)
        return 0

    def _command(self) -> str:
        """What goes on with this run."""
        world_size = self.ranks.world_size
        # Without the "--", torchrun on Python 3.11 takes our --run for an abbreviation of its own --run-path.
        launcher = f"torchrun --standalone --nproc_per_node={world_size} --" if world_size > 1 else "python"
        again = " --resume auto" if self.job.config.resume == "never" else ""
        return as_typed(f"{launcher} train/main.py {shlex.join(self.job.config.argv)}{again}")


def _print_row_hash(job: Job, ranks: Ranks) -> int:
    """The hash of the rows as all ranks are handed them; it is the one the recipe was packed with, or an error."""
    row_hash = row_stream_hash(job.loader, ranks.gather(handed_out(job.loader, job.batch, ranks.rank)))
    ranks.agree(partial(_refuse_other_rows, row_hash, job.recipe.rows_sha256))
    ranks.say(row_hash)
    return 0


def _refuse_other_rows(handed_out: str, packed: str) -> None:
    if handed_out != packed:
        raise DataError(
            "the loader does not hand out the rows that were packed",
            seen=handed_out,
            wanted=packed,
            fix="python -m dataprep.verify --full",
        )
