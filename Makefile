# `make demo` and `make test` create what they need in .venv and need no other step.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

TOOLS := .venv/tools/bin

.PHONY: help demo test test-fast test-slurm test-browser test-crate test-versions lock audit smoke calibrate lint bench bench-gpu gpu gpu-wheels gpu-unpack install clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## four real runs on real photographs: what they reproduce of Figure 7 and Table 7, and of our own
	$(BIN)/repro run F7:both,centering,sharpening T7:r1,r2 --scale laptop --seeds 1 --yes
	@# A run that comes out differently is a finding, exit code 1, and no reason to stop.
	$(BIN)/repro replicate F7:both,centering,sharpening T7:r1,r2 --scale laptop --seeds 0 || test $$? -eq 1
	$(BIN)/repro report --scale laptop

# Each process has half of the files, so that what a file's tests share is made once; the first
# to be done takes of the other's.
test: $(READY)  ## the whole test suite
	$(BIN)/pytest -n auto --dist worksteal --benchmark-disable

test-fast: $(READY)  ## the three quarters of it that take a minute: no workers, browsers, pictures
	$(BIN)/pytest -n auto --dist worksteal --benchmark-disable -m 'not slow'

# These tests mostly wait, so several go side by side, each process with a cluster of its own.
test-slurm: $(READY)  ## on real two-node SLURMs that are started here and taken down; as root, with Debian's packages
	REPRO_TEST_SLURM=1 $(BIN)/pytest -n 4 --dist worksteal tests/slurm

test-browser: $(READY)  ## the report in a real Chromium; Debian's packages chromium and chromium-driver
	REPRO_TEST_BROWSER=1 $(BIN)/pytest tests/browser

# roc-validator wants versions that others here do not.
CRATE := .venv/crate/bin/python
test-crate: $(READY)  ## the exported RO-Crate by roc-validator, in an environment of its own
	test -x $(CRATE) || $(PYTHON) -m venv .venv/crate
	$(CRATE) -m pip install --quiet --disable-pip-version-check -r tests/analysis/crate/requirements.txt
	REPRO_TEST_CRATE=$(CURDIR)/$(CRATE) $(BIN)/pytest tests/analysis/crate

smoke: $(READY)  ## every training row of the paper, seconds each: trains, is evaluated, ends in its table
	results=$$(mktemp -d); trap 'rm -rf "$$results"' EXIT; \
	REPRO_RESULTS=$$results $(BIN)/repro run all --scale smoke --seeds 1 > /dev/null

calibrate: $(READY)  ## are the verdicts calibrated? simulated, ten minutes on a core: results/calibration.{json,md}
	$(BIN)/python -m tests.analysis.verdicts.simulated.calibration results/calibration

lint: $(READY)  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)  ## our code against plain baselines and the hardware: results/benchmarks/cpu.{json,md,png}
	BENCH_SIZE=full $(BIN)/pytest tests/benchmarks --benchmark-only --benchmark-json=results/benchmarks/cpu.json
	$(BIN)/python -m analysis.benchmarks results/benchmarks/cpu.json

bench-gpu: $(READY)  ## steps, views, k-NN and shared cards on a CUDA GPU, in three minutes; BENCH_AUTHORS=checkout of theirs
	BENCH_DEVICE=cuda BENCH_SIZE=full $(BIN)/python -m tests.benchmarks.gpu results/benchmarks/cuda.jsonl
	$(BIN)/python -m analysis.benchmarks results/benchmarks/cuda.jsonl

# A Python that already has torch is used as it is: PYTHON where it is given, .venv where there is one.
# docs/gpu.md: WHEELS AUTHORS GPU_OUT GPU_STEPS GPU_MINUTES GPU_REHEARSAL; GPU_PYTHON GPU_PACKAGES.
ifeq ($(origin PYTHON),file)
HERE := $(firstword $(wildcard $(BIN)/python) $(PYTHON))
else
HERE := $(PYTHON)
endif

gpu:  ## all that a CUDA GPU can show, in eight minutes; GPU_REHEARSAL=cpu: the same without one
	$(HERE) -m tests.gpu.session

gpu-wheels:  ## what a machine with a GPU and without an index lacks, into the folder WHEELS=
	$(HERE) -m tests.gpu.wheels

gpu-unpack: $(READY)  ## the runs that a session on a GPU left in GPU_OUT=, into results/runs
	$(BIN)/python -m tests.gpu.evidence --unpack '$(GPU_OUT)'

install: $(READY)  ## the virtual environment .venv with all that is needed

# Nothing comes from elsewhere than it did here: what has another digest than requirements.txt says
# is refused, what builds packages that come as source included, which is therefore there first.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
$(READY): pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.12"'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.txt > .venv/builder.txt
	$(INSTALL) --require-hashes --no-deps --requirement .venv/builder.txt
	$(INSTALL) --require-hashes --no-build-isolation --requirement requirements.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

# Tools of their own, which nothing that is tested sees.
$(TOOLS)/.ready:
	test -x $(TOOLS)/python || $(PYTHON) -m venv .venv/tools
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 pip-audit==2.10.1
	touch $@

lock: $(TOOLS)/.ready  ## requirements.txt from pyproject.toml; UPGRADE="torch timm" raises these, UPGRADE=all everything
	$(TOOLS)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes \
		--custom-compile-command 'make lock' --output-file requirements.txt pyproject.toml \
		$(if $(filter all,$(UPGRADE)),--upgrade,$(addprefix --upgrade-package ,$(UPGRADE)))

audit: $(TOOLS)/.ready  ## are vulnerabilities known of the versions in requirements.txt? fails where nobody can be asked
	$(TOOLS)/pip-audit --strict --require-hashes --disable-pip --requirement requirements.txt

# PYTHON:PACKAGES: a version or path; locked, lowest-direct or highest. Environments lie elsewhere.
VERSIONS ?= 3.11:lowest-direct 3.12:locked 3.13:locked 3.13:highest
test-versions: $(READY) $(TOOLS)/.ready  ## the method, data and configs on other Pythons, oldest and newest packages
	$(BIN)/python -m tests.versions $(TOOLS)/uv $(VERSIONS)

clean:  ## remove the virtual environment and all caches, never results
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
