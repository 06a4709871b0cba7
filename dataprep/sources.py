"""Sources: where text comes from, as data. One TOML table per source, checked where it is read.

In:  the built-in catalogue and, if given, the user's `--catalogue FILE`.
Out: `Source` values by name, in catalogue order.
Holds: a bad entry is refused with the file and line to fix; held-out shards are pinned by name.

    [my-docs]
    kind = "local"              # local | hub | url (and python, built in)
    path = "docs"               # a folder beside this file, with .parquet or .jsonl shards
    text = "text"               # the column; for conversations one of the layouts below
    holdout = ["shard_00002"]

One kind is no text: `bundle`, with the `url` of a .zip that evaluates. `fetch` brings it; nothing else takes it.
"""

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from dataprep.errors import UsageError

BUILT_IN = Path(__file__).with_name("catalogue.toml")
LAYOUTS = {  # the keys that name a layout's columns, in order
    "text": ("text",),
    "messages": ("messages",),  # a list of {role, content}
    "conversations": ("conversations",),  # a list of texts, user first, or of {from, value}
    "question": ("question", "answer"),
    "choices": ("question", "choices", "answer"),
}
_COLUMN_KEYS = {key for keys in LAYOUTS.values() for key in keys}
SHARD_SUFFIXES = (".parquet", ".jsonl")
BUNDLE = "bundle"  # the kind that is no text: what models are asked
_REQUIRED = {"local": {"path"}, "hub": {"repo", "files"}, "url": {"urls"}, "python": set(), BUNDLE: {"url"}}
_OPTIONAL = {"local": set(), "hub": {"revision"}, "url": {"sha256"}, "python": set(), BUNDLE: set()}
_COMMON = {"kind", "holdout", "licence", *_COLUMN_KEYS}
SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_LONGEST_PART_BYTES = 255
_LONGEST_NAME_BYTES = 200  # a file system allows 255; a temp's name is longer than what it becomes


@dataclass(frozen=True, kw_only=True)
class Source:
    """One catalogue entry. `layout` says how `columns` hold a document: they are named in LAYOUTS' order."""

    name: str
    kind: str
    layout: str
    columns: tuple[str, ...]
    holdout: tuple[str, ...] = ()
    licence: str = "unknown"
    repo: str | None = None
    revision: str = "main"
    files: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    sha256: Mapping[str, str] | None = None
    path: Path | None = None

    def split_of(self, shard: str) -> str:
        """`holdout` for a shard pinned by name or pattern, `train` for every other."""
        return "holdout" if any(fnmatchcase(shard, pattern) for pattern in self.holdout) else "train"


def load_catalogue(extra: Path | None = None) -> dict[str, Source]:
    """Built-in sources, then those of `extra`, by name. Raises UsageError naming file and line."""
    sources = _read(BUILT_IN)
    if extra is None:
        return sources
    for name, source in _read(extra).items():
        if name in sources:
            _refuse(extra, name, None, f"the name {name!r} is taken by the built-in catalogue", "another name")
        sources[name] = source
    return sources


def find_source(sources: Mapping[str, Source], name: str) -> Source:
    """The source of texts called `name`, or a UsageError that lists the names there are."""
    refuse_bundle(sources, name)
    if name not in sources:
        raise UsageError(
            f"no source is called {name!r}",
            seen=name,
            wanted="one of " + ", ".join(sources),
            fix="choose one of them, or describe yours in a file: --catalogue my.toml",
        )
    return sources[name]


def find_bundle(sources: Mapping[str, Source], name: str) -> Source | None:
    """The evaluation bundle called `name`; None where the name is another's or nobody's."""
    return sources[name] if name in sources and sources[name].kind == BUNDLE else None


def refuse_bundle(sources: Mapping[str, Source], name: str) -> None:
    """Raise UsageError for the name of an evaluation bundle: what a model is asked, it must not be trained on."""
    if find_bundle(sources, name):
        raise UsageError(
            f"{name!r} is an evaluation bundle and not a source of texts",
            seen=name,
            wanted="a source to train on: " + ", ".join(n for n in sources if sources[n].kind != BUNDLE),
            fix=f"choose one of them; python -m dataprep.fetch --source {name} brings the bundle for evaluation",
        )


