# The README's two commands are `make demo` and `make test`. Each sets up all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Where a training keeps its state and clips, outside of the house.
FIT ?= $(HOME)/tailor_fit
# Simulated sessions that the benchmark of behaviour has made are kept.
SESSIONS ?= $(HOME)/tailor_sessions
# A demo has a home of its own, so that it never touches a laboratory's.
DEMO_HOME ?= $(CURDIR)/tailor_home
SAM2 := .venv-sam2
MINUTES ?= 20
# E.g. --last-failed.
PYTEST_MORE ?=

.PHONY: help demo up test test-system test-crash test-soak soak lint types check sam2 test-sam2 benchmarks fit clean

help: ## what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.installed $(SAM2)/.installed ## install, simulate two videos, watch them go from a Drive to flags
	TAILOR_HOME=$(DEMO_HOME) $(BIN)/tailor demo --exit

up: $(VENV)/.installed $(SAM2)/.installed ## install and start everything
	$(BIN)/tailor up

test: $(VENV)/.installed-dev ## fast tests (those of SAM2: make test-sam2; of services: make test-system)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not system and not crash and not soak and not sam2"

test-system: $(VENV)/.installed-dev ## tests that start the whole of tailor, in real processes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "system and not crash and not soak"

test-sam2: $(VENV)/.installed-dev $(SAM2)/.installed ## the SAM2 worker against the official predictor
	$(BIN)/python -m pytest -n 2 --dist loadfile -m sam2

test-crash: $(VENV)/.installed-dev ## kills real processes of a running system
	$(BIN)/python -m pytest -m crash $(PYTEST_MORE)

test-soak: $(VENV)/.installed-dev ## long recordings, memory over time
	$(BIN)/python -m pytest -m soak

soak: $(VENV)/.installed-dev ## everything is killed at random while twenty tenants upload; MINUTES=20
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

lint: $(VENV)/.installed-dev ## style and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## type check
	$(BIN)/mypy

check: lint types test ## lint, types and fast tests

benchmarks: $(VENV)/.installed-dev $(SAM2)/.installed ## side by side with the named peers; prints tables
	$(BIN)/python -m benchmarks.frames
	$(BIN)/python -m benchmarks.frame_sources
	$(BIN)/python -m benchmarks.features
	$(BIN)/python -m benchmarks.mask_files
	$(BIN)/python -m benchmarks.segmentation
	$(BIN)/python -m benchmarks.background_masks
	$(BIN)/python -m benchmarks.mask_quality
	$(BIN)/python -m benchmarks.freezing_rules
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.freezing_model
	$(BIN)/python -m benchmarks.behavior_simulated --folder $(SESSIONS)
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.overlay
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.gpu_idle
	$(BIN)/python -m benchmarks.drive_transfers
	$(BIN)/python -m benchmarks.drive_detection
	$(BIN)/python -m benchmarks.drive_publishing
	$(BIN)/python -m benchmarks.queue_scale
	$(BIN)/python -m benchmarks.queue_fairness
	$(BIN)/python -m benchmarks.queue_recovery
	$(BIN)/python -m benchmarks.backfill --model trained

sam2: $(SAM2)/.installed ## the segmentation environment, for SAM2 models

$(SAM2)/.installed: sam2_worker/requirements.txt
	$(PYTHON) -m venv $(SAM2)
	@# sam2 is built against the torch that is there: in an isolated build it would pull another one.
	$(SAM2)/bin/python -m pip install --quiet --disable-pip-version-check \
	  torch==2.13.0 numpy==2.4.6 setuptools==84.2.1 wheel==0.48.0
	SAM2_BUILD_CUDA=0 $(SAM2)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --no-build-isolation -r sam2_worker/requirements.txt
	@touch $@

fit: $(SAM2)/.installed ## train tailor's own SAM2 (docs/models.md); stop it and begin again at will
	$(SAM2)/bin/python -m sam2_worker.fitting $(FIT)

clean: ## remove what make made, not the results
	rm -rf $(VENV) $(SAM2) .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tailor needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@
