"""The run: from a recipe to a trained model. This is the essay; the other files are its words.

In:  the command line. Out: runs/<run>/: journal.jsonl, checkpoints/; lines for whoever watches.
Holds: rows [rows_done, rows_done + B) are trained next, whatever the world size, micro-batch or number of kills;
       the loss is the sum over counted targets of all ranks and micro-batches, divided by their global number.
python train/main.py --manifest --model tiny     torchrun --standalone --nproc_per_node=2 train/main.py --manifest
"""

import contextlib
import math
import time
from datetime import timedelta
from functools import partial
from typing import NoReturn

import torch
from torch import nn

from dataprep.errors import DataError, EnvironmentProblem
from dataprep.ledger import Record, rows_in_weights
from train.agreement import refuse_difference, what_is_trained
from train.beginning import Parent, begin_with, find_checkpoint, find_parent
from train.checkpoint import Cursor, clear_the_way
from train.config import TrainConfig
from train.ending import NEXT, end_again, has_ended, resume_command
from train.gradients import accumulate_gradients, among_ranks
from train.journal import Journal
from train.judge import Judge
from train.keeper import Keeper
from train.kernels import choose_kernels
from train.loader import RankRows
from train.memory import answering_out_of_memory
from train.meter import Meter, check_limits
from train.model import GPT
from train.optim import GRAD_NORM_LIMIT, learning_rate, make_optimizer, set_learning_rate
from train.prefetch import RowsAhead
from train.prepare import Job, open_job
from train.progress import StepLines, header
from train.ranks import Ranks, joined, telling_of_lost_peers
from train.records import checkpoint_record, end_record, speed, start_record, step_record
from train.room import check_room
from train.row_hash import print_row_hash
from train.stopping import StopRequest, listening, outliving_the_terminal
from train.tracking import Tracker, open_tracker


