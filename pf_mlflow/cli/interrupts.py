"""Ctrl-C, a request to end and a closed terminal end a command alike, whatever it is at: told, by exit code 130."""

from __future__ import annotations

import signal
import time
from types import FrameType

__all__ = ["heard_as_ctrl_c"]

_ONE = 1.0
"""Seconds within which signals are one request: shell and system both tell of a closed terminal."""

_last = -_ONE


def heard_as_ctrl_c() -> None:
    """Raise `KeyboardInterrupt` for each of these signals that would end this process, and leave what is ignored so.

    The first process of a container would not even hear a request to end otherwise.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _last
    if time.monotonic() - _last >= _ONE:
        _last = time.monotonic()
        raise KeyboardInterrupt
