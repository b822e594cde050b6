"""Imports what promptflow needs when a batch is over while the first lines wait for their model."""

from __future__ import annotations

import threading
from importlib import import_module

__all__ = ["import_pandas_meanwhile"]


def import_pandas_meanwhile() -> None:
    """Begin to import pandas, by which promptflow writes down inputs and outputs; whoever needs it before waits."""
    threading.Thread(target=import_module, args=("pandas",), name="pf-mlflow-imports", daemon=True).start()
