"""The judge: looks at the weights while they are trained: by held-out rows, by what they say, by CORE.

In:  a model, where it stands, the journal. Out: eval and sample records; lines for whoever watches.
Holds: what is due is judged once for each cursor, by every rank together; weights, gradients and random numbers stay as
       they were, and no step's seconds count it; who is told to stop begins nothing more, nor another task of CORE.
at step 0 of a child, every 250, 1,000, 2,000 steps: judge.look(cursor, told); at the end: judge.last(cursor, told)
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from dataprep.ledger import Record
from dataprep.standing import standing_evals, standing_samples
from train.checkpoint import Cursor
from train.core import core_records, judge_core
from train.core import shown as shown_core
from train.core.scores import CORE_SUITE, CORE_TASK
from train.ending import sample, sample_lines
from train.engine import Engine
from train.journal import Journal
from train.model import GPT
from train.prepare import Job
from train.prompts import ask, is_asked, right_facts, shown_facts, two_said
from train.ranks import Ranks
from train.validate import eval_records, is_judged, validate
from train.validate import shown as shown_scores

Told = Callable[[], bool]  # whether this rank was told to stop


class Judge:
    """Every rank has one, and all look together."""

    def __init__(
        self, job: Job, ranks: Ranks, journal: Journal, model: GPT, cursor: Cursor, *, has_parent: bool
    ) -> None:
        self._job, self._ranks, self._journal, self._model = job, ranks, journal, model
        self._has_parent = has_parent
        self._parts: dict[str, tuple[int, Callable[[Cursor, Told], None]]] = {}
        if job.held_out.sources:
            self._parts["heldout"] = (job.routine.validate_every, self._validate)
        if job.prompts.asked(chat=job.is_chat):
            self._parts["samples"] = (job.routine.sample_every, self._ask)
        if job.bundle:
            self._parts["core"] = (job.routine.core_every, self._judge_core)
        # The first rank has the journal.
        judged = ranks.gather(_judged_before(job, journal.records, cursor))[0]
        self._judged = {part: cursor for part in self._parts if part in judged}
        # What an attempt said further on is of weights that this one trains anew.
        samples = standing_samples(journal.records)
        self._said = [record for record in samples if record.get("rows_done", 0) <= cursor.rows_done]
        self._right = right_facts(self._said)

    def look(self, cursor: Cursor, told: Told) -> None:
        """Between steps. A parent's weights are judged as they come, by what this run counts: the two compare then."""
        if not (cursor.step or self._has_parent):
            return
        for part, (every, _) in self._parts.items():
            if cursor.step % every == 0 and self._judged.get(part) != cursor and not self._is_told(told):
                self._judge(part, cursor, told)

    def last(self, cursor: Cursor, told: Told) -> None:
        """After the last step. All but CORE is bounded and soon over: who asks now gets the ordinary end."""
        for part in self._parts:
            if self._judged.get(part) != cursor:
                self._judge(part, cursor, told)
        self._say_last(cursor)

    def _judge(self, part: str, cursor: Cursor, told: Told) -> None:
        _, act = self._parts[part]
        act(cursor, told)
        self._judged[part] = cursor

    def _is_told(self, told: Told) -> bool:
        return self._ranks.sum_counts(int(told()))[0] > 0

    # ---- what it looks at

    def _validate(self, cursor: Cursor, _told: Told) -> None:
        scores = validate(self._model, self._job.held_out, self._ranks, micro_batch=self._job.batch.micro_batch)
        self._write("eval", eval_records(cursor, scores))
        self._ranks.say(shown_scores(cursor.step, scores))

    def _ask(self, cursor: Cursor, _told: Told) -> None:
        """The first rank asks: an answer comes token by token, and there are few of them."""
        records = self._ranks.agree(lambda: self._answers(cursor) if self._ranks.is_first else [])
        self._write("sample", records)
        right = right_facts(records)
        if right:
            self._ranks.say(shown_facts(cursor.step, self._job.prompts, right, self._right))
        self._said, self._right = records, right

    def _answers(self, cursor: Cursor) -> list[Record]:
        job = self._job
        engine = Engine(self._model, job.vocab)
        return ask(engine, job.vocab, job.prompts, cursor, chat=job.is_chat, seed=job.settings.seed)

    def _judge_core(self, cursor: Cursor, told: Told) -> None:
        """Task by task: CORE takes minutes, and who is told to stop waits for one task at most."""
        job, bundle, scores = self._job, self._job.bundle, []
        assert bundle, "else it is no part"
        seq_len, most = job.recipe.seq_len, job.routine.core_max_per_task
        for task in bundle.tasks:
            if self._is_told(told):
                self._ranks.say(f"core step {cursor.step} | left off after {len(scores)} tasks: told to stop")
                return
            one = replace(bundle, tasks=(task,))
            scores += judge_core(self._model, job.vocab, one, self._ranks, seq_len=seq_len, max_per_task=most)
        self._write("eval", core_records(cursor, scores, bundle, seq_len=seq_len, max_per_task=most))
        self._ranks.say(shown_core(cursor.step, scores))

    def _say_last(self, cursor: Cursor) -> None:
        """Two of the answers; and once, what the model goes on with after --prompt."""
        if not self._ranks.is_first:
            return
        job = self._job
        here = [record for record in self._said if record.get("rows_done") == cursor.rows_done]
        for record in two_said(here, job.prompts, chat=job.is_chat):
            self._ranks.say(sample_lines(record, chat=job.is_chat))
        final = [record for record in here if record["prompt"] == job.routine.prompt and record["temperature"]]
        if not final:
            final = [sample(job, self._model, cursor)]
            self._write("sample", final)
        self._ranks.say(sample_lines(final[0], chat=job.is_chat))

    def _write(self, kind: str, records: Sequence[Record]) -> None:
        for record in records:
            self._journal.write(kind, **record)


def _judged_before(job: Job, records: Sequence[Record], cursor: Cursor) -> set[str]:
    """What the journal already tells, whole, of the weights that stand at `cursor`."""
    judged = {"heldout"} if is_judged(records, job.held_out, cursor) else set()
    if is_asked(records, job.prompts, cursor, chat=job.is_chat):
        judged.add("samples")
    for record in standing_evals(records):  # the mean over tasks is written last
        if (record["rows_done"], record["suite"], record["task"]) == (cursor.rows_done, CORE_SUITE, CORE_TASK):
            asked = (record.get("bundle_sha256"), record.get("max_per_task"))
            if job.bundle and asked == (job.bundle.sha256, job.routine.core_max_per_task):
                judged.add("core")
    return judged
