"""The trainer's entry: `torchrun --standalone --nproc_per_node=2 train/main.py --manifest`, or plain python.

In:  the command line (see config.py). Out: a run in runs/<run>, and an exit code.
Holds: nothing is defined here; --help and usage errors come before torch is loaded.
"""

import importlib
import sys

from dataprep.errors import run
from train.config import parse_config
from train.leaving import leaving_whole

if __name__ == "__main__":
    config = parse_config(sys.argv[1:])
    with leaving_whole():
        run(lambda: importlib.import_module("train.loop").train(config))
