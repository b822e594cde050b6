"""Judges: language models that say of a line whether its answer is good. Imported only where one is asked for."""

from __future__ import annotations

from pf_mlflow.scoring.judges.judge import Judge
from pf_mlflow.scoring.judges.registry import SKIPPED, check_metrics, judged_line

__all__ = ["SKIPPED", "Judge", "check_metrics", "judged_line"]
