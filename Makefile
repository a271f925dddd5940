# make demo    from nothing to a small file, scored without torch; a demo that was run is only shown again
# make test    set-up, checks, all quick tests and the documentation's examples
# make check   style, types, import rules and the rules of the house
# make portability   kernel, engine and format tests on other processors, by emulators (qemu); not part of make test
# make fuzz    sanitizer builds (clang): FUZZ_CASES random calls of each compiled module, then a coverage-guided fuzzer
#              of the reader, FUZZ_SECONDS long
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
KERNEL := setup.py $(wildcard src/laconic/pack/codecs/*.[ch]) $(wildcard src/laconic/runtime/kernels/*.[ch])
# Tests run side by side with one thread each, so that two of them do not fight over two cores.
WORKERS ?= 2
FUZZ_SECONDS ?= 3600
FUZZ_CASES ?= 1000000

# What is run on other processors: all that computes (kernels, coders, engines, int8), little of what only decides.
FORMAT := tests/pack/codecs/test_ans.py tests/pack/codecs/test_symbols.py tests/pack/codecs/test_compiled.py tests/pack/test_golden.py
KERNELS := tests/runtime/kernels tests/runtime/emulation
ENGINES := tests/runtime/engines tests/runtime/onnx_model/test_int8_plan.py tests/runtime/int8/test_int8_machines.py tests/runtime/int8/test_weights.py
# PyTorch's own LSTM by oneDNN gives other numbers than its plain one there, so nothing can be captured from it.
EMULATED := --deselect 'tests/runtime/engines/test_float_choice.py::test_recurrent_layers[LSTM-takes its ranges from each batch]'
# On 64-bit ARM the emulator has no torch and crashes in ONNX Runtime.
ARM := .cache/portability/arm64

.PHONY: demo test check portability fuzz clean setup

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

portability: $(VENV)/.dev
	@for emulator in qemu-x86_64 qemu-aarch64; do command -v $$emulator >/dev/null || \
	{ echo "make portability needs $$emulator. Cure: install qemu's user mode (Debian: apt-get install qemu-user)"; exit 1; }; done
	@echo '--- an Intel Haswell of 2013: AVX2, neither AVX-512 nor VNNI'
	qemu-x86_64 -cpu Haswell $(BIN)/python -m pytest -p no:cacheprovider $(EMULATED) $(FORMAT) $(KERNELS) $(ENGINES)
	@echo '--- 64-bit ARM'
	tests/portability/arm64.sh setup $(ARM)
	tests/portability/arm64.sh run $(ARM) tests/portability/golden.py >$(ARM)/golden.txt
	$(BIN)/python tests/portability/golden.py | diff - $(ARM)/golden.txt
	@echo 'Golden files give the same integers, values and bytes there as here, by both coders.'
	tests/portability/arm64.sh run $(ARM) -m pytest --noconftest -p no:cacheprovider -k 'not without_compiled_code and not no_compiler' $(FORMAT)

fuzz: $(VENV)/.dev
	tests/fuzz/run.sh $(BIN)/python $(FUZZ_SECONDS) $(FUZZ_CASES)

setup: $(VENV)/.dev

# Stamps: a folder is set up again only when what it is made from has changed.
$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.train: pyproject.toml constraints.txt $(KERNEL) | $(VENV)/.python
	$(PIP) install -c constraints.txt -e '.[train,report]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(KERNEL) | $(VENV)/.python
	$(PIP) install -c constraints.txt -e '.[train,report,dev]'
	@touch $@ $(VENV)/.train

clean:
	rm -rf $(VENV) $(DEMO) build dist src/*.egg-info src/laconic/runtime/kernels/*.so src/laconic/pack/codecs/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests studies benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
