"""The one exception family, and the one place where it becomes text and an exit code.

In:  what happened, the value seen, the value wanted, the command that mends it.
Out: three lines on stderr and an exit code: 2 usage, 3 data, 4 budget, 5 environment.
Holds: a user's mistake never ends in a traceback; a programmer's mistake always does.
"""

import argparse
import contextlib
import errno
import itertools
import os
import re
import resource
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TextIO

_KEY_FLAG = "--api-key"
EXIT_INTERRUPTED = 130
STOPPED = "\nstopped; everything finished is kept, the same command goes on from here"
EXIT_PIPE_CLOSED = 141  # as a program ends that SIGPIPE kills
_NO_TEMP = "No usable temporary directory"  # Python's own words
_OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ENVIRONMENT = _OUT_OF_SPACE | {
    errno.EACCES,
    errno.EEXIST,
    errno.EIO,
    errno.EISDIR,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


class QuernError(Exception):
    """Something the reader can mend. Raise one of the subclasses.

    >>> print(DataError("shard_00012.bin was cut short", seen="71,000,064 tokens",
    ...                 wanted="99,998,212", fix="make shards N=178"))
    error: shard_00012.bin was cut short
      seen: 71,000,064 tokens, wanted: 99,998,212
      fix:  make shards N=178
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, seen: object, wanted: object, fix: str) -> None:
        # What is seen may be anybody's bytes, and parts of errors are printed in many places: made harmless once, here.
        self.what, self.seen, self.wanted, self.fix = (_harmless(part) for part in (what, seen, wanted, fix))
        what, seen, wanted, fix = (_one_line(part) for part in (self.what, self.seen, self.wanted, as_typed(self.fix)))
        super().__init__(f"error: {what}\n  seen: {seen}, wanted: {wanted}\n  fix:  {fix}")


class UsageError(QuernError):
    """The command line or a file the user wrote asks for something that cannot be."""

    exit_code = 2


class DataError(QuernError):
    """Data is missing, incomplete or not what its receipt says."""

    exit_code = 3


class BudgetError(QuernError):
    """The budget asked for cannot be met by what is held."""

    exit_code = 4


class EnvironmentProblem(QuernError):  # noqa: N818 -- EnvironmentError is a name Python uses for OSError
    """The machine cannot do it: no space, no permission, no device, no package."""

    exit_code = 5


def as_typed(command: str) -> str:
    """`command` as this person must type it: in a virtual environment that is not activated, by its path.

    >>> as_typed("python -m dataprep.index")  # started as .venv/bin/python
    '.venv/bin/python -m dataprep.index'
    """
    if sys.prefix == sys.base_prefix or os.environ.get("VIRTUAL_ENV"):
        return command
    folder = Path(sys.prefix, "bin")
    folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    return re.sub(r"(?<![\w./-])(python|torchrun)(?= -| train/)", rf"{folder}/\1", command)


def quoted(path: object) -> str:
    """A path in a command to be pasted: `rm /My Data/x` would take two other things away."""
    return shlex.quote(str(path))


def visible(text: str, *, keep: str = "") -> str:
    r"""The text with control characters spelled out, but those in `keep`: nothing quoted steers the terminal.

    >>> visible("red \x1b[31m")
    'red \\x1b[31m'
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def _harmless(part: Any) -> Any:
    return part if isinstance(part, int | float) else visible(str(part), keep="\n")


def _one_line(part: object) -> str:
    return visible(" ".join(str(part).splitlines()))


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints look like every other error of ours; flags are spelled out."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Print three lines instead of the whole usage; exit 2."""
        mistake = UsageError(
            f"{self.prog}: {_without_secrets(message)}",
            seen=_without_secrets(" ".join(sys.argv[1:])) or "no arguments",
            wanted="arguments as in --help",
            fix=f"{self.prog} --help",
        )
        self.exit(UsageError.exit_code, f"{mistake}\n")


def _without_secrets(text: str) -> str:
    """The text without what follows --api-key on this command line: errors end up in logs and in bug reports."""
    words = sys.argv[1:]
    secrets = [word.removeprefix(f"{_KEY_FLAG}=") for word in words if word.startswith(f"{_KEY_FLAG}=")]
    secrets += [value for flag, value in itertools.pairwise(words) if flag == _KEY_FLAG]
    for secret in filter(None, secrets):
        text = text.replace(secret, "…")
    return text


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a verb's `main` and leave the process with the exit code it earned."""
    _raise_open_file_limit()
    try:
        code = main() or 0
    except QuernError as error:
        _leave(str(error), error.exit_code)
    except KeyboardInterrupt:
        _leave(STOPPED, EXIT_INTERRUPTED)
    except BrokenPipeError:
        _leave("", EXIT_PIPE_CLOSED)  # the reader (head, less) left before the verb was done
    except OSError as error:
        if error.errno not in _ENVIRONMENT and _NO_TEMP not in str(error) and not _link_to_nowhere(error):
            raise
        _leave(str(_from_os(error)), EnvironmentProblem.exit_code)
    _leave("", code)


def disk_error(error: OSError, path: Path, *, needed_bytes: int | None = None) -> OSError:
    """`error` with the file it is about, and how many bytes were to fit there: the system says neither."""
    named = OSError(error.errno, error.strerror or str(error), str(path))
    named.needed_bytes = needed_bytes  # pyright: ignore[reportAttributeAccessIssue] -- read by _from_os
    return named


def _raise_open_file_limit() -> None:
    """Every mapped shard is an open file, and 1,024 is a usual limit: take what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _leave(message: str, code: int) -> NoReturn:
    """Say why, flush, exit. Output that cannot be written changes no exit code but that of a success."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _point_nowhere(sys.stdout)  # the reader has what it wanted
    except OSError as error:
        _point_nowhere(sys.stdout)
        message, code = message or str(_from_os(error)), code or EnvironmentProblem.exit_code
    try:
        print(message, end="\n" if message else "", file=sys.stderr, flush=True)
    except OSError:
        _point_nowhere(sys.stderr)  # it may go to the disk that is full: then the exit code says it alone
    sys.exit(code)


def _point_nowhere(stream: TextIO) -> None:
    """Else the interpreter flushes it once more at its end, fails again and exits 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _link_to_nowhere(error: OSError) -> Path | None:
    """The symbolic link that an error is about, where there is nothing at its end: a disk is not mounted, or a loop."""
    link = Path(error.filename) if isinstance(error.filename, str) else None
    return link if link and link.is_symlink() and not link.exists() else None


def _from_os(error: OSError) -> EnvironmentProblem:
    if link := _link_to_nowhere(error):
        return EnvironmentProblem(
            f"{link} is a link that leads nowhere",
            seen=f"it points to {link.readlink()}",
            wanted="what was there",
            fix=f"ls -l {quoted(link)}; bring back (mount?) what it points to, or take the link away",
        )
    if _NO_TEMP in str(error):  # a library asks for one when it is loaded
        return EnvironmentProblem(
            "no temporary folder can be written",
            seen=str(error.strerror),
            wanted="a few bytes free in one of them",
            fix="df -h /tmp; make space, or export TMPDIR=FOLDER; then the same command again",
        )
    if error.errno == errno.EMFILE:
        return EnvironmentProblem(
            "too many files are open at once",
            seen=f"a limit of {resource.getrlimit(resource.RLIMIT_NOFILE)[1]:,}",
            wanted="one per shard and a few more",
            fix="ulimit -n 65536 (as root, or in limits.conf); then the same command again",
        )
    where = error.filename or "a file being written"
    if error.errno in _OUT_OF_SPACE:
        return _out_of_space(error, Path(error.filename) if error.filename else Path.cwd())
    return EnvironmentProblem(
        f"could not use {where}",
        seen=os.strerror(error.errno or 0),
        wanted="a readable, writable path on a healthy disk",
        fix=f"df -h {quoted(error.filename or '.')}; then the same command again",
    )


def _out_of_space(error: OSError, path: Path) -> EnvironmentProblem:
    """Temps are gone by now, so what is free is what the next try finds."""
    folder = next(held for held in (path.parent, *path.parent.parents) if held.is_dir())
    needed = getattr(error, "needed_bytes", None)
    return EnvironmentProblem(
        f"no space for {error.filename or 'a file being written'}",
        seen=f"{os.strerror(error.errno or 0)}; {shutil.disk_usage(folder).free:,} bytes free in {folder}",
        wanted=f"more than {needed:,} bytes free there" if needed else "free space there",
        fix=f"df -h {quoted(folder)}; make space, then the same command again: what is finished is kept",
    )
