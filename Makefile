PYTHON ?= python3
BIN := .venv/bin
# What the virtual environment was made from; when it changes, `make setup` installs again.
STAMP := .venv/.ready

.PHONY: setup train test test-all lint soak bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@

train: setup
	$(BIN)/ppo2 train CartPole-v1 --until-solved

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/prose.py src tests bench examples

test: lint
	$(BIN)/pytest --numprocesses 2

test-all: lint
	$(BIN)/pytest -m ''

soak: setup
	$(BIN)/python tests/support/soak.py

bench: setup
	$(BIN)/python bench/host.py
	$(BIN)/python bench/device.py

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
