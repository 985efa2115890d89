# Two commands on a fresh machine: `make demo` and `make test`. Needs Python 3.11 or newer; brings everything else.

PYTHON ?= python3
# The slow files stand first in the folder order; most others fill the gaps behind them.
PYTEST_ARGS ?= --numprocesses 4 --dist loadfile --no-loadscope-reorder --quiet
VENV := .venv
BIN := $(VENV)/bin
RUN_READY := $(VENV)/.ready
DEV_READY := $(VENV)/.ready-dev

.PHONY: help demo up test check bench chaos long mutants lint types imports docs lock clean

help:  ## List what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: $(RUN_READY)  ## Run the main job, end to end, on this machine alone
	@$(BIN)/kiejobs demo

up: $(RUN_READY)  ## Run broker, workers, beat, Flower and simulator until Ctrl-C
	@$(BIN)/kiejobs up

test: $(DEV_READY)  ## Run the tests; what this machine lacks is skipped by name
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: lint types imports test  ## Lint, types, import rules, tests

bench: $(DEV_READY)  ## Measure speed, cost and scale (about 25 minutes); writes benchmarks/results.md
	@$(BIN)/python -m benchmarks

chaos: $(DEV_READY)  ## Ten minutes of killed processes and outages, then the verdict
	@$(BIN)/python -m tests.chaos.soak --minutes 10

long: $(DEV_READY)  ## What takes long: losses on SQLite too, the create budget, figures that want an idle machine
	@$(BIN)/python -m pytest --quiet -m long tests/acceptance tests/simulation

mutants: $(DEV_READY)  ## Break each promise on purpose and see which check goes red
	@$(BIN)/python -m tests.simulation.mutants

lint: $(DEV_READY)  ## Style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(DEV_READY)  ## Static types
	@$(BIN)/mypy

imports: $(DEV_READY)  ## Who may import whom
	@$(BIN)/lint-imports

docs: $(DEV_READY)  ## Write the generated pages anew
	@$(BIN)/python -m docs.generate

lock: $(DEV_READY)  ## Lock the dependencies anew, with hashes
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile $(LOCK) --all-extras --group build pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile $(LOCK) --all-extras --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "kiejobs needs Python 3.11 or newer; $$($(PYTHON) --version) is too old (set PYTHON=…)."; exit 1; }
	@echo "── making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "Python's venv module is missing (on Debian and Ubuntu: apt install python3-venv)."; exit 1; }

$(RUN_READY): requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "── installing the locked dependencies (once, about a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@echo "── installing kiejobs itself"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV_READY): requirements-dev.lock $(RUN_READY)
	@echo "── installing the locked test tools"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
