"""What any bytes may be given to: each reader returns a value or says why not; each fast path agrees with its oracle.

In:  bytes. Out: nothing. Raises whatever is a defect: AssertionError, or an exception that is no QuernError.
Run: `TARGETS[name](folder)(data)`; tests/faults/test_fuzz.py tries a few, tests/torture/fuzz.py many.
"""

import argparse
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from bundle_maker import write_bundle
from conftest import byte_ranks

from dataprep import (
    asked,
    bins,
    bundle,
    chat,
    foreign_formats,
    foreign_import,
    harvest,
    layouts,
    ledger,
    quantity,
    recipe,
    sources,
    standing,
    turns,
)
from dataprep.assembly import follow
from dataprep.documents import read_batches
from dataprep.errors import QuernError
from dataprep.paths import Paths
from dataprep.sealed import read_json
from dataprep.vocab import Vocab
from dataprep.vocab_store import load_vocab, publish_vocab

Target = Callable[[bytes], None]


def check_told(error: QuernError) -> None:
    """Three lines, and nothing in them that steers a terminal."""
    assert str(error).count("\n") == 2
    assert str(error).replace("\n", "").isprintable()


def reading(name: str, read: Callable[[Path], object]) -> Callable[[Path], Target]:
    """A reader of a file: a value or a QuernError."""

    def at(folder: Path) -> Target:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)

        def target(data: bytes) -> None:
            file.write_bytes(data)
            try:
                read(file)
            except QuernError as error:
                check_told(error)

        return target

    return at


def parsing(parse: Callable[[bytes], object]) -> Callable[[Path], Target]:
    """A parser of bytes or of text: a value, a QuernError or a complaint of the command line."""

    def at(_: Path) -> Target:
        def target(data: bytes) -> None:
            with contextlib.suppress(QuernError, argparse.ArgumentTypeError):
                parse(data)

        return target

    return at


def encoding(folder: Path) -> Target:
    """Any text: the fast encoder and tiktoken agree, and no special comes of it."""
    vocab = _vocab(folder)

    def target(data: bytes) -> None:
        text = data.decode(errors="ignore")
        ids, offsets = vocab.encode_texts(pa.array([text, "", text[::-1]], pa.large_string()))
        cut = [ids[offsets[i] : offsets[i + 1]].tolist() for i in range(3)]
        assert cut == [vocab.encode_ordinary(text), [], vocab.encode_ordinary(text[::-1])]
        assert not (ids >= vocab.n_ranks).any()

    return target


def rendering(folder: Path) -> Target:
    """Any JSON as a conversation: a thousand at once give what one at a time gives."""
    vocab = _vocab(folder)

    def target(data: bytes) -> None:
        try:
            value = json.loads(data.decode())
            data.decode().encode()
        except (ValueError, RecursionError):
            return
        for layout in ("messages", "conversations"):
            if isinstance(value, list):
                check_conversation(vocab, layout, value)

    return target


def check_conversation(vocab: Vocab, layout: str, value: list[Any]) -> None:
    """One conversation by both paths; where Arrow can hold it as a column, by the column's path too."""
    found = layouts.read_document(layout, [value])
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair: documents.py names the row
    wanted = ([], []) if isinstance(found, str) else chat.render(vocab, found)
    scripts = [turns.script_of_messages([found])]
    try:
        column = pa.array([value])
        if layouts.wanted_type(layout, layout, column.type) is None:
            scripts.append(turns.script_of_column(column, layout))
    except (pa.ArrowException, TypeError, OverflowError):
        pass  # one column cannot hold values of two types
    for script in scripts:
        done = follow(script, *vocab.encode_texts(script.texts), vocab)
        loss = [] if done.loss is None else done.loss.tolist()
        assert (done.tokens.tolist(), loss) == wanted
        assert [script.reasons[0]] == [found if isinstance(found, str) else None]


def _vocab(folder: Path) -> Vocab:
    publish_vocab(Paths(root=folder), "tiny-bpe", byte_ranks(), origin="made by the tests")
    return load_vocab(Paths(root=folder), "tiny-bpe")


