# Everything runs in a virtual environment of its own; nothing else is needed than Python and make.
#   make demo     the whole chain on a simulated data release
#   make test     the test suite
#   make help     all targets

PYTHON ?= python3
VENV   ?= .venv
DEMO   ?= demo-data
# Processes of the test suite; each has servers of its own and one thread.
PROCESSES ?= 2
BIN    := $(VENV)/bin

# So that neither the demo nor a test waits for it.
COMPILE = @echo "compiling the loops of the fit for this processor"; OMP_NUM_THREADS=1 $(BIN)/python -m phdl_catalog.fitting.warm_up

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format docs compose clean clean-demo env

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

install: $(VENV)/.installed ## make the virtual environment and install the package into it

demo: $(VENV)/.installed ## the whole chain on a simulated release: files, fits, calibration, catalogue, SQL
	@$(BIN)/phdl demo --directory $(DEMO)

test: $(VENV)/.installed-test ## run the test suite; it starts the servers it needs
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses=$(PROCESSES) --dist=loadfile --no-loadscope-reorder $(TESTS)

lint: $(VENV)/.installed-test ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-test ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed ## write the parts of the documentation that come from the code
	$(BIN)/python -m phdl_catalog.cli.reference docs/reference/cli.md
	$(BIN)/python -m phdl_catalog.catalog.reference docs/reference/catalog.md

env: ## choose passwords for docker compose, at random, into .env
	@test ! -e .env || { echo ".env is there already: edit it, or remove it first"; exit 1; }
	@umask 077; while IFS= read -r line; do \
	    case "$$line" in *_PASSWORD=) line="$$line$$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')";; esac; \
	    printf '%s\n' "$$line"; \
	done <.env.example >.env
	@echo "passwords are in .env, which only you can read; next: docker compose up --build --detach"

compose: ## check docker-compose.yml with the tool, if it is there
	@if command -v docker-compose >/dev/null 2>&1; then docker-compose config --quiet; \
	elif docker compose version >/dev/null 2>&1; then docker compose config --quiet; \
	else echo "docker compose is not installed: docker-compose.yml was not checked by it"; fi

clean: ## remove the virtual environment and caches; the demo's data stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

clean-demo: ## stop the demo's servers and remove its data
	@if [ -x $(BIN)/phdl ] && [ -d $(DEMO) ]; then PHDL_DATA_DIR=$(DEMO) $(BIN)/phdl down; fi
	rm -rf $(DEMO)

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null 2>&1 \
	    || { echo "'$(PYTHON)' is not there: install Python 3.11 or newer, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed; make PYTHON=python3.12 names another"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "this Python cannot make virtual environments: on Debian and Ubuntu, install python3-venv"; exit 1; }
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing the package and what it needs into $(VENV); the first time takes some minutes"
	@$(BIN)/python -m pip install -qq --editable .
	$(COMPILE)
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	@echo "installing the package and its tests' tools into $(VENV); the first time takes some minutes"
	@$(BIN)/python -m pip install -qq --editable '.[test]'
	$(COMPILE)
	@touch $@ $(VENV)/.installed