def train(config: TrainConfig) -> int:
    """Train the plan from where the run stands to its end, to --tokens, or to a signal. Every rank runs this."""
    with outliving_the_terminal(), joined(config.device, timeout=timedelta(minutes=config.rank_timeout)) as ranks:
        job = ranks.agree(lambda: open_job(config, world_size=ranks.world_size))
        told = ranks.gather(what_is_trained(job))
        ranks.agree(lambda: refuse_difference(told))
        if config.print_row_hash:
            return print_row_hash(job, ranks)
        ranks.agree(lambda: job.check_sound() if ranks.is_first_here else None)
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
        self.cursor = self.resumed.cursor if self.resumed else Cursor()
        self.meter = Meter(journal.records, usd_per_hour=ranks.usd_per_hour(job.routine.usd_per_hour))
        self.last_row = job.last_row(self.cursor)
        # What is finished costs nothing: asked again, it is told, whatever it took.
        spends = ranks.is_first and not has_ended(journal.records, self.cursor, self.last_row)
        ranks.agree(lambda: check_limits(job.routine, self.meter) if spends else None)
        self.limit: str | None = None  # the flag that ended it
        self.step_seconds, self.overdue = 0.0, 0

        # First weights come from the seed, on the CPU: the same ones whatever device they move to.
        torch.manual_seed(job.settings.seed)
        model = GPT(job.settings.shape, vocab_size=job.recipe.vocab_size, seq_len=job.recipe.seq_len)
        self.model = model.to(ranks.device)
        self.n_parameters = sum(weight.numel() for weight in self.model.parameters())
        self.optimizer = ranks.agree(lambda: make_optimizer(self.model, job.settings.optimizer))
        ranks.agree(lambda: begin_with(self.resumed, parent, self.model, self.optimizer))
        self.keeper = Keeper(job, ranks, journal, self.cursor)
        self.judge = Judge(job, ranks, journal, self.model, self.cursor, has_parent=parent is not None)

    def run(self) -> int:
        """Train what is left, save, judge, and say what to run next."""
        self.ranks.say(header(self.job, self.cursor, self.ranks, self.n_parameters, self.parent))
        if self.ranks.gather(has_ended(self.journal.records, self.cursor, self.last_row))[0]:
            self.ranks.say(end_again(self.job, self.journal.records, self.cursor))
            return 0

        self.ranks.agree(self._check_room)
        self.tracker = self.ranks.agree(self._open_tracker)
        self.trained = self._made_ready()
        self._begin()
        status = "failed"
        try:
            with listening() as stop, telling_of_lost_peers():
                interrupted = self._train_rows(stop)
                self._save()
                self.keeper.finish()
                if not interrupted:
                    self.judge.last(self.cursor, lambda: stop.asked)
            status = "finished" if self.cursor.rows_done == self.job.recipe.plan_rows else "stopped"
        finally:
            self._end(status)
        self.ranks.say(f"{status} at step {self.cursor.step}; the weights hold {self.cursor.tokens_done:,} tokens")
        if self.limit:
            self.ranks.say(f"{self.limit} allows no further step: this run took {self.meter}")
        again = resume_command(self.job, world_size=self.ranks.world_size, limit=self.limit)
        self.ranks.say(f"go on with: {again}" if interrupted else NEXT)
        return 0

    def _check_room(self) -> None:
        if self.ranks.is_first:
            check_room(self.job, self.cursor, self.last_row, self.n_parameters)

    def _made_ready(self) -> nn.Module:
        """The model as it is trained: on the best kernels here, and the gradients of several ranks averaged by DDP."""
        job, by_document = self.job, self.job.recipe.attention == "document"
        with answering_out_of_memory(self.model, self.optimizer, job.batch, by_document=by_document):
            choose_kernels(self.model, self.ranks, job.batch, compiled=job.config.compile, by_document=by_document)
            return among_ranks(self.model, self.ranks, job.batch, by_document=by_document)

    def _open_tracker(self) -> Tracker:
        kind = self.job.routine.track if self.ranks.is_first else "none"
        return open_tracker(kind, self.job.run, self._start_record(), self.job.folder)

    # ---- the training itself

    def _train_rows(self, stop: StopRequest) -> bool:
        """Step until the last row; True when a signal or a limit ended it sooner."""
        job, ranks = self.job, self.ranks
        lines = StepLines(job, self.cursor, ranks, self.meter)
        ahead = RowsAhead(job.loader, job.batch, rank=ranks.rank, last_row=self.last_row)
        with contextlib.closing(ahead):
            while self.cursor.rows_done < self.last_row:
                self.judge.look(self.cursor, partial(self._is_told, stop))
                record = self._step(ahead, stop)
                if record is None:
                    return True
                if ranks.is_first:
                    lines.add(record, self.cursor)
                    self.tracker.log(self.cursor.step, {**record, "tokens_done": self.cursor.tokens_done})
                if self.overdue or self.cursor.step % job.routine.checkpoint_every == 0:
                    self._save()
        return False

    def _step(self, ahead: RowsAhead, stop: StopRequest) -> Record | None:
        """Put the next rows into the weights; the step's record, or None where one rank was told to stop."""
        job, ranks = self.job, self.ranks
        started = time.perf_counter()
        row_to = min(self.cursor.rows_done + job.batch.rows, self.last_row)

        # Ranks agree before they compute: that rows and the last save are sound, how much counts, whether one was told
        # to stop, whether by the first rank's clock it is time to save.
        rows = ranks.agree(partial(self._next_rows, ahead, row_to))
        told, overdue = self._is_told(stop), self.keeper.is_overdue
        tokens, loss_tokens, n_told, self.overdue = ranks.sum_counts(
            rows.n_tokens, rows.n_loss_tokens, int(told), int(overdue)
        )
        if n_told:
            return None

        # The rate of a step is the one for the tokens done after it: the first is above 0, the last the lowest.
        before, after = self.cursor, self.cursor.after(row_to=row_to, tokens=tokens, loss_tokens=loss_tokens)
        rate = learning_rate(
            after.tokens_done,
            plan_tokens=job.recipe.tokens,
            peak=job.settings.peak_rate,
            schedule=job.settings.schedule,
            warmup_share=job.settings.stage.warmup_share,
        )
        set_learning_rate(self.optimizer, rate)

        by_document = rows.documents_AMT is not None
        with answering_out_of_memory(self.model, self.optimizer, job.batch, by_document=by_document):
            loss = self._accumulate_gradients(rows, loss_tokens)
            grad_norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), GRAD_NORM_LIMIT))
            self._check_finite(loss, grad_norm, after)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.cursor = after

        self.step_seconds = time.perf_counter() - started
        measured = {"loss": loss, "lr": rate, "grad_norm": grad_norm}
        measured |= speed(ranks, self.n_parameters, tokens, self.step_seconds)
        record = step_record(before, after, measured)
        self.journal.write("step", **record)
        return record

    def _next_rows(self, ahead: RowsAhead, row_to: int) -> RankRows:
        """What this rank computes in a step. On the way the first rank looks after its checkpoint in flight."""
        self.keeper.look()
        return ahead.take(self.cursor.rows_done, row_to)

    def _is_told(self, stop: StopRequest) -> bool:
        """Whether this rank was told to stop, by a signal or by a limit."""
        return stop.asked or self._passes_limit()

    def _passes_limit(self) -> bool:
        """Whether another step would pass --max-usd or --max-hours, by the first rank's clock."""
        if self.ranks.is_first:
            self.limit = self.meter.passed(self.job.routine, ahead_seconds=self.step_seconds)
        return self.limit is not None

    def _accumulate_gradients(self, rows: RankRows, loss_tokens: int) -> float:
        return accumulate_gradients(self.trained, rows.arrays, loss_tokens=loss_tokens, ranks=self.ranks)

    def _check_finite(self, loss: float, grad_norm: float, after: Cursor) -> None:
        """Keep a broken step out of the weights, and keep them; every rank sees the same numbers, and one says so."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            self._save()
            self.keeper.finish()
            self.ranks.agree(partial(self._refuse_infinite, loss, grad_norm, after))

    def _refuse_infinite(self, loss: float, grad_norm: float, after: Cursor) -> NoReturn:
        again = resume_command(self.job, world_size=self.ranks.world_size)
        raise DataError(
            f"step {after.step} is not finite and was not taken; the weights of step {self.cursor.step} are kept",
            seen=f"loss {loss}, gradient norm {grad_norm}, rows {self.cursor.rows_done} to {after.rows_done}",
            wanted="finite numbers",
            fix=f"python -m dataprep.explain --run {self.job.run} --step {after.step}  # its rows; to go on:"
            f" {again} --learning-rate {self.job.settings.peak_rate / 2:g}",
        )

    # ---- what is kept

    def _begin(self) -> None:
        """Open the attempt in the journal and clear what a kill left behind."""
        kept = rows_in_weights(self.journal.records)
        if self.resumed and (kept[-1].row_to if kept else 0) < self.cursor.rows_done:
            # Killed between the checkpoint's rename and its record: it is still the work of the attempt before.
            record = checkpoint_record(self.job, self.resumed)
            self.journal.write("checkpoint", **record | {"attempt": self.journal.attempt - 1})
        self.journal.write("start", **self._start_record())
        self.parent_held.close()  # from here on the journal says what we began from
        if self.ranks.is_first:
            clear_the_way(self.job.checkpoints, self.cursor.step)

    def _start_record(self) -> Record:
        return start_record(self.job, self.ranks, self.cursor, self.n_parameters, self.parent)

    def _save(self) -> None:
        self.keeper.save(self.cursor, self.model, self.optimizer)

    def _end(self, status: str) -> None:
        """The attempt's last word. On a full disk this fails as well: what failed first is what is told."""
        forgiven = (OSError, EnvironmentProblem) if status == "failed" else ()
        with contextlib.suppress(*forgiven):
            self.keeper.look(wait=True)
        self.keeper.close()
        self.tracker.close()
        with contextlib.suppress(*forgiven):
            self.journal.write("end", **end_record(self.cursor, status, self.meter.seconds_now))
