"""The end of a command: at once, since taking down hundreds of modules takes seconds and helps nobody."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading

__all__ = ["leave_at_once"]


def leave_at_once(code: int, *, gives_up_threads: bool = False) -> None:
    """End this process as the interpreter would, but for taking modules down; return where that cannot be.

    Args:
        code: The exit code.
        gives_up_threads: Whether threads that still run are given up; else the interpreter has to wait for them.
    """
    if not gives_up_threads and any(
        not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()
    ):
        return
    if not gives_up_threads:
        atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # whoever read it is gone
            return
    os._exit(code)
