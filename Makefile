# `make` explains the targets. `make demo` and `make test` set everything up by themselves.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lock ui wheel bench-peers clean clean-data

# The first Python 3.11 or newer; another one: make setup PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv/bin
PEERS := neuralforecast darts gluonts
ARGS ?=

# Nothing that make runs reports home.
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
# Python's own files are compiled once, not by each of the hundred processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE

help:  ## Explain the targets (what a bare `make` does)
	@echo "rnnforecast: make TARGET [ARGS='more arguments'] [PYTHON=/path/to/python3.11+]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s%s\n", $$1, $$2}' Makefile

setup:  ## Make .venv with the locked versions (at once, where it is already current)
	@python="$(PYTHON)"; if [ -z "$$python" ]; then \
		echo "setup: needs Python 3.11 or newer and found none; install one, or: make setup PYTHON=/path/to/python" >&2; \
		exit 1; fi; "$$python" scripts/setup.py

demo: setup  ## Set up, then run three pipelines on packaged real data: offline, a few minutes on 2 cores
	@$(VENV)/rnnforecast demo $(ARGS)

test: setup  ## Set up, then run the tests: make test ARGS='tests/test_table.py -x'
	@$(VENV)/python -m pytest $(ARGS)

check: setup  ## Lint, format and types, changing nothing (ruff, mypy)
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy

format: setup  ## Put the code into the one format, and mend what lint can mend by itself
	@$(VENV)/ruff check --fix-only --quiet .
	@$(VENV)/ruff format .

lock:  ## Write requirements.lock anew after pyproject.toml changed; the newest of all: make lock ARGS=--upgrade
	@test -x $(VENV)/python || $(MAKE) setup  # any .venv will do: a current one cannot be had before the lock is
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null
	@$(VENV)/uv pip compile pyproject.toml --extra all --extra dev --universal --python-version 3.11 \
		--no-annotate --custom-compile-command 'make lock' --quiet --output-file requirements.lock $(ARGS) >/dev/null
	@# torch brings its CUDA packages by itself where there is a GPU, and nowhere else may they come.
	@grep -vE '^(nvidia|cuda|triton)' requirements.lock > requirements.lock.new && mv requirements.lock.new requirements.lock
	@echo "requirements.lock: $$(grep -c '==' requirements.lock) pins"

ui: setup  ## Open MLflow's and Prefect's pages on this machine
	@$(VENV)/rnnforecast ui $(ARGS)

wheel: setup  ## Build the wheel into dist/
	@$(VENV)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist . 2>/dev/null
	@rm -rf build && ls dist/*.whl

bench-peers: $(PEERS:%=.venv-peers/%/ready)  ## Make the environments of the libraries that benchmarks/ compares with (5 GB)

# Without what packages ask for: the files name all of it, and torch's CUDA packages are not in them.
.venv-peers/%/ready: benchmarks/peers/requirements-%.txt requirements.lock
	@echo "bench-peers: $* ..."
	@rm -rf .venv-peers/$* && mkdir -p .venv-peers && "$(PYTHON)" -m venv .venv-peers/$*
	@.venv-peers/$*/bin/python -m pip install -qq --no-deps --disable-pip-version-check \
		$$(grep -o '^torch==[0-9.]*' requirements.lock) $(if $(RNNFORECAST_TORCH_INDEX),--index-url $(RNNFORECAST_TORCH_INDEX))
	@.venv-peers/$*/bin/python -m pip install -qq --no-deps --disable-pip-version-check --requirement $<
	@touch $@

clean:  ## Remove what make made: .venv, .venv-peers, builds, caches (tables, models and reports stay)
	@rm -rf .venv .venv-peers build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache lightning_logs
	@find rnnforecast flows tests scripts benchmarks -name __pycache__ -prune -exec rm -rf {} +
	@echo "clean; what pipelines made is still in data/ and mlflow/ (make clean-data removes it)"

clean-data:  ## Remove the tables, checkpoints, reports and models that pipelines made here; asks before
	@printf 'Remove data/lake, data/checkpoints, data/reports and the MLflow store of this checkout? Type yes: '; \
		read answer; [ "$$answer" = yes ] || { echo "nothing removed"; exit 1; }
	@rm -rf data/lake data/checkpoints data/reports mlflow/artifacts mlflow/mlflow.db mlflow/mlflow.db-*
	@echo "removed"
