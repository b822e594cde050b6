"""Hands a batch over to promptflow so that it can be interrupted, and one that was interrupted be resumed."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

from promptflow._sdk._orchestrator.run_submitter import RunSubmitter

from pf_mlflow.running.engine.replaced import replaced
from pf_mlflow.running.model_choice import Connections
from pf_mlflow.running.observer import StopRequest
from pf_mlflow.sources.promptflow.private_names import byte_order_mark_read

__all__ = ["submitted"]

_HANG_UP = getattr(signal, "SIGHUP", None)
_CANCELED = "Canceled"
_RESUMABLE = {"Completed", _CANCELED, "Failed"}


def submitted(client: Any, stop: StopRequest, connections: Connections, /, **arguments: Any) -> Any:
    """Return promptflow's run of a batch when it is over.

    Ctrl-C asks it to stop, once more not to wait for the lines that run. Its status is then `Canceled`.

    Args:
        client: promptflow's client.
        stop: Takes the request to stop.
        connections: What nodes are given instead of what the flow names, also of a batch that is resumed.
        arguments: Those of `PFClient.run`.
    """
    with ExitStack() as stack:
        stack.enter_context(_honest_status(client, stop))
        stack.enter_context(_any_ended_run_can_be_resumed(connections))
        stack.enter_context(byte_order_mark_read())
        stack.enter_context(_noted_signals(stop))
        return _beside(lambda: client.run(**arguments))


def _beside(call: Callable[[], Any]) -> Any:
    """Return what a call returns that runs in a thread of its own, while this one hears signals."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again where it was called
            done.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name="pf-mlflow-batch", daemon=True).start()
    while not done.done():
        time.sleep(0.02)
    return done.result()


@contextmanager
def _noted_signals(stop: StopRequest) -> Iterator[None]:
    """Hear Ctrl-C, a request to end and that the terminal is gone, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: object) -> None:
        if number == _HANG_UP and stop.stops:  # which shell and system both say
            return
        if stop.hurries:
            os._exit(128 + number)
        stop.interrupt()

    heard = [signal.SIGINT, signal.SIGTERM]
    if _HANG_UP and signal.getsignal(_HANG_UP) is not signal.SIG_IGN:  # unless by `nohup`
        heard.append(_HANG_UP)
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _honest_status(client: Any, stop: StopRequest) -> Iterator[None]:
    """Have a batch that was stopped recorded as such: promptflow would call it completed."""
    update = client.runs.update

    def honest(name: str, **values: Any) -> Any:
        if stop.stops and values.get("status") == "Completed":
            values["status"] = _CANCELED
        return update(name=name, **values)

    client.runs.update = honest
    try:
        yield
    finally:
        del client.runs.update


@contextmanager
def _any_ended_run_can_be_resumed(connections: Connections) -> Iterator[None]:
    """Let the lines of a stopped batch be taken over: promptflow resumes only those it calls completed."""
    check = RunSubmitter._ensure_run_completed

    def relaxed(self: Any, required_run: Any) -> Any:
        run = self.run_operations.get(name=getattr(required_run, "name", required_run))
        if run.status not in _RESUMABLE:
            return check(self, required_run)
        run.connections = dict(connections) or None  # which promptflow keeps no record of
        run.outputs = self.run_operations._get_outputs(run)
        return run

    with replaced(RunSubmitter, "_ensure_run_completed", relaxed):
        yield
