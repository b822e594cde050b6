"""Runs an evaluation flow: over the lines of a batch, or over finished answers in a file."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pf_mlflow.__version__ import __version__
from pf_mlflow.errors import BadInput
from pf_mlflow.evaluation.inputs import CONTROLS, data_of, mapping_of, told_as_text
from pf_mlflow.evaluation.request import EVAL_FLOW, EvaluationRequest, check_needs, prepared
from pf_mlflow.records.batch import command_on
from pf_mlflow.running.cut_off import ended_record
from pf_mlflow.running.mapping import tell_mapping
from pf_mlflow.running.observer import Observer
from pf_mlflow.running.request import RunRequest
from pf_mlflow.running.result import RunResult, result_without_lines
from pf_mlflow.running.run import run_batch
from pf_mlflow.running.turns import own_turn
from pf_mlflow.scoring.judges.endpoint import SKIPPED
from pf_mlflow.settings import Settings, settings_here
from pf_mlflow.sources.promptflow.batch_folder import BatchFolder
from pf_mlflow.sources.promptflow.flow import DAG, read_flow
from pf_mlflow.sources.promptflow.flow_files import PACKAGE, flow_files
from pf_mlflow.sources.promptflow.local_batch import evaluation_of, known_batches, local_batch
from pf_mlflow.sources.promptflow.private_names import promptflow_home
from pf_mlflow.sources.promptflow.run_record import RunRecord, run_record
from pf_mlflow.spool.store import Spool

__all__ = ["check_before", "evaluate"]

_NODE, _CONNECTION = "score", "connection"
"""The node that asks judges, and its input for their connection."""
_INCLUDES = re.compile(r"^additional_includes:\n(- .*\n)+", re.M)


def evaluate(request: EvaluationRequest, observer: Observer) -> RunResult:
    """Score lines and wait until MLflow has the scores.

    Raises:
        BadInput: a batch, file, column, metric or setting that cannot be used; nothing was scored.
        TrackingRefused: MLflow said no for good; nothing was scored.
    """
    with own_turn():
        return _evaluate_in_turn(prepared(_as_before(request) if request.retry_errors else request), observer)


def _evaluate_in_turn(request: EvaluationRequest, observer: Observer) -> RunResult:
    settings = settings_here()
    flow = request.flow or _own_flow(settings.spool_dir)
    inputs = read_flow(flow).inputs
    base = _base(request, settings)
    if base:
        _bring_in(base, settings, observer)
    if base and not base.lines_completed:
        return _nothing_to_score(base, request, settings)
    data, why_none = (request.data, "") if request.data else data_of(base)
    if why_none:
        observer.warn(f"Only the outputs of {request.base!r} are scored, without its data's columns: {why_none}")
    mapping = mapping_of(base, data, request.column_mapping, inputs, is_own=request.data is None)
    if inputs:
        shown = {name: spec for name, spec in inputs.items() if name not in CONTROLS}
        found = {
            name: source for name, source in mapping.items() if name in shown and name not in request.column_mapping
        }
        tell_mapping(observer, shown, request.column_mapping, found)
    for sentence in told_as_text(data, mapping) if data and request.flow and not _is_own(request.flow) else ():
        observer.warn(sentence)
    if not request.flow or _is_own(request.flow):
        check_needs(request, mapping)
    run = RunRequest(
        flow,
        data,
        run=request.base,
        column_mapping=mapping | _asked_for(request),
        by_name=False,
        environment_variables=request.environment_variables,
        connections={_NODE: {_CONNECTION: request.judge_connection}} if request.judge_connection else {},
        default_connection={_NODE: _CONNECTION} if request.judge_model and not request.judge_connection else {},
        name=request.name,
        parent_run=None if base else request.parent_run,
        fallbacks={} if base else request.fallbacks,
        concurrency=request.concurrency,
        wait=request.wait,
        offline_warning=SKIPPED if request.judge_model else "",
    )
    return _told(run_batch(run, observer))


def check_before(request: EvaluationRequest, run: RunRequest) -> EvaluationRequest:
    """Return a request prepared, checked before a batch runs for what would keep its lines from being scored.

    Raises:
        BadInput: naming it.
    """
    request = prepared(request)
    flow = request.flow or _own_flow(settings_here().spool_dir)
    inputs, scored = read_flow(flow).inputs, None if run.resume_from else read_flow(run.flow or Path())
    outputs = [name for name in (scored.definition.get("outputs") or {} if scored else ()) if name != "child_run_id"]
    if (inputs is None or "answer" in inputs) and len(outputs) > 1 and "answer" not in outputs:
        raise BadInput(
            f"Which output is the answer to be scored? The flow has {', '.join(outputs)}. Run it without evaluation, "
            f"then say `pf-mlflow evaluate BATCH --column-mapping answer='${{run.outputs.{outputs[0]}}}'`."
        )
    return request


def _told(result: RunResult) -> RunResult:
    """Return the result of an evaluation; that no line got a score is a failure."""
    if result.failure or not result.summary or result.summary.scores.get("lines_evaluated") or _has_scores(result):
        return result
    return replace(result, failure="No line got a score: the node that saves them was given none.")


def _has_scores(result: RunResult) -> bool:
    """Tell whether a line got scores that MLflow does not show, as those of an evaluation that came later."""
    record = run_record(promptflow_home(), result.name)
    return record is not None and any(line.scores for line in BatchFolder.of(record).lines("", record.name))


def _as_before(request: EvaluationRequest) -> EvaluationRequest:
    """Return what the last evaluation of a batch was asked for, but for what is named anew."""
    if request.base is None:
        raise BadInput("--retry-errors needs the batch whose judges failed: pf-mlflow evaluate BATCH --retry-errors.")
    from pf_mlflow.evaluation.retry import last_judged

    last = last_judged(promptflow_home(), request.base)
    return replace(
        request,
        data=request.data or last.data,
        column_mapping={**last.column_mapping, **request.column_mapping},
        judge_model=request.judge_model or last.model,
        judge_connection=request.judge_connection or last.connection,
        flow=request.flow or last.flow,
    )


def _is_own(flow: Path) -> bool:
    return flow.resolve() in (
        path.resolve() for path in (flow_files() / EVAL_FLOW, flow_files() / EVAL_FLOW / "flow.dag.yaml")
    )


def _own_flow(spool_dir: Path) -> Path:
    """Return the folder of the evaluation flow: beside the package, or, where that is installed, a copy of its own."""
    source = flow_files() / EVAL_FLOW
    if not (source / DAG).is_file():
        raise BadInput(f"There is no evaluation flow at {source}; name one with --flow.")
    if source.parent == PACKAGE.parent:
        return source
    copy = spool_dir / "flows" / __version__ / EVAL_FLOW
    if not copy.is_dir():
        copy.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=copy.parent)) / EVAL_FLOW
        shutil.copytree(source, draft)
        flow = (source / DAG).read_text("utf-8")
        (draft / "flow.dag.yaml").write_text(_INCLUDES.sub("", flow), "utf-8")  # the package is installed
        with suppress(OSError):  # another command was faster
            draft.rename(copy)
    return copy


def _base(request: EvaluationRequest, settings: Settings) -> RunRecord | None:
    if request.base is None:
        if request.data is None:
            raise BadInput("There is nothing to score; name a batch, or a file of answers with --data.")
        return None
    base = ended_record(request.base, settings)
    if base.is_evaluation():
        scored = base.base_batch or ""
        raise BadInput(
            f"{base.name!r} scores the lines of {scored!r} and has no runs of its own; score that one once more: "
            f"`{command_on('evaluate', scored)}`."
        )
    return base


def _bring_in(base: RunRecord, settings: Settings, observer: Observer) -> None:
    """See to it that MLflow has the batch whose lines are to be scored: it may have run without being tracked."""
    spool = Spool(settings.spool_dir)
    batch = known_batches(spool, settings, base.name)[-1]
    state = spool.state(batch.uid)
    if not settings.enabled or (state and state.closed):
        return
    from pf_mlflow.delivery import sync

    synced = sync.sync_batch(spool, batch, settings, dry_run=False, progress=sync.SyncProgress())
    if synced.state == sync.DELETED:
        raise BadInput(f"{base.name!r} cannot be scored. {synced.trouble}")
    if synced.trouble:
        observer.warn(f"{synced.trouble} The scores wait in the spool.")


def _asked_for(request: EvaluationRequest) -> dict[str, str]:
    inputs = {"metrics": json.dumps(request.metrics) if request.metrics else "", "judge_model": request.judge_model}
    return {name: value for name, value in inputs.items() if value}


def _nothing_to_score(base: RunRecord, request: EvaluationRequest, settings: Settings) -> RunResult:
    """Write down that no line of a batch could be scored, since none completed: promptflow would run nothing."""
    spool, home = Spool(settings.spool_dir), promptflow_home()
    name = request.name or f"evaluation_of_{base.name}"
    nobody = replace(local_batch(home, base.name, base, settings), uid=uuid.uuid4().hex, name=name)
    batch = evaluation_of(base.name, replace(nobody, promptflow_home=None), spool, settings)
    assert batch
    return result_without_lines(batch, spool, settings)
