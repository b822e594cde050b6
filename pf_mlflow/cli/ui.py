"""`pf-mlflow ui`."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

import click
from rich.markup import escape

from pf_mlflow.cli.output import busy, one_sentence, out, warn
from pf_mlflow.errors import BadInput
from pf_mlflow.reports.ui_server import DEFAULT_PORT, Target, chosen_port, chosen_target, serve
from pf_mlflow.settings import read_settings
from pf_mlflow.spool.store import Spool

__all__ = ["ui"]


@click.command()
@click.argument("batch", required=False)
@click.option(
    "--port", type=click.IntRange(1, 65535), help=f"Port of the server. Default: {DEFAULT_PORT}, or the next free."
)
@click.option("--no-browser", is_flag=True, help="Only print the link.")
def ui(batch: str | None, port: int | None, no_browser: bool) -> None:
    """Open MLflow's UI on the store that a batch is in, from any folder, and print the link of the batch.

    Without BATCH: on the store of MLFLOW_TRACKING_URI, else on `mlflow.db` of this folder, else on that of the newest
    batch. A database is served on this machine alone until Ctrl-C.

    Exit code: 0 opened, 1 error, 2 wrong command line.

    Example: pf-mlflow ui my_batch
    """
    with one_sentence():
        settings = read_settings()
        target = chosen_target(Spool(settings.spool_dir), settings, batch, Path.cwd())
        out.print(f"MLflow:  {escape(target.shown_uri)}{f', batch {escape(target.batch)}' if target.batch else ''}")
        if target.needs_server:
            _serve(target, port, no_browser)
        else:
            _open(target, target.link(), no_browser)


def _serve(target: Target, wanted: int | None, no_browser: bool) -> None:
    port = chosen_port(wanted)
    if wanted is None and port != DEFAULT_PORT:
        out.print(f"Port {DEFAULT_PORT} is taken, so it is {port}.")
    with serve(target, port) as server:
        with busy("MLflow's server starts …"):
            server.wait_until_ready()
        if not server.stop.made:
            _open(target, target.link(server.address), no_browser)
            out.print("Ctrl-C ends it.")
            server.wait()


def _open(target: Target, link: str | None, no_browser: bool) -> None:
    if link is None:
        raise BadInput(
            f"The pages of {target.shown_uri} are not known; set DATABRICKS_HOST, or the host of its profile in "
            "~/.databrickscfg, or name the whole workspace in MLFLOW_TRACKING_URI."
        )
    if target.batch and not target.run_id:
        warn(f"MLflow has no run of {target.batch}; this is the store it belongs to.")
    out.print(f"Look at: {escape(link)}")
    if not no_browser and _has_screen():
        webbrowser.open(link)


def _has_screen() -> bool:
    """Tell whether a browser can show: one for the terminal would take it over."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
