"""Becomes another program that dies with its parent: `python -I -S tether.py PARENT_PID PROGRAM ARGUMENT…`.

A supervisor that is killed with SIGKILL cannot stop its children. On Linux the kernel does it: the parent-death signal
is set here and survives the exec. Elsewhere the program is simply started. Run as a file, so it imports nothing of ours
and costs about 20 ms.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> None:
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    except (ImportError, OSError, AttributeError):
        return
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)


def _become() -> None:
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        _die_with(int(parent))
    os.execvp(command[0], command)  # noqa: S606 - that is the purpose


if __name__ == "__main__":
    _become()
