# make repro    set up and run the study        make test     set up and run the tests
# make check    lint, types, audit and tests   make doctor   what this machine has and lacks
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
.PHONY: repro test test-slow check lint audit format deps pin doctor bench install clean-work

repro: install
	python -m stages.doctor --params-only
	python tools/repro.py

test: install
	OMP_NUM_THREADS=1 python -m pytest -m "not slow and not gpu" -n auto --dist loadfile

test-slow: install
	python -m pytest -m "slow"

check: lint audit test

lint: install
	ruff format --check .
	ruff check .
	pyright

# Known vulnerabilities of the pinned packages; asks PyPI.
audit: install
	python tools/audit.py constraints.txt

format: install
	ruff format .
	ruff check --fix .

# Code dependencies of every stage in dvc.yaml, from what its script imports.
deps: install
	python tools/update_deps.py

pin: install
	python tools/pin.py

doctor: install
	python -m stages.doctor

# Ours and its peers in turns, half an hour on an idle machine -> docs/benchmarks.md
bench: install
	python -m benchmarks.run

install: $(READY)

$(READY): pyproject.toml constraints.txt tools/install_torch.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11"; echo "hint: make PYTHON=python3.12 repro"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python tools/install_torch.py constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,check]"
	touch $@

# Finished shards of interrupted or superseded runs. Removing them is safe: dvc repro computes what it needs.
clean-work:
	rm -rf .work
