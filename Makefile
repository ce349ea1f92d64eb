# Needs make and Python 3.11 or newer (with venv); everything else is set up on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check slow clean

demo: $(VENV)/.base  ## the main job: train, unlearn, audit, sign, verify, gate
	$(BIN)/cu-cert demo --out demo-out

test: $(VENV)/.dev  ## all tests
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: $(VENV)/.dev  ## the statistical simulations in their full form
	CU_CERT_SLOW=1 $(BIN)/python -m pytest -m slow

clean:
	rm -rf $(VENV) demo-out build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cu-cert needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.base
