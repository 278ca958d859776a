# make run    start the server (ARGS="--port 9000" for flags)      make test   the whole test suite
# make check  lint, types, import rules, tests                       make bench  the figures of docs/performance.md
# make fuzz   five minutes of garbage against a real server          make cluster  two nodes on PostgreSQL and Valkey, to try
# make soak   ten minutes in which everything is killed
# make million  as many idle WebSockets as fit here, up to a million: 15 minutes, most of the memory
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
WORKERS := 6
PIP    := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

.PHONY: run test install install-dev check lint format bench million fuzz cluster soak clean

run: install
	@exec $(BIN)/chatserver serve $(ARGS)

# A run starts some hundred processes: they share what Python has compiled, also where the environment forbids to keep it.
test bench million fuzz cluster soak: export PYTHONDONTWRITEBYTECODE =

test: install-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS)

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# An environment without pip is made anew: python3-venv was missing at first, or Python has been upgraded since.
without-pip := $(shell $(BIN)/python -Ic 'import pip' 2>/dev/null || rm -f $(BIN)/python)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { echo "could not make $(VENV); on Debian: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(PIP) -e '.[bench]'
	@touch $@

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint test

bench: $(VENV)/.installed-bench
	$(BIN)/python -m tests.bench $(ARGS)

million: install-dev
	$(BIN)/python -m tests.million $(ARGS)

fuzz: install-dev
	$(BIN)/python -m tests.fuzz --seconds 300 $(ARGS)

cluster: install-dev
	@exec $(BIN)/python -m tests.cluster $(ARGS)

soak: install-dev
	$(BIN)/python -m tests.soak $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find chatserver loadgen tests docs -name __pycache__ -prune -exec rm -rf {} +
