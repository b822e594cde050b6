"""What `sync` is measured against: the three calls that each line needs and nothing else.

`python -m benchmarks.bare_loop TRACKING_URI THREADS LINES CONTENTS`, where CONTENTS is a file of child runs as JSON.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag

__all__ = ["contents_of"]

LATE_TAGS = ("response_model", "promptflow.error", "promptflow.error_type")
"""Tags that a child run gets when its line is over, not when it is made."""


def contents_of(run: Run) -> dict[str, Any]:
    """Return all that a child run holds, in the shape of the calls that write it."""
    tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.runName"}
    return {
        "start": run.info.start_time,
        "end": run.info.end_time,
        "name": run.info.run_name,
        "tags": {key: value for key, value in tags.items() if key not in LATE_TAGS},
        "late_tags": {key: value for key, value in tags.items() if key in LATE_TAGS},
        "params": run.data.params,
        "metrics": run.data.metrics,
    }


def main(tracking_uri: str, threads: str, lines: str, contents: str) -> None:
    """Write the contents, over and over, as so many runs."""
    client = MlflowClient(tracking_uri)
    store = client._tracking_client.store
    experiment = client.create_experiment("bare loop")
    parent = client.create_run(experiment).info.run_id
    runs = json.loads(Path(contents).read_text("utf-8"))

    def write(number: int) -> None:
        line = runs[number % len(runs)]
        tags = line["tags"] | {"mlflow.parentRunId": parent, "promptflow.line_number": str(number)}
        run_id = client.create_run(experiment, line["start"], tags, f"Run {number:09}").info.run_id
        metrics = [Metric(key, value, line["end"], 0) for key, value in line["metrics"].items()]
        params = [Param(key, value) for key, value in line["params"].items()]
        store.log_batch(run_id, metrics, params, [RunTag(key, value) for key, value in line["late_tags"].items()])
        store.update_run_info(run_id, RunStatus.FINISHED, line["end"], None)

    with ThreadPoolExecutor(int(threads)) as pool:
        for _ in pool.map(write, range(int(lines))):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
