# Two targets that work in a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

# What is installed: what xennet needs to run, the developers' tools, the compiled engine. When the
# system's Python moves on, a .venv is left that no Python can use; the first stamp names the version.
SAY_VERSION := -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
HAS := $(shell $(BIN)/python $(SAY_VERSION))
VERSION := $(or $(HAS),$(shell $(PYTHON) $(SAY_VERSION)))
RUN := $(VENV)/.run-$(VERSION)
DEV := $(VENV)/.dev
FAST := $(VENV)/.fast
FUZZ := $(VENV)/.fuzz
# Hundreds of processes of the tests would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install --quiet --progress-bar off --disable-pip-version-check $(PIP_OPTIONS)

.PHONY: help demo test explore mutants zoo lint types unit bench lock clean $(if $(HAS),,$(RUN))

help:
	@echo "make demo   send a real capture through an emulated Xen vif and back"
	@echo "make test   lint, types and every test"
	@echo "make explore [SECONDS=600] [SEED=n]  the random tests with fresh seeds, over and over"
	@echo "make mutants [ONLY=tx-*]  break one rule of the source at a time: a test has to notice each"
	@echo "make zoo    every bug of the zoo under every check of the conformance suite"
	@echo "make bench  frames per second, as ratios to other ways of moving frames"
	@echo "make clean  remove what the other targets made"

$(RUN): requirements-run.lock pyproject.toml
	@$(PYTHON) tools/check_python.py
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  [ ! -e $(VENV) ] || echo "$(VENV) is not one of Python $(VERSION): it is made anew"; \
	  $(PYTHON) -m venv --clear $(VENV); }
	$(PIP) --require-hashes -r requirements-run.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): requirements.lock $(RUN)
	$(PIP) --require-hashes -r requirements.lock
	@touch $@

# numba is an extra: where it cannot be had, the tests of the compiled engine skip and say so.
$(FAST): requirements-fast.lock $(DEV)
	@$(PIP) --retries 1 --require-hashes -r requirements-fast.lock && touch $@ || \
	  echo "numba could not be installed; the next make tries again, tests that need it skip till then"

# So are a scheduler for campaigns, and atheris, which is built for Linux.
$(FUZZ): requirements-fuzz.lock $(DEV)
	@$(PIP) --retries 1 --require-hashes -r requirements-fuzz.lock && touch $@ || \
	  echo "dask.distributed and atheris could not be installed; the next make tries again, tests that need them skip till then"

demo: $(RUN)
	@$(BIN)/python tools/demo.py

test: lint types unit

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV)
	$(BIN)/mypy

# Tests wait for other processes a third of their time: one more of them than there are cores.
unit: $(FAST) $(FUZZ)
	@$(BIN)/python -m compileall -q xennet
	PYTHONHASHSEED=0 $(BIN)/python -m pytest -q -n $$(($(JOBS) + 1)) --dist loadfile

# What it finds is kept in explore-out, which `make clean` leaves alone.
explore: $(FAST)
	@$(BIN)/python tools/explore.py --jobs $(JOBS) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

mutants: $(FAST)
	@$(BIN)/python tools/mutants.py --jobs $(JOBS) $(foreach id,$(ONLY),'$(id)')

zoo: $(FAST)
	@$(BIN)/python tests/zoo/matrix.py $(ARGS) $(foreach id,$(ONLY),'$(id)')

bench: $(FAST)
	@$(PIP) --require-hashes -r requirements-bench.lock
	@mkdir -p bench-out
	@$(BIN)/python -m xennet.bench --json bench-out/figures.json
	@$(BIN)/python tools/bench_doc.py bench-out/figures.json
	@$(BIN)/python -m xennet.bench.taps
	@$(BIN)/python -m xennet.bench.exec_seam
	@$(BIN)/python -m xennet.bench.qemu_echo
	@$(BIN)/python -m xennet.bench.netmap_programs

# Resolve the locks anew, for every supported Python; index addresses stay out of them.
LOCK = build/lock/bin/uv pip compile --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate --upgrade

lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet uv
	echo "setuptools>=77" | $(LOCK) pyproject.toml - --output-file requirements-run.lock
	$(LOCK) pyproject.toml --extra dev --constraint requirements-run.lock \
	  --output-file requirements.lock
	echo numba | $(LOCK) - --constraint requirements.lock --output-file requirements-fast.lock
	printf '%s\n' distributed 'atheris<3.1; python_version < "3.12" and sys_platform == "linux"' \
	  'atheris; python_version >= "3.12" and sys_platform == "linux"' | $(LOCK) - \
	  --constraint requirements.lock --constraint requirements-fast.lock --output-file requirements-fuzz.lock
	echo matplotlib | $(LOCK) - --constraint requirements.lock --constraint requirements-fast.lock \
	  --output-file requirements-bench.lock

clean:
	rm -rf $(VENV) build dist demo-out bench-out .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
