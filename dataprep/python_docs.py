"""The Python installation's own documentation: module sources and manual topics, as named texts.

In:  the running interpreter's standard library (CPython 3.11 or newer, Debian's layouts too).
Out: `Document` values in name order: module `textwrap`, topic `topic assert`, …
Holds: files are read, never imported (importing `antigravity` opens a browser); the same
installation gives the same documents; tests, other people's packages and undecodable files stay out.
"""

import os
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dataprep.errors import EnvironmentProblem

_OTHER_FOLDERS = {
    "site-packages",  # not the standard library's
    "dist-packages",
    "test",  # fixtures, many of them broken on purpose
    "tests",
    "idle_test",
    "lib-dynload",  # binaries
    "__pycache__",
}
# What a build leaves behind says where the installation was compiled; the topics are documents of their own.
_OTHER_FOLDER_PREFIX, _OTHER_FILE_PREFIX, _TOPICS_MODULE = "config-", "_sysconfigdata", "pydoc_data.topics"


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text and the name it goes by."""

    name: str
    text: str


def read_modules() -> list[Document]:
    """The source of every standard module that has one. Raises EnvironmentProblem when none has."""
    library = Path(sysconfig.get_path("stdlib"))
    modules = [Document(name=name, text=text) for name, text in _sources(library) if text.strip()]
    if not modules:
        raise EnvironmentProblem(
            "this Python installation has no module sources to build the demo's corpus from",
            seen=f"no readable .py file under {library}",
            wanted="the standard library as source files",
            fix="install Python with its library (Debian: apt install python3 libpython3-stdlib)",
        )
    return sorted(modules, key=lambda module: module.name)


def read_topics() -> list[Document]:
    """Every topic of `help("topics")`: the language reference, in chapters."""
    from pydoc_data.topics import topics  # a table of texts: the one module that is safe to import, and meant to be

    return [Document(name=f"topic {label}", text=text.strip("\n")) for label, text in sorted(topics.items())]


def _sources(library: Path) -> Iterator[tuple[str, str]]:
    for file in _python_files(library):
        name = _module_name(file.relative_to(library))
        text = None if name == _TOPICS_MODULE else _decoded(file)
        if text is not None:
            yield name, text


def _python_files(library: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(library):
        subfolders[:] = [name for name in subfolders if _is_ours(name)]
        for file in files:
            path = Path(folder, file)
            # is_file: slim images leave links behind whose targets are gone.
            if file.endswith(".py") and not file.startswith(_OTHER_FILE_PREFIX) and path.is_file():
                yield path


def _is_ours(folder: str) -> bool:
    return folder not in _OTHER_FOLDERS and not folder.startswith(_OTHER_FOLDER_PREFIX)


def _module_name(relative: Path) -> str:
    """email/message.py is email.message; email/__init__.py is email."""
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _decoded(file: Path) -> str | None:
    """The file's text by its own encoding line, or None where it is not text."""
    try:
        with tokenize.open(file) as source:
            return source.read()
    except (SyntaxError, UnicodeDecodeError):  # an unknown encoding, or bytes that do not follow it
        return None
