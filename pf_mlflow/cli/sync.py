"""`pf-mlflow sync`."""

from __future__ import annotations

import click
from rich.markup import escape

from pf_mlflow.cli.output import err, one_sentence, out, print_json, warn
from pf_mlflow.cli.sync_progress import Progress
from pf_mlflow.delivery.sync import Synced, sync_batches
from pf_mlflow.reports import tables
from pf_mlflow.settings import read_settings
from pf_mlflow.spool.store import Spool

__all__ = ["sync"]


@click.command()
@click.argument("batches", nargs=-1, metavar="[BATCH]...")
@click.option("--all", "every", is_flag=True, help="Every batch that promptflow has run on this machine.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else on stdout.")
def sync(batches: tuple[str, ...], every: bool, dry_run: bool, as_json: bool) -> None:
    """Bring MLflow in line with finished batches: those named, or else all that MLflow does not fully have.

    Makes missing child runs from the spool and from promptflow's own folder, completes those that were left RUNNING,
    removes what is there twice, and sets status and sums of the parent run. A second time it changes nothing. Works for
    any local batch, also of flows without the nodes.

    Exit code: 0 MLflow is in line, 1 something could not be mended, 2 wrong command line.

    Example: pf-mlflow sync my_batch
    """
    if batches and every:
        raise click.UsageError("Name batches or say --all, not both.")
    with one_sentence("Interrupted; what was done stays, and the rest can be done later."):
        settings = read_settings()
        with Progress(err) as progress:
            done = sync_batches(Spool(settings.spool_dir), settings, batches, every, dry_run, progress)
    if as_json:
        print_json("sync", {"dry_run": dry_run, "batches": [one.as_dict() for one in done]})
    else:
        _print(done, dry_run)
    raise SystemExit(0 if all(one.succeeded for one in done) else 1)


def _print(done: list[Synced], dry_run: bool) -> None:
    if done:
        out.print(tables.synced(done, dry_run))
    for one in done:
        if one.trouble:
            warn(f"{one.name}: {one.trouble}")
    for place in dict.fromkeys((one.tracking_uri, one.experiment) for one in done if one.tracking_uri):
        out.print(f"MLflow:  {escape(place[0])}, experiment {escape(repr(place[1]))}")
    if not done:
        out.print("Nothing is left over: MLflow has all that the spool ever held.")
    elif all(one.state == "in line" and one.succeeded for one in done):
        out.print("Nothing to do: MLflow is in line.")
