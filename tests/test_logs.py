"""Where a worker's warnings go."""

from __future__ import annotations

import logging
import uuid

import pytest
from promptflow._utils.logger_utils import logger

import pf_mlflow  # noqa: F401 - which says where warnings go
from pf_mlflow.logs import warn_once


def test_a_warning_stands_in_the_log_of_the_batch_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", records.append)
    monkeypatch.setattr(logger, "handlers", [handler])
    warning = f"no such thing as {uuid.uuid4().hex}"
    warn_once(warning)
    warn_once(warning)
    assert [record.getMessage() for record in records] == [f"pf-mlflow: {warning}"]
    assert warning not in caplog.text
