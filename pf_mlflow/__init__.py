"""Everything a prompt flow did, line by line, in MLflow.

These are the names that a flow's nodes use; `pf-mlflow --help` lists what the command does.
"""

from pf_mlflow.live_source import attach, child_run_id, open_line, record_nodes

__all__ = ["__version__", "attach", "child_run_id", "open_line", "record_nodes"]

__version__ = "0.1.0"
