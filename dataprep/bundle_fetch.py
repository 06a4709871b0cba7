"""Bundle fetch: an evaluation bundle's zip onto this disk, verified, and the same one for ever after.

In:  a catalogue entry of kind `bundle`. Out: data/bundles/<name>.zip, and its receipt <name>.json beside it.
Holds: a zip gets its name only when its size is what the server said and every entry's checksum is right;
the first fetch keeps the sha256, and a zip that differs from it is refused however it came here: scores of two
bundles are scores of two examinations. What is here and agrees is not fetched again.
"""

import functools
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from dataprep import urls
from dataprep.console import Progress
from dataprep.errors import DataError, quoted
from dataprep.hashing import sha256_file
from dataprep.paths import Paths
from dataprep.patience import MayPass
from dataprep.publish import adopt
from dataprep.retry import persist
from dataprep.sealed import publish_record, read_json
from dataprep.sources import Source, load_catalogue
from dataprep.temps import private_folder, sweep

_SHOWN_BYTES = 16


def fetch_bundle(source: Source, paths: Paths, *, offline: bool = False, quiet: bool = False) -> tuple[Path, bool]:
    """(The verified zip, whether it was here before). Raises DataError naming the bundle."""
    file, command = paths.bundles / f"{source.name}.zip", _command(source)
    known = _known_sha256(_receipt(file))
    if known and file.is_file() and sha256_file(file) == known:
        return file, True
    if offline:
        raise DataError(
            f"{source.name} is not here",
            seen=f"no {paths.shown(file)} that its receipt names, and --offline",
            wanted="a fetched, verified zip",
            fix=f"{command}   # without --offline",
        )
    sweep(paths.bundles)  # what a killed download left behind
    with Progress(f"fetch {source.name}", 0, quiet=quiet) as progress:
        attempt = functools.partial(_attempt, source, file, known, progress.advance)
        persist(attempt, f"{source.name} cannot be fetched", command)
    return file, False


def _attempt(source: Source, file: Path, known: str | None, report: Callable[[int], None]) -> None:
    """Download once into a folder of our own, judge, publish: the zip, then its receipt."""
    [url] = source.urls
    with private_folder(file.parent, file.name) as folder:
        part = folder / file.name
        urls.download(url, part, headers={}, refused=functools.partial(_refused, source), report=report)
        _judge_form(part)
        n_bytes, sha256 = part.stat().st_size, sha256_file(part)
        if known not in {None, sha256}:
            raise _changed(source, file, str(known), sha256)
        adopt(part, file)
    publish_record(_receipt(file), {"url": url, "bytes": n_bytes, "sha256": sha256})


def _judge_form(part: Path) -> None:
    """Every entry's checksum. A proxy's page with status 200 is no zip, whatever its size."""
    with part.open("rb") as content:
        head = content.read(_SHOWN_BYTES)
    try:
        with zipfile.ZipFile(part) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise MayPass(f"what came begins with {head!r}: not a whole zip ({error})") from None
    if bad is not None:
        raise MayPass(f"{bad} in what came is damaged")


def _command(source: Source) -> str:
    catalogue = "" if source.name in load_catalogue() else " --catalogue FILE"
    return f"python -m dataprep.fetch --source {source.name}{catalogue}"


def _receipt(file: Path) -> Path:
    return file.with_suffix(".json")


def _known_sha256(receipt: Path) -> str | None:
    """What the first fetch brought. A receipt that is damaged is not taken for none: it would admit any other zip."""
    if not receipt.exists():
        return None
    sha256 = (read_json(receipt) or {}).get("sha256")
    if not isinstance(sha256, str):
        raise DataError(
            f"the receipt {receipt.name} of an evaluation bundle cannot be read",
            seen="no sha256 in it",
            wanted="what the first fetch kept",
            fix=f"bring it back from a copy; or rm {quoted(receipt)} to begin anew with what the address has now",
        )
    return sha256


def _changed(source: Source, file: Path, known: str, sha256: str) -> DataError:
    return DataError(
        f"{source.name} is not the bundle that was fetched first: scores would not compare",
        seen=f"sha256 {sha256[:12]}… from {source.urls[0]}",
        wanted=f"{known[:12]}…",
        fix=f"bring {file.name} back from a copy; or rm {quoted(_receipt(file))} to begin anew with the new one",
    )


def _refused(source: Source, status: int) -> DataError:
    if status not in urls.DENIED:
        fix = "correct the address in the catalogue; then the same command again"
        return DataError(f"{source.urls[0]} cannot be fetched", seen=f"HTTP {status}", wanted="HTTP 200", fix=fix)
    return DataError(
        f"{source.name} needs a login",
        seen=f"HTTP {status}",
        wanted="HTTP 200 or 206",
        fix='an address that needs none, in a catalogue of your own with kind = "bundle"',
    )
