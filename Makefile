# Two targets that work in a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FAST := $(VENV)/.fast
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: help demo test explore lint types unit bench lock clean

help:
	@echo "make demo   send a real capture through an emulated Xen vif and back"
	@echo "make test   lint, types and every test"
	@echo "make explore [SECONDS=600] [SEED=n]  the random tests with fresh seeds, over and over"
	@echo "make bench  frames per second, as ratios to other ways of moving frames"
	@echo "make clean  remove what the other targets made"

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The compiled engine (numba) is an extra: where it cannot be had, its tests skip and say so.
$(FAST): requirements-fast.lock $(STAMP)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fast.lock
	@touch $@

demo: $(STAMP)
	@$(BIN)/python tools/demo.py

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

unit: $(FAST)
	$(BIN)/python -m pytest -q -n $(JOBS)

# What it finds is kept in explore-out, which `make clean` leaves alone.
explore: $(FAST)
	@$(BIN)/python tools/explore.py --jobs $(JOBS) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

bench: $(FAST)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@$(BIN)/python -m xennet.bench --write docs
	@$(BIN)/python -m xennet.bench.xenstore

# Resolve the lock anew, for every supported Python; index addresses stay out of it.
LOCK = build/lock/bin/uv pip compile - --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate --upgrade

lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet uv
	build/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade \
	  --output-file requirements.lock
	echo numba | $(LOCK) --constraint requirements.lock --output-file requirements-fast.lock
	echo matplotlib | $(LOCK) --constraint requirements.lock --constraint requirements-fast.lock \
	  --output-file requirements-bench.lock

clean:
	rm -rf $(VENV) build dist demo-out bench-out .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