def shard_name(file_name: str) -> str:
    """The shard a file becomes: its base name without the suffix."""
    return PurePosixPath(file_name).name.removesuffix(PurePosixPath(file_name).suffix)


def why_no_shard(shard: str) -> str | None:
    """Why a file of that name cannot become a shard: bins, receipts and commands are named by it. None where it can."""
    if not shard.isprintable() or shard != shard.strip():
        return "characters that cannot be seen"
    if not shard or shard.startswith((".", "-")):
        return "nothing, or a dot or dash, to begin with"
    if any(c in shard for c in "/\\*?[]"):
        return "characters of a path or a pattern"
    n_bytes = len(shard.encode())
    return f"{n_bytes:,} bytes, and {_LONGEST_NAME_BYTES} can be held" if n_bytes > _LONGEST_NAME_BYTES else None


def look_alike(shard: str) -> str:
    """The same text for names that a file system or an eye may take for one another: é in one or two characters."""
    return unicodedata.normalize("NFKC", shard)


def make_shards(source: str, *, n: int = 1, tokenizer: str = "gpt2") -> str:
    """The command that brings shards of `source`; where it is not built in, with a catalogue to name."""
    given = f" TOKENIZER={tokenizer}" if tokenizer != "gpt2" else ""
    return f"make shards SOURCE={source} N={n}{given}" + ("" if is_built_in(source) else " CATALOGUE=my.toml")


def fetch_command(source: str, *, n: int = 1) -> str:
    """The command that fetches `n` train shards of `source` and its held-out ones, as far as they are missing."""
    return f"python -m dataprep.fetch --source {source}{'' if is_built_in(source) else ' --catalogue my.toml'} --n {n}"


def is_built_in(source: str) -> bool:
    """Whether no catalogue needs to be named for it."""
    return source in _read(BUILT_IN)


def _read(file: Path) -> dict[str, Source]:
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(
            f"there is no catalogue at {file}", seen="no such file", wanted="a TOML file", fix="check --catalogue"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{file} is not valid TOML", seen=error, wanted="one [table] per source", fix=f"edit {file}"
        ) from None
    return {name: _source(file, name, entry) for name, entry in entries.items()}


def _source(file: Path, name: str, entry: Any) -> Source:
    if not isinstance(entry, dict) or not SOURCE_NAME.fullmatch(name):
        wanted = "a [table] named in at most 100 of a-z, 0-9, '.', '_' and '-'"
        _refuse(file, name, None, f"{name[:120]!r} is not a source", wanted)
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in _REQUIRED or (kind == "python" and file != BUILT_IN):
        _refuse(file, name, "kind", f"kind = {kind!r}", "local, hub or url")
    _check_keys(file, name, entry, kind)
    layout = next((layout for layout, keys in LAYOUTS.items() if set(keys) == _COLUMN_KEYS & entry.keys()), BUNDLE)
    return Source(
        name=name,
        kind=kind,
        layout=layout,
        columns=tuple(_text(file, name, entry, key) for key in LAYOUTS.get(layout, ())),
        holdout=_texts(file, name, entry, "holdout"),
        licence=_text(file, name, entry, "licence", "unknown"),
        repo=_repo(file, name, entry) if kind == "hub" else None,
        revision=_text(file, name, entry, "revision", "main"),
        files=_texts(file, name, entry, "files"),
        urls=_urls(file, name, entry) if kind == "url" else _bundle_url(file, name, entry) if kind == BUNDLE else (),
        sha256=entry.get("sha256"),
        path=_folder(file, name, entry) if kind == "local" else None,
    )


def _check_keys(file: Path, name: str, entry: Mapping[str, Any], kind: str) -> None:
    missing = _REQUIRED[kind] - entry.keys()
    unknown = sorted(entry.keys() - _COMMON - _REQUIRED[kind] - _OPTIONAL[kind])
    column_keys = _COLUMN_KEYS & entry.keys()
    if missing:
        _refuse(file, name, None, f"no {', '.join(sorted(missing))}", f"every {kind} source has it")
    if unknown:
        _refuse(file, name, unknown[0], f"unknown key {unknown[0]!r}", "the keys in docs/formats.md")
    if kind == BUNDLE and (strange := sorted(column_keys | {"holdout"} & entry.keys())):
        _refuse(file, name, strange[0], f"{strange[0]} for a bundle", "kind, url and licence: it is no text")
    if kind != BUNDLE and column_keys not in map(set, LAYOUTS.values()):
        layouts = ", ".join(" + ".join(keys) for keys in LAYOUTS.values())
        _refuse(file, name, None, f"columns for {' + '.join(sorted(column_keys)) or 'nothing'}", f"one of {layouts}")


