# Two commands for a newcomer: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
PY := .venv/bin/python
ARGS ?=

.PHONY: run test help setup fmt lint type check faults e2e cover bench sim pyz clean

run: .venv/.run ## run the gateway: api.yaml or CONFIG_URL when there is one, else the demo
	@$(PY) -m uniapi $(ARGS)

test: .venv/.dev ## format, lint, types, layers, tests
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest -n auto --dist loadfile

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/'

setup: .venv/.dev ## everything development needs, in .venv

fmt: .venv/.dev ## format and mend what can be mended
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

lint: .venv/.dev ## ruff only
	$(PY) -m ruff check .

type: .venv/.dev ## mypy only
	$(PY) -m mypy

check: .venv/.run ## check api.yaml and print what is wrong with it
	@$(PY) -m uniapi check $(ARGS)

faults: .venv/.dev ## sixteen ways a provider breaks, met on loopback; FULL=1 in full timings
	$(PY) -m bench.faults $(if $(FULL),--full)

e2e: .venv/.dev ## only the end-to-end tests
	$(PY) -m pytest tests/e2e

cover: .venv/.dev ## branch coverage and its gate; without the tests that start processes
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest --ignore tests/e2e
	$(PY) -m coverage combine -q
	$(PY) -m coverage report

bench: .venv/.dev ## CPU and latency beside a bare server and a naive proxy; ARGS="--full --report" for all of it
	$(PY) bench/compare.py $(ARGS)

sim: .venv/.dev ## the whole gateway on a virtual clock against scenarios drawn from seeds
	$(PY) -m tests.sim.simulate --seeds $(or $(SEEDS),200)

pyz: .venv/.run ## dist/uniapi.pyz: everything in one file, for any Python 3.11 or newer
	@$(PY) conf/build_pyz.py $(ARGS)

clean: ## remove what the other targets made
	rm -rf .venv bench/.litellm build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "uniapi needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml | .venv/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/.run
