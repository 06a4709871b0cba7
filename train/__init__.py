"""Quern's trainer: reads plans and bins, writes checkpoints and journals.

In:  a recipe, its plan and its bins, through dataprep's reading side.
Out: runs/<run>/checkpoints/ and runs/<run>/journal.jsonl.
Holds: nothing here imports anything, so that `train/main.py --help` stays quick.
"""
