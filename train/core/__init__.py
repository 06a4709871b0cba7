"""CORE (DCLM, Li et al. 2024): 22 tasks, and one number for all: chance is 0, GPT-2 XL 0.2565, all right 1.

In:  a model, its vocabulary, a bundle of tasks. Out: a `TaskScore` for each task, and their records.
Holds: prompts, spans and scores are those of nanochat's `core_eval.py`, the field's reference; what a model answers
       depends neither on how many items are computed together nor on how many ranks share them.
scores = judge_core(model, vocab, bundle, ranks, seq_len=2048, max_per_task=500)
"""

from train.core.judge import check_core, judge_core
from train.core.scores import CORE_SUITE, CORE_TASK, TaskScore, core_mean, core_records, shown

__all__ = ["CORE_SUITE", "CORE_TASK", "TaskScore", "check_core", "core_mean", "core_records", "judge_core", "shown"]
