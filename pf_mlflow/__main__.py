"""`python -m pf_mlflow`: the command, where its program is not on the path."""

from __future__ import annotations

from pf_mlflow.cli import command

if __name__ == "__main__":
    command()
