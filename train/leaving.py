"""Leaving: a process ends with the exit code that its work has earned, whatever torch's threads do meanwhile.

In:  a block that leaves by SystemExit, as `errors.run` does. Out: the end of the process, with that exit code.
Holds: threads of ours are waited for, what others asked for by `atexit` is done, what was printed is flushed; only the
       interpreter is not taken apart. DDP's process group outlives destroy_process_group (torch 2.13), and a thread of
       it that lets go of a tensor while Python is taken apart aborts the process: a finished run was told as failed.
with leaving_whole(): run(main)
"""

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def leaving_whole() -> Iterator[None]:
    """Enter this before torch is loaded: `atexit` calls first what was registered last, and this is to be the last."""
    code = 1  # Python's own, for what nobody caught

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)

    atexit.register(leave)
    try:
        yield
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else code
        raise
