"""Leaving: a process ends with the exit code that its work has earned, whatever torch's threads do meanwhile.

In:  a block that leaves by SystemExit, as `errors.run` does. Out: the end of the process, with that exit code.
Holds: threads that are no daemons and child processes are waited for, every `atexit` handler that was registered after
       this one runs, stdout and stderr are flushed. Then the process ends without taking the interpreter apart: nothing
       closes a file that was left open, and handlers registered before (by a sitecustomize, say) do not run.
Why:   DDP's process group outlives destroy_process_group (torch 2.13). A thread of it that lets go of a tensor while
       the interpreter is taken apart aborts the process, so that a finished run was reported as failed.
with leaving_whole(): run(main)
"""

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def leaving_whole() -> Iterator[None]:
    """End the process with the block's exit code, as the last `atexit` handler.

    Enter it before torch is loaded: handlers run in reverse order of registration, and those after this one do not run.
    """
    code = 1  # Python's own, for an exception that nobody caught

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)

    atexit.register(leave)
    try:
        yield
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            code = ended.code or 0
        raise
