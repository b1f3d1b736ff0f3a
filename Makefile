# The commands of this project. Each sets up what it needs in .venv, once: the second call starts at once.
#   make PYTHON=python3.12 demo          another Python (3.11 to 3.13)
#   make TORCH=torch==2.12.0 demo        another torch, or anything else that pip takes, such as the index of a CUDA build
#   make test ARGS="-k hang"             what pytest takes

PYTHON ?= python3
# First and by itself, so that nothing else chooses it: the build for CPUs where pip is offered one.
TORCH ?= torch==2.13.0
ARGS ?=
# Labelled cases for `make score`; any folder laid out like it.
CASES ?= ../shared/data

# What is started thousands of times is compiled once, also where the environment says otherwise.
export PYTHONDONTWRITEBYTECODE :=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.PHONY: help demo test test-long check bench score soak chaos screenshots clean

help:
	@echo "make demo    the main job, eight faults, nobody touching it: 3 minutes"
	@echo "make test    the tests: about 9 minutes on 2 cores; make test-long: those that have a shorter one beside them"
	@echo "make check   ruff and mypy"
	@echo "make bench   figures, beside those of its peers: what a step pays, how fast a run comes back (ARGS=--help)"
	@echo "make score   how well the senses judge labelled cases: make score CASES=FOLDER"
	@echo "make soak    the tests that are too long for make test"
	@echo "make chaos   half an hour of a fault every ten seconds; then the same training undisturbed"
	@echo "make screenshots   the dashboard's pages for the README: a short run with faults, and Debian's chromium"
	@echo "make clean   remove .venv, .venv-peers and what tools left behind; runs and checkpoints stay"

demo: .venv/ready
	@$(BIN)/python -P -m orchestrator.demo $(ARGS)

# A real run takes most of a core, so two share two; those that measure run alone. Status 5: none was selected.
# A file stays with one worker: what it makes once is made once. (xdist_group does nothing from pytest 9.2 on.)
SHORT := not soak and not long
test: .venv/ready-to-develop
	@$(BIN)/python -m pytest -n 3 --dist loadfile -m "$(SHORT) and not e2e and not alone and not browser" $(ARGS) || test $$? -eq 5
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "$(SHORT) and browser and not alone" $(ARGS) || test $$? -eq 5
	@$(BIN)/python -m pytest -n 2 -m "$(SHORT) and e2e and not alone and not browser" $(ARGS) || test $$? -eq 5
	@$(BIN)/python -m pytest -m "$(SHORT) and alone" $(ARGS) || test $$? -eq 5

test-long: .venv/ready-to-develop
	@$(BIN)/python -m pytest -n 2 -m "long and not soak and not browser and not alone" $(ARGS) || test $$? -eq 5
	@$(BIN)/python -m pytest -m "long and not soak and not browser and alone" $(ARGS) || test $$? -eq 5
	@$(BIN)/python -m pytest -m "long and not soak and browser" $(ARGS) || test $$? -eq 5

check: .venv/ready-to-develop
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

bench: .venv/ready-to-develop
	@$(BIN)/python -m tests.bench $(ARGS)

score: .venv/ready-to-develop
	@$(BIN)/python -m tests.score $(CASES) $(ARGS)

soak: .venv/ready-to-develop
	@$(BIN)/python -m pytest -m soak $(ARGS)

chaos: .venv/ready-to-develop
	@$(BIN)/python -m tests.chaos $(ARGS)

screenshots: .venv/ready-to-develop
	@$(BIN)/python -m tests.dashboard.screenshots

clean:
	rm -rf .venv .venv-peers build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find orchestrator jobs monitors tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/torch:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	    { echo "$$($(PYTHON) --version) is not 3.11 to 3.13; name one that is: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "Python's venv is not there: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up .venv: $(TORCH) (a minute or two, once)"
	@$(PYTHON) -m venv .venv
	@$(PIP) install $(TORCH)
	@touch $@

.venv/ready: .venv/torch pyproject.toml
	@echo "Setting up .venv: lastgood and what it needs"
	@$(PIP) install --editable .
	@touch $@

.venv/ready-to-develop: .venv/torch pyproject.toml
	@echo "Setting up .venv: lastgood, and what tests and checks need"
	@$(PIP) install --editable '.[dev]'
	@touch $@ .venv/ready
