"""Quern's encode, as `python -m dataprep.shards` does it: each file hashed, encoded, checked, fsynced, with a receipt.

Measured: from the first look at what is held to the last receipt, on all cores.
Left out: imports, reading the ranks and tokens.db; gigatoken has seen no text before, as in every process.
"""

import sys
from pathlib import Path

from encode_common import N_WORKERS, Clock, arguments, say

from dataprep import shards
from dataprep.listing import list_source
from dataprep.paths import Paths
from dataprep.sources import Source
from dataprep.vocab_store import obtain_vocab

asked = arguments()
paths = Paths(root=asked.work)
source = Source(name="bench", kind="local", path=asked.text, layout="text", columns=("text",))
vocab = obtain_vocab(paths, "bench", vocab_file=asked.ranks)
assert vocab.engine
assert vocab.oracle
import awkward  # noqa: F401 -- before the clock starts, as in the script beside this one

listing = list_source(source, paths, offline=True)
names = {Path(file.name).name for file in listing.files} & {file.name for file in asked.files}
files = [file for file in listing.files if Path(file.name).name in names]
job = shards.Job(listing=listing, paths=paths, vocab=vocab, offline=True, engine="hub", strict=False)

clock = Clock()
outcomes = shards._bring(job, files, N_WORKERS, quiet=True)
clock.stop()

receipts = [outcome.receipt for outcome in outcomes if outcome.receipt]
if len(receipts) != len(asked.files):
    sys.exit(f"only {len(receipts)} of {len(asked.files)} shards")
oracle = sum(receipt.oracle.documents for receipt in receipts)
check = {"tokens": sum(receipt.tokens for receipt in receipts), "oracle_documents": oracle}
say(clock, sum(r.text_bytes for r in receipts), ["quern", "gigatoken"], check=check)
