"""Export: take a model elsewhere. A verb.

In:  --run RUN[@STEP], --to hf|gguf FOLDER. Out: a folder that other programs load; a short table of what was compared.
Holds: it is published whole, after it was loaded back and found to be the same model (exit 3 and no folder if not);
       the run, its journal and its checkpoints are only read.
Run: python -m train.export --run base --to hf elsewhere/base
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataprep.console import print_json
from dataprep.errors import Parser, UsageError, run
from dataprep.paths import Paths, find_paths
from dataprep.quantity import run_at_step

if TYPE_CHECKING:
    from train.weights import Opened

_EXPORTER = 1  # counts up when the same weights would give other bytes


def main(argv: Sequence[str] | None = None) -> int:
    """Write, verify, publish; push where asked."""
    args = _parse(argv)
    paths, folder = find_paths(), args.folder.resolve()
    converter = _converter(args)
    if args.verify:
        from train.export.verify import require_transformers

        require_transformers()
    from train.export.folder import RECEIPT, stands

    opened, of = _open(paths, args)
    was_there = stands(folder, of, force=args.force)
    if not was_there:
        _publish(paths, folder, opened, of, converter=converter, verify=args.verify)
    from dataprep.sealed import read_json

    receipt = read_json(folder / RECEIPT) or {}
    address = _push(args, folder, opened.label)
    if args.json:
        print_json({"folder": str(folder), "was_there": was_there, "pushed_to": address, **receipt})
    else:
        from train.export.page import print_page

        print_page(args, receipt, was_there=was_there, address=address)
    return 0


def _open(paths: Paths, args: argparse.Namespace) -> tuple["Opened", dict[str, Any]]:
    """The model, and what an export of it is of: equal for equal exports."""
    import torch

    from train.weights import has_talked, open_model

    opened = open_model(paths, *args.run, device=torch.device("cpu"))
    return opened, {
        "run": opened.run,
        "step": opened.checkpoint.cursor.step,
        "to": args.to,
        "dtype": args.dtype,
        "chat": has_talked(paths, opened),
        "weights_sha256": opened.checkpoint.weights_sha256,
        "recipe_sha256": opened.start["recipe_sha256"],
        "tokenizer_sha256": opened.vocab.fingerprint,
        "exporter": _EXPORTER,
    }


def _publish(
    paths: Paths, folder: Path, opened: "Opened", of: dict[str, Any], *, converter: Path | None, verify: bool
) -> None:
    from train.disk import refusing
    from train.export.folder import publishing_export
    from train.export.provenance import trace
    from train.export.write import write_card, write_export

    seen, settings = trace(paths, opened), {"dtype": of["dtype"], "talked": of["chat"]}
    needed = sum(weight.nbytes for weight in opened.model.state_dict().values())
    refusal = f"the export {folder.name} could not be written; nothing was changed"
    with refusing(refusal, folder, needed_bytes=needed), publishing_export(folder, of) as (part, facts):
        if converter is None:
            write_export(part, opened, seen, **settings)
            facts["verified"] = _verified(part, opened, of) if verify else None
            return
        from dataprep.temps import private_folder
        from train.export.gguf import convert

        with private_folder(folder.parent, folder.name) as between:
            write_export(between, opened, seen, **settings)
            facts["verified"] = _verified(between, opened, of) if verify else None
            convert(converter, between, part / f"{opened.label.replace('@', '-')}.gguf", dtype=of["dtype"])
        write_card(part, opened, seen, **settings)


def _verified(folder: Path, opened: "Opened", of: dict[str, Any]) -> dict[str, Any]:
    from dataclasses import asdict

    from train.export.verify import verify
    from train.export.write import DTYPES

    return asdict(verify(folder, opened, dtype=DTYPES[of["dtype"]], talked=of["chat"]))


def _converter(args: argparse.Namespace) -> Path | None:
    if args.to != "gguf":
        if args.converter:
            raise UsageError(
                "--converter is for --to gguf", seen=f"--to {args.to}", wanted="--to gguf", fix="leave it out"
            )
        return None
    from train.export.gguf import find_converter

    return find_converter(args.converter)


def _push(args: argparse.Namespace, folder: Path, label: str) -> str | None:
    if args.push is None:
        return None
    from train.export.push import push

    return push(folder, args.push, label=label, public=args.public)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m train.export",
        description="Write a checkpoint as other programs read it, load it back, compare, publish.",
        epilog="python -m train.export --run base@5000 --to hf elsewhere/base --dtype bfloat16",
    )
    add = parser.add_argument
    add("--run", type=run_at_step, required=True, metavar="RUN[@STEP]", help="(default step: its newest checkpoint)")
    add("--to", choices=("hf", "gguf"), required=True, help="hf: transformers, vLLM, …; gguf: llama.cpp, Ollama, …")
    add("folder", type=Path, metavar="FOLDER", help="a new folder; nothing but an export is ever replaced")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights (default: float32, exact)")
    add("--force", action="store_true", help="replace another export that stands in FOLDER")
    verify_help = "load it back with transformers and compare (default: yes)"
    add("--verify", action=argparse.BooleanOptionalAction, default=True, help=verify_help)
    add("--converter", type=Path, metavar="FILE", help="llama.cpp's convert_hf_to_gguf.py (default: on PATH)")
    add("--push", metavar="OWNER/NAME", help="and put it on the Hub (HF_ENDPOINT, HF_TOKEN)")
    add("--public", action="store_true", help="where everybody can read it (default: a private repository)")
    add("--json", action="store_true", help="exact numbers for machines")
    args = parser.parse_args(argv)
    if args.public and not args.push:
        parser.error("--public needs --push")
    return args


if __name__ == "__main__":
    run(main)
