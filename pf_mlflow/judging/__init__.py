"""Judges: language models that say of a line whether its answer is good. Imported only where one is asked for."""

from __future__ import annotations

from pf_mlflow.judging.chosen import SKIPPED, check_metrics, judged_line
from pf_mlflow.judging.judge import Judge

__all__ = ["SKIPPED", "Judge", "check_metrics", "judged_line"]
