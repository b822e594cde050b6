"""Lines' runs are outputs of a model, by which MLflow's page of evaluation runs leaves them out; batches are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders import batch, line_record
from mlflow import MlflowClient
from mlflow.entities import Run

from pf_mlflow.projection.batch_runs import BatchWriter
from pf_mlflow.sources.promptflow.local_source import LocalSource
from pf_mlflow.tracking.writer import StoreWriter


def written(uri: str, folder: Path, uid: str, flow: str = "joke.flow", log_model: bool = False) -> list[Run]:
    """Write a line by itself and one in a transaction, and return the batch's run and theirs."""
    store = StoreWriter(uri, f"models {folder.name}", folder)
    own = batch(uid=uid, name=uid, flow_name=flow, client_pid=0, promptflow_home=None, log_model=log_model)
    writer = BatchWriter(store, LocalSource(own))
    store.open_experiment()
    writer.read_existing()
    writer.open_parent()
    for n in range(2):
        record = line_record(batch_uid=uid, line_number=n)
        if n:
            with writer.transaction() as inside:
                done = writer.write(n, record.start, record, inside)
        else:
            done = writer.write(n, record.start, record)
        writer.note(done)
    writer.close_parent()
    where, order = f"tags.`promptflow.batch_uid` = '{uid}'", ["attributes.run_name ASC"]
    found = MlflowClient(uri).search_runs([store.experiment_id], where, order_by=order)
    return sorted(found, key=lambda run: run.data.tags.get("promptflow.line_number", ""))


def models(runs: list[Run]) -> list[list[str]]:
    return [[one.model_id for one in run.outputs.model_outputs] if run.outputs else [] for run in runs]


def test_in_a_database_lines_are_outputs_of_one_model_a_flow(tmp_path: Path, fresh_store: Path) -> None:
    shutil.copy(fresh_store, tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    found = [models(written(uri, tmp_path, uid)) for uid in ("b1", "b2")]
    model = found[0][1]
    assert len(model) == 1 and found == [[[], model, model]] * 2
    told = MlflowClient(uri).get_logged_model(model[0])
    assert (told.name, str(told.status)) == ("joke_flow", "READY")
    assert models(written(uri, tmp_path, "b3", flow="other"))[1] not in (model, [])


@pytest.mark.parametrize("asked", [False, True])
def test_on_a_server_they_are_if_it_is_asked_for(server: str, tmp_path: Path, asked: bool) -> None:
    assert [len(one) for one in models(written(server, tmp_path, f"asked {asked}", log_model=asked))] == [0] + [
        asked
    ] * 2