def _text(file: Path, name: str, entry: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = entry.get(key, default)
    if not isinstance(value, str) or not value:
        _refuse(file, name, key, f"{key} = {value!r}", "a text in quotes")
    return value


def _texts(file: Path, name: str, entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = entry.get(key, [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) and item for item in values):
        _refuse(file, name, key, f"{key} = {value!r}", "a list of texts")
    return tuple(values)


def _repo(file: Path, name: str, entry: Mapping[str, Any]) -> str:
    repo = _text(file, name, entry, "repo")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        _refuse(file, name, "repo", f"repo = {repo!r}", "owner/name, as the Hub writes it")
    return repo


def _urls(file: Path, name: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    urls = _texts(file, name, entry, "urls")
    _refuse_logins(file, name, "urls", urls)
    bad = [url for url in urls if not re.match(r"https?://", url) or not url.endswith(SHARD_SUFFIXES)]
    if bad or not urls:
        _refuse(file, name, "urls", f"urls = {bad or 'none'}", "http(s) addresses of .parquet or .jsonl files")
    hashes = entry.get("sha256", {})
    if not isinstance(hashes, dict) or not all(re.fullmatch("[0-9a-f]{64}", str(h)) for h in hashes.values()):
        _refuse(file, name, "sha256", f"sha256 = {hashes!r}", '{ shard_00000 = "64 hex digits" }')
    return urls


def _refuse_logins(file: Path, name: str, key: str, urls: tuple[str, ...]) -> None:
    """Receipts, bins and errors name an address as it is: what they must not quote cannot be part of it."""
    if any(re.match(r"\w+://[^/?#]*@", url) for url in urls):
        _refuse(file, name, key, "an address with a name or password in it (…@host)", "one that needs no login")


def _bundle_url(file: Path, name: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    url = _text(file, name, entry, "url")
    _refuse_logins(file, name, "url", (url,))
    if not re.match(r"https?://", url) or not url.endswith(".zip"):
        _refuse(file, name, "url", f"url = {url!r}", "the http(s) address of a .zip")
    return (url,)


def _folder(file: Path, name: str, entry: Mapping[str, Any]) -> Path:
    relative = PurePosixPath(_text(file, name, entry, "path"))
    # Judged by its spelling: a symbolic link inside the folder is the user's own decision.
    if relative.is_absolute() or ".." in relative.parts:
        _refuse(file, name, "path", f"path = {str(relative)!r}", "a folder at or below the catalogue's own")
    if not str(relative).isprintable() or any(len(part.encode()) > _LONGEST_PART_BYTES for part in relative.parts):
        _refuse(file, name, "path", f"path = {str(relative)[:60]!r}", "a folder that can be")
    return file.resolve().parent / relative


def _refuse(file: Path, name: str, key: str | None, seen: str, wanted: str) -> NoReturn:
    line = _line_of(file, name, key)
    raise UsageError(
        f"source {name!r} in the catalogue is not usable",
        seen=seen,
        wanted=wanted,
        fix=f"edit {file}, line {line}",
    )


def _line_of(file: Path, name: str, key: str | None) -> int:
    """The line of `key` in table `name`, or of the table's header: tomllib keeps no positions."""
    lines = file.read_text(encoding="utf-8").splitlines()
    quoted = rf"""["']?{re.escape(name)}["']?\s*"""
    header = re.compile(rf"\s*(\[\s*{quoted}[\].]|{quoted}=)")
    start = next((number for number, line in enumerate(lines) if header.match(line)), 0)
    for number, line in enumerate(lines[start + 1 :], start + 1):
        if line.lstrip().startswith("["):
            break
        if key is not None and re.match(rf"\s*{re.escape(key)}\s*=", line):
            return number + 1
    return start + 1
