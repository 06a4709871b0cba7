"""Quern's data side: parquet in, exact plans out.

In:  text sources named in a catalogue. Out: bins, receipts, tokens.db, recipes, plans.
Holds: nothing in this package loads torch, and importing it loads nothing at all.
Run: `python -m dataprep.shards --help`; each verb is a module of its own.
"""

__version__ = "0.1.0"
