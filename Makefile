PYTHON ?= python3
BIN := .venv/bin
# What the virtual environment was made from; when it changes, the package is installed again: alone for `make train`,
# with all that developers need for everything else.
LIBRARY := .venv/.library
STAMP := .venv/.ready

.PHONY: setup train test test-rest test-all test-versions lint coverage docs docs-serve notebooks package soak bench bench-docs \
	bench-check clean

setup: $(STAMP)

train: $(LIBRARY)
	$(BIN)/ppo2 train CartPole-v1 --until-solved

$(LIBRARY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable . --constraint constraints.txt
	touch $@

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $(LIBRARY) $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/prose.py src tests bench examples tools

# The contracts: tests with `@pytest.mark.core`. Then the others that are quick; the slow ones too.
test: lint
	$(BIN)/pytest --numprocesses 2 -m core

test-rest: setup
	$(BIN)/pytest --numprocesses 2 --durations 20 -m 'not core and not slow'

test-all: lint
	$(BIN)/pytest -m ''

# The quick tests on every Python found, with the newest and with the lowest versions; `make test-versions PYTHONS=...`.
test-versions: setup
	$(BIN)/python tools/versions.py $(PYTHONS)

# The lines and branches of the package that the quick tests run, also in the processes that they start.
coverage: setup
	$(BIN)/pytest --numprocesses 2 --cov --cov-report=term:skip-covered

# The documentation site, in build/site; `make docs-serve` shows it at http://localhost:8000 while you write.
docs: setup
	$(BIN)/python tools/docs.py

docs-serve: setup
	$(BIN)/python tools/docs.py --serve

# Runs the notebooks of examples/notebooks and keeps their output.
notebooks: setup
	$(BIN)/python tools/notebooks.py

# What is published: dist/*.tar.gz and dist/*.whl, with their page checked.
package: setup
	rm -rf dist
	$(BIN)/uv build
	$(BIN)/uv tool run twine check --strict dist/*

soak: setup
	$(BIN)/python tests/support/soak.py

bench: setup
	$(BIN)/python bench/host.py
	$(BIN)/python bench/device.py
	$(BIN)/python bench/recurrent.py

# The tables of docs/benchmarks.md and scaling.md, from bench/results; `make bench-docs NEW="host.json device.json"` keeps these first.
bench-docs: setup
	$(BIN)/python bench/document.py $(NEW)

# Whether a ratio to another library fell since results were kept: before a release, on an idle machine.
bench-check: setup
	$(BIN)/python bench/check.py

clean:
	rm -rf .venv build dist .coverage* .mypy_cache .pytest_cache .ruff_cache
