"""A finding of the doctor: how something is, what was seen, what to do about it.

In:  what a check read. Out: one `Finding`.
Holds: a check that cannot look says so in a warning: the doctor itself never falls ill.
Finding(name="shared memory", level=WARN, seen="64.0 MB in /dev/shm", advice="docker run --shm-size=8g …")
"""

import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dataprep.errors import QuernError

OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report; `advice` is empty where all is well."""

    name: str
    level: str
    seen: str
    advice: str = ""


def examine(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of one check; where the machine does not let itself be looked at, that is the finding."""
    try:
        return list(check())
    except QuernError as error:
        return [Finding(name=name, level=FAIL, seen=f"{error.what}: {error.seen}", advice=error.fix)]
    except (OSError, ValueError, RuntimeError, ImportError, subprocess.SubprocessError) as error:
        words = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return [Finding(name=name, level=WARN, seen=f"could not be looked at: {words}", advice="see for yourself")]