def _bundle_file(name: str) -> Callable[[Path], Target]:
    """One file of a small bundle is whatever it is."""

    def at(folder: Path) -> Target:
        top = write_bundle(folder)

        def target(data: bytes) -> None:
            (top / name).write_bytes(data)
            try:
                bundle.open_bundle(top)
            except QuernError as error:
                check_told(error)

        return target

    return at


def documents_of(folder: Path) -> Target:
    """The bytes as a source's file of each kind, read as each layout."""

    def target(data: bytes) -> None:
        for suffix in (".jsonl", ".parquet"):
            file = folder / f"odd{suffix}"
            file.write_bytes(data)
            for layout, columns in sources.LAYOUTS.items():
                try:
                    assert sum(map(len, read_batches(file, columns, layout))) > 0
                except QuernError as error:
                    check_told(error)

    return target


def importing(folder: Path) -> Target:
    """The bytes as another tool's tokens and as all that may lie beside them; what is imported has its ends."""
    vocab = _vocab(folder)
    made = {"split": "train", "licence": "x", "folder": folder / "made", "one_document": True}

    def target(data: bytes) -> None:
        for format_, suffix in foreign_import.SUFFIX_OF.items():
            file = folder / f"a{suffix}"
            for name in (file.name, "a.idx", f"{file.name}.index"):
                (folder / name).write_bytes(data)
            try:
                foreign = foreign_import.open_foreign(format_, file)
                foreign_import.check_first_tokens(foreign, vocab, one_document=True)
                receipt, _ = foreign_import.import_shard(foreign, "odd", vocab=vocab, **made)
            except QuernError as error:
                check_told(error)
            else:
                tokens = np.fromfile(folder / "made/a.bin", "<u2")
                assert (tokens == vocab.end_id).sum() == receipt.end_tokens

    return target


def harvesting(folder: Path) -> Target:
    """The bytes as every record of a root at once: each is left out with a note, or kept."""
    paths = Paths(root=folder)
    records = [paths.source_record("a"), paths.bins("t", "a") / "s.json", paths.recipes / "r.toml"]
    records += [paths.journal("run"), paths.findings("run")]

    def target(data: bytes) -> None:
        for file in records:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        harvest.collect(paths)

    return target


def _megatron(data: bytes) -> None:
    foreign_formats.parse_megatron_index("some.idx", data, 2 * len(data))
    foreign_formats.parse_megatron_index("some.idx", foreign_formats._MEGATRON_MAGIC + data, 2 * len(data))


def _ledger(file: Path) -> None:
    records = ledger.read_journal(file).records
    standing.standing_evals(records)
    ledger.rows_in_weights(records)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "receipt": reading("data/bins/tiny-bpe/odd/shard_0.json", bins.read_receipt),
    "recipe": reading("odd.toml", recipe.read_recipe),
    "journal": reading("runs/odd/journal.jsonl", _ledger),
    "findings": reading("runs/odd/findings.jsonl", standing.read_findings),
    "request": reading("odd.json", asked.read_asked),
    "record": reading("odd.json", read_json),
    "catalogue": reading("my.toml", sources.load_catalogue),
    "bundle zip": reading("odd.zip", bundle.open_bundle),
    "bundle list": _bundle_file("core.yaml"),
    "bundle baselines": _bundle_file("eval_meta_data.csv"),
    "mix": parsing(lambda data: quantity.ratio(data.decode(errors="surrogateescape"))),
    "budget": parsing(lambda data: quantity.count(data.decode(errors="surrogateescape"))),
    "name": parsing(lambda data: quantity.run_at_step(data.decode(errors="surrogateescape"))),
    "llm.c header": parsing(lambda data: foreign_formats.parse_llmc_header("some.bin", data, len(data))),
    "megatron index": parsing(_megatron),
    "datatrove index": parsing(lambda data: foreign_formats.parse_datatrove_index("some.ds.index", data, 9)),
    "datatrove metadata": parsing(lambda data: foreign_formats.check_datatrove_metadata("some.ds.metadata", data, 9)),
    "documents": documents_of,
    "foreign import": importing,
    "every record": harvesting,
    "encode": encoding,
    "conversation": rendering,
}
