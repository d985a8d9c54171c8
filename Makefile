# make demo    the main job on real photographs, start to finish      make test   every test that needs no GPU
# make check   lint, types, links, the code in README and docs        make clean  remove what these made
#
# Each sets itself up in .venv the first time; after that, setup is instant.
#   PYTHON=python3.12                                      another Python (3.11 or newer)
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu       on Linux: a 200 MB CPU build of torch instead of CUDA's
#   TESTS=tests/passes                                     some of the tests
#   JOBS=4                                                 test processes (2)

PYTHON ?= python3
TORCH_INDEX ?=
TESTS ?= tests
JOBS ?= 2

BIN := .venv/bin
READY := .venv/.ready
TENSORRT := .venv/.tensorrt-rtx
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --quiet \
	--constraint requirements/constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: help setup demo check test test-exhaustive test-gpu test-tensorrt clean

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

setup: $(READY)

$(READY): pyproject.toml requirements/constraints.txt requirements/packages.txt requirements/packages-no-deps.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "trine needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up .venv: installing pinned packages, a minute or two ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) --editable '.[dev]' --requirement requirements/packages.txt
	@$(PIP) --no-deps --requirement requirements/packages-no-deps.txt
	@touch $@

# TensorRT for RTX, whose wheels not every index and system has; the tests that want it are skipped without it.
$(TENSORRT): $(READY) requirements/tensorrt-rtx.txt
	@$(PIP) --no-deps --requirement requirements/tensorrt-rtx.txt || \
		echo "TensorRT for RTX cannot be installed here: its tests will be skipped"
	@touch $@

demo: $(READY)
	@$(BIN)/python demo/main.py

# One thread a process: the tests already run in $(JOBS) processes.
test: $(READY) $(TENSORRT)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu and not exhaustive" --numprocesses $(JOBS) --dist worksteal $(TESTS)

# Every configuration of every kernel, compiled for every architecture and run in the interpreter; large networks.
test-exhaustive: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m exhaustive --numprocesses $(JOBS) --dist worksteal $(TESTS)

test-gpu: $(READY)
	$(BIN)/python -m pytest -m gpu $(TESTS)

# Plans by the real TensorRT for RTX, 230 MB; its builder needs no GPU. Fails where `make test` skips them: without it.
test-tensorrt: $(READY)
	@$(PIP) --no-deps --requirement requirements/tensorrt-rtx.txt
	$(BIN)/python -c 'from trine.runtime.tensorrt.packages import installed_tensorrt as found; print(found())'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu" tests/backends/tensorrt tests/builder/test_tensorrt.py \
		tests/cli/test_tensorrt.py tests/runtime/tensorrt

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python benchmarks/tables.py --check
	$(BIN)/python scripts/write_pass_docs.py --check
	$(BIN)/python scripts/write_compat_docs.py --check
	$(BIN)/python scripts/check_links.py
	$(BIN)/python scripts/run_doc_code.py

clean:
	rm -rf .venv demo-out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name '*.egg-info' -prune -exec rm -rf {} +
