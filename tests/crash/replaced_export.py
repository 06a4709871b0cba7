"""What `train.export --force` does to a folder, without the weights: so it can be killed often, and loads no torch.

In:  a folder, and a word that the files hold. Out: the export, published over whatever export stood there.
Holds: the same two calls as the verb makes, in the same order.
python tests/crash/replaced_export.py FOLDER WORD
"""

from pathlib import Path

from train.export.folder import publishing_export, stands


def main(argv: list[str]) -> int:
    """Replace it."""
    folder, word = Path(argv[0]), argv[1]
    if not stands(folder, {"word": word}, force=True):
        with publishing_export(folder, {"word": word}) as (part, _):
            for name in ("model.safetensors", "README.md"):
                (part / name).write_text(word * 100)
    return 0
