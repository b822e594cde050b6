PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet

.PHONY: help run ui test test-all check wheel wheelhouse test-newest docs pictures format bench bench-run bench-peers clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/'

run: .venv/run.installed  ## Run two flows over data/; every line becomes an MLflow child run, answers get scores
	@.venv/bin/pf-mlflow run --flow . --data data/topics.jsonl --column-mapping topic='$${data.topic}'
	@echo
	@.venv/bin/pf-mlflow run --flow examples/qa --data data/questions.jsonl --column-mapping question='$${data.question}' \
		--column-mapping context='$${data.context}' --evaluate eval_flow

ui: .venv/run.installed  ## Open the MLflow UI on mlflow.db
	@.venv/bin/pf-mlflow ui

test: .venv/dev.installed  ## Run the tests that every change waits for
	.venv/bin/pytest -n 2 --no-loadscope-reorder

test-all: test  ## Run those, then the slow ones: break servers, disks, clocks and processes, adopt flows of every shape
	.venv/bin/pytest -m slow -n 4

check: .venv/dev.installed  ## Lint, check types and build the documentation
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/vermin --quiet --target=3.10- --violations --eval-annotations pf_mlflow nodes eval_flow examples
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

wheel: .venv/dev.installed  ## Build the wheel into dist
	.venv/bin/python -m hatchling build -t wheel -d dist

wheelhouse: .venv/bin/python  ## Fetch the tested set of packages, and this one, for machines without a network
	$(PIP) wheel -c constraints.txt -w wheelhouse .

test-newest:  ## Run the tests with the newest versions that the ranges allow, in an environment of its own
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip --disable-pip-version-check --quiet install --upgrade -e '.[dev]'
	.venv-newest/bin/pytest -n 2 --no-loadscope-reorder

docs: .venv/dev.installed  ## Serve the documentation on http://127.0.0.1:8000
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs serve

pictures: .venv/dev.installed  ## Make the pictures of the documentation anew; needs a Chromium
	.venv/bin/python docs/pictures.py

format: .venv/dev.installed  ## Format the code
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: .venv/dev.installed  ## Measure what tracking costs; the tables stand in benchmarks/RESULTS.md
	.venv/bin/python -m benchmarks.overhead
	.venv/bin/python -m benchmarks.memory
	.venv/bin/python -m benchmarks.wall
	.venv/bin/python -m benchmarks.sync --quick
	.venv/bin/python -m benchmarks.run
	.venv/bin/python -m benchmarks.evaluation
	.venv/bin/python -m benchmarks.judging

bench-run: .venv/dev.installed  ## Measure pf-mlflow run beside promptflow's own command (two minutes)
	.venv/bin/python -m benchmarks.run --quick

bench-peers: .venv/dev.installed  ## Measure promptfoo, Inspect AI and mlflow.genai.evaluate on the same lines
	.venv/bin/python -m benchmarks.peers

clean:  ## Remove the environment and what runs left behind
	rm -rf .venv .venv-newest dist wheelhouse mlflow.db mlflow.db-* mlruns site

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv/run.installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing into .venv, once (about a minute) …"
	$(PIP) install -c constraints.txt -e .
	@touch $@

.venv/dev.installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing into .venv, once (about a minute) …"
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ .venv/run.installed
