# `make demo` and `make test` are all a newcomer needs; each installs what it lacks.
PYTHON ?= python3
IMAGE ?= docs/samples/mug.png
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help install install-dev demo serve test lint bench clean

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/installed: pyproject.toml client/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e './client[completion]' -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

install: .venv/installed  ## create .venv and install what the service needs

install-dev: .venv/installed-dev  ## and what its tests and measurements need

demo: install  ## one picture becomes a GLB: make demo IMAGE=photo.jpg
	$(BIN)/trellis2 demo $(IMAGE)

serve: install  ## keep the service up on http://127.0.0.1:8080, documents at /docs
	$(BIN)/trellis2 serve

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  ## lint, format check, types, import rules, all tests
	tests/install-peers
	$(BIN)/pytest -n 2 --dist loadgroup

bench: install-dev  ## print every published number beside its peer
	$(BIN)/python -m bench

clean:  ## remove what the commands above made
	rm -rf .venv var out
