# Every target makes the virtual environment it needs. Nothing is installed again while the stamp is newer than
# pyproject.toml and constraints.txt, so all of them also work without a network after the first time.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
# The newest Python that can make an environment; override with `make PYTHON=/path/to/python ...`.
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: help install demo check lint types layers docs-check test fix nightly snapshots docs bench conformance build clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed and none was found." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable . --group dev --group docs
	touch $@

install: $(STAMP) ## make the virtual environment

demo: $(STAMP) ## tune a model for a bundled CSV through a real client
	$(BIN)/tuning-mcp demo --workspace .demo

check: lint types layers docs-check test ## everything that has to pass

lint: $(STAMP) ## format, lint and docstring coverage
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/interrogate --quiet mcp_server

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

layers: $(STAMP) ## which package may import which
	$(BIN)/lint-imports --no-cache

docs-check: $(STAMP) ## generated pages are current, and the docs build without a warning
	$(BIN)/python docs/generate.py --check
	$(BIN)/sphinx-build -q -n -W --keep-going -b html docs docs/_build/html

test: $(STAMP) ## tests, doctests, snapshots and coverage
	rm -f .coverage .coverage.*
	$(BIN)/pytest -n $(JOBS) -m "not nightly" --cov --cov-report=term:skip-covered

fix: $(STAMP) ## format, and repair what ruff can repair
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

nightly: $(STAMP) ## the slow sweeps
	$(BIN)/pytest -n $(JOBS) -m nightly --timeout 1800

snapshots: $(STAMP) ## rewrite the schema snapshots of the tools
	UPDATE_SNAPSHOTS=1 $(BIN)/pytest -q -p no:randomly tests/tools/test_snapshots.py

docs: $(STAMP) ## rewrite the generated pages and build the site
	$(BIN)/python docs/generate.py
	$(BIN)/sphinx-build -q -n -W --keep-going -b html docs docs/_build/html

bench: $(STAMP) ## run every benchmark and print its numbers
	for script in benchmarks/[!_]*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

conformance: $(STAMP) ## the official conformance suite and Inspector (needs npm)
	PYTHON=$(CURDIR)/$(BIN)/python tests/conformance/run

build: $(STAMP) ## wheel and source distribution
	$(BIN)/python -m build --installer pip

clean: ## remove what the other targets made, except the environment
	rm -rf dist docs/_build .demo .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
