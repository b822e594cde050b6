"""A headless Chromium, driven through its DevTools protocol over a pipe: nothing to install but the browser."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--remote-debugging-pipe", "--no-first-run")


class Page:
    """The page that is open."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = os.fdopen(commands, "wb", buffering=0)
        self._answers = os.fdopen(answers, "rb")
        self._number = 0
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def open(self, url: str, width: int, height: int) -> None:
        """Go to an address in a window of this size."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=url)

    def until(self, condition: str, patience: float = 30.0) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        end = time.monotonic() + patience
        while not (value := self.run(condition)):
            if time.monotonic() > end:
                raise TimeoutError(f"not true in {patience:.0f} s: {condition}")
            time.sleep(0.2)
        return value

    def run(self, expression: str) -> Any:
        """Evaluate a JavaScript expression; trouble in it is `None`."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def rest(self, seconds: float = 2.0) -> None:
        """Wait for what moves to stand still."""
        time.sleep(seconds)

    def save(self, path: Path, width: int = 0, height: int = 0) -> None:
        """Save what is seen, or its upper left part of this size, as a PNG."""
        part = {"clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}} if width else {}
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png", **part)["data"]))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        self._commands.write(
            json.dumps({"id": self._number, "method": method, "params": params, **session}).encode() + b"\0"
        )
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def _message(self) -> bytes:
        message = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser has ended")
            message += byte
        return bytes(message)


@contextmanager
def browser() -> Iterator[Page]:
    """Start a browser with an empty profile, and end it afterwards."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        raise SystemExit(f"No browser: install one of {', '.join(_NAMES)}.")
    profile = tempfile.mkdtemp(prefix="browser")
    (read, commands), (answers, write) = os.pipe(), os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read, write)]

    def put_in_place() -> None:
        """It takes its commands from file descriptor 3 and answers on 4."""
        for number, end in enumerate(high, 3):
            os.dup2(end, number)

    process = subprocess.Popen(
        [program, *_OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(3, 4),
        preexec_fn=put_in_place,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    for end in high:
        os.close(end)
    os.close(read)
    os.close(write)
    try:
        yield Page(commands, answers)
    finally:
        process.kill()
        process.wait(20)
        shutil.rmtree(profile, ignore_errors=True)
