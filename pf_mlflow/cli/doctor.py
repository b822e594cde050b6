"""`pf-mlflow doctor`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape

from pf_mlflow.cli.output import one_sentence, out, print_json
from pf_mlflow.cli.parameters import NamedPath
from pf_mlflow.doctor import CheckResult, examine, verdict

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}
_WIDTHS = (9, 13)


@click.command()
@click.argument("flow_dir", type=NamedPath(), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else on stdout.")
def doctor(flow_dir: Path | None, as_json: bool) -> None:
    """Find out why child runs do not come as they should: check this machine, and the flow in a folder.

    Without FLOW_DIR the flow of the current folder is checked, if there is one. Each line tells what was looked at, and
    below it the remedy; an error stops a batch or keeps its runs from MLflow. Changes nothing, but for an experiment
    that a tracking server lacks: the first batch would make it too.

    Exit code: 0 no errors, perhaps warnings, 1 an error, 2 wrong command line.

    Example: pf-mlflow doctor my_flow
    """
    with one_sentence():
        results = examine(flow_dir)
    if as_json:
        print_json("doctor", {"verdict": verdict(results), "checks": [one.as_dict() for one in results]})
    else:
        _print(results)
    raise SystemExit(1 if verdict(results) == "error" else 0)


def _print(results: list[CheckResult]) -> None:
    for one in results:
        level, check = one.level.ljust(_WIDTHS[0]), one.check.ljust(_WIDTHS[1])
        out.print(f"[{_COLOURS[one.level]}]{level}[/]{check}{escape(one.message)}")
        if one.remedy:
            out.print(f"{'':{sum(_WIDTHS)}}{'->' if out.options.ascii_only else '→'} {escape(one.remedy)}")
    counts = {level: sum(one.level == level for one in results) for level in ("error", "warning")}
    counted = ", ".join(f"{count} {level}{'s' * (count > 1)}" for level, count in counts.items() if count)
    out.print(f"\n{counted or 'All is well.'}")
