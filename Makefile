# Two commands a newcomer needs: `make demo` and `make test`. Both do all of their own set-up.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
WORKERS ?= 2
# Machines are shared and small models lose by threads: one thread per process, and never a hub.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test lint types docs docs-check setup clean
.DELETE_ON_ERROR:

demo: setup
	@$(BIN)/decodekit demo

test: lint types docs-check
	$(BIN)/python -m pytest -n $(WORKERS) -q

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/python tests/types_check.py

docs-check: setup
	$(BIN)/python -m decodekit.registry.catalogue --check docs/plugins.md

docs: setup
	$(BIN)/python -m decodekit.registry.catalogue --write docs/plugins.md

setup: .venv/ready

.venv/ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -r requirements.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
