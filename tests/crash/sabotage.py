"""Promises broken on purpose: what a driver that kills must find, or it proves nothing.

In:  a name. Out: the product, in this process and its forks, without the promise.
Holds: a sabotage is one that real code has had: a file written under its name, a temp that nobody sweeps.
"""

from pathlib import Path

from dataprep import publish, shards


def break_promise(name: str) -> None:
    """Take the promise away."""
    _SABOTAGES[name]()


def _write_in_place() -> None:
    """The final name is there while the file is not whole: a copy, as people make who never heard of rename."""
    rename = publish._rename

    def copied(part: Path, path: Path) -> None:
        with path.open("wb") as out:
            out.write(part.read_bytes()[: part.stat().st_size // 2])
        publish._reached("synced", path)
        rename(part, path)

    publish._rename = copied


def _sweep_nothing() -> None:
    shards.sweep = lambda _folder: []


_SABOTAGES = {
    "written in place": _write_in_place,
    "nothing swept": _sweep_nothing,
}
