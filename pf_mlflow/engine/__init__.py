"""Executes the lines of a promptflow batch many at once in this process, where promptflow would start four others.

The batch stays promptflow's own: its batch engine reads the data, keeps the run record and sums up. Only the step in
between, which executes the lines, is exchanged. Imports promptflow's private names, and is imported by nobody else than
`pf-mlflow run`.
"""

from pf_mlflow.engine.thread_engine import ThreadEngine
from pf_mlflow.engine.watch import LineDone, Watch

__all__ = ["LineDone", "ThreadEngine", "Watch"]
