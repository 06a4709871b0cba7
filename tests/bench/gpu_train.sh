#!/usr/bin/env bash
# The trainer's speed on one GPU in one call of under 8 minutes, beside a plain eager baseline. Needs torch, nothing else:
#   bash tests/bench/gpu_train.sh            a table for docs/log.md, and gpu_train.json (in $OUT, or here)
#   bash tests/bench/gpu_train.sh --smoke    the same on any CPU with a tiny model, to see that the script works
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD" PYTORCH_ALLOC_CONF=expandable_segments:True
exec timeout --signal=INT 475 "${PYTHON:-python3}" tests/bench/gpu_train.py --json "${OUT:-.}/gpu_train.json" "$@"
