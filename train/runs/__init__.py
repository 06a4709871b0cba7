"""Runs: what there is in runs/ and its trash, told, moved and replayed. `python -m train.runs`; no torch."""
