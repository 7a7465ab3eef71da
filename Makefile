# `make demo` and `make test` are all a newcomer needs; each installs what it lacks.
PYTHON ?= python3
IMAGE ?= docs/samples/mug.png
BIN := .venv/bin
# A process of the tests that dies ends the run, as a failure: replaced, it may leave pytest-xdist waiting for ever.
PYTEST := $(BIN)/pytest -n 2 --dist loadgroup --max-worker-restart=0
LAYERS := unit golden contract integration modal docs e2e
unexport PYTHONDONTWRITEBYTECODE  # without byte code, pytest compiles every module in each of its processes
.DEFAULT_GOAL := help
.PHONY: help install install-dev peers demo serve lint check test test-gpu bench clean $(LAYERS:%=test-%)

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/installed: pyproject.toml client/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e './client[completion]' -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

install: .venv/installed  ## create .venv and install what the service needs

install-dev: .venv/installed-dev  ## install what its tests and benches need, too

peers: install-dev  ## install the programs that the tests compare with: Ceph, Chromium, the Khronos validator
	tests/install-peers

demo: install  ## make a GLB from one image: make demo IMAGE=photo.jpg
	$(BIN)/trellis2 demo $(IMAGE)

serve: install  ## run the service on http://127.0.0.1:8080, its API documents at /docs
	$(BIN)/trellis2 serve

lint: install-dev  ## check style, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint  ## lint, and unit tests without GPU code: quick enough for every commit
	$(PYTEST) tests/unit --ignore=tests/unit/worker/extraction --ignore=tests/unit/worker/engines

test: lint peers  ## lint and all tests, as CI runs it
	$(PYTEST)

$(LAYERS:%=test-%): test-%: peers  # one layer of the tests: make test-unit, make test-e2e, ...
	$(PYTEST) tests/$*

test-gpu: install-dev  ## the tests that need an NVIDIA GPU
	$(BIN)/pytest tests/gpu

bench: install-dev  ## print every published number beside its peer
	$(BIN)/python -m bench

clean:  ## remove what the commands above made
	rm -rf .venv var out
