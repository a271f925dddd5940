# make demo    from nothing to a small file, scored without torch; a demo that was run is only shown again
# make test    set-up, checks, all quick tests and the documentation's examples
# make check   style, types, import rules and the rules of the house
# make fuzz    a sanitizer build of the compiled readers under a coverage-guided fuzzer, FUZZ_SECONDS long (clang)
# make clean   remove what these made, the demo's run too

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := test

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
DEMO := runs/demo
# What pip compiles (where there is a compiler; without one the library does the same by NumPy).
KERNEL := setup.py src/laconic/pack/adaptive.c $(wildcard src/laconic/runtime/kernels/*.[ch])
# Tests run side by side with one thread each, so that two of them do not fight over two cores.
WORKERS ?= 2
FUZZ_SECONDS ?= 3600

.PHONY: demo test check fuzz clean setup

demo: $(VENV)/.train
	@go_on=; if [ -e $(DEMO)/settings.json ]; then go_on=--resume; \
	echo '$(DEMO) holds a run: it goes on, or is shown again if it was finished (make clean removes it)'; fi; \
	$(BIN)/laconic compress lenet5 --data mnist --method sparse-vd --preset demo --out $(DEMO) $$go_on
	@echo
	$(BIN)/laconic inspect $(DEMO)/model.lac
	@echo
	$(BIN)/laconic verify $(DEMO)/model.lac --data mnist

test: check
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tests/helpers/house_rules.py src/laconic

fuzz: $(VENV)/.dev
	tests/fuzz/run.sh $(BIN)/python $(FUZZ_SECONDS)

setup: $(VENV)/.dev

# Stamps: a folder is set up again only when what it is made from has changed.
$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.train: pyproject.toml constraints.txt $(KERNEL) | $(VENV)/.python
	$(PIP) install -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(KERNEL) | $(VENV)/.python
	$(PIP) install -c constraints.txt -e '.[train,dev]'
	@touch $@ $(VENV)/.train

clean:
	rm -rf $(VENV) $(DEMO) build dist src/*.egg-info src/laconic/runtime/kernels/*.so src/laconic/pack/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests studies benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
