"""GGUF: llama.cpp's own converter, run on an export that was verified. What it writes is not looked into.

In:  a folder that transformers loads, the converter's file. Out: one .gguf file.
Holds: the converter is found before any work is done, and what it complains of is passed on.
Its limit: it knows tokenizers by their ids of one text, so it takes gpt2's vocabulary and may refuse one of your own.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from dataprep.errors import EnvironmentProblem

NAME = "convert_hf_to_gguf.py"
_OUT_TYPES = {"float32": "f32", "bfloat16": "bf16"}


def find_converter(asked: Path | None) -> Path:
    """The converter asked for, or the one on PATH. Raises EnvironmentProblem where there is none."""
    found = shutil.which(NAME) if asked is None else str(asked)
    if found is None or not Path(found).is_file():
        raise EnvironmentProblem(
            "GGUF files are made by llama.cpp's converter, which is not at hand",
            seen=f"no {NAME} on PATH" if asked is None else f"no file {asked}",
            wanted=f"--converter …/llama.cpp/{NAME}",
            fix="git clone https://github.com/ggml-org/llama.cpp && python -m pip install gguf"
            f"   # then --converter llama.cpp/{NAME}",
        )
    return Path(found).absolute()


def convert(converter: Path, folder: Path, out: Path, *, dtype: str) -> None:
    """Let it write `out` from `folder`. Raises EnvironmentProblem with its last words when it fails."""
    command = [sys.executable, str(converter), str(folder), "--outfile", str(out), "--outtype", _OUT_TYPES[dtype]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- the user named it
    if done.returncode or not out.is_file():
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise EnvironmentProblem(
            f"{converter.name} could not convert the export; nothing was published",
            seen=said[-1].strip() if said else f"exit code {done.returncode}, no word",
            wanted="a .gguf file",
            fix="python -m train.export … --to hf FOLDER; then run the converter on FOLDER yourself",
        )
