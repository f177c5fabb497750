# make setup | up | demo | test | quick | check | bench | fuzz | test-interop | lock
PYTHON ?= python3
BIN := .venv/bin
DATA ?= var/posthouse

.PHONY: setup setup-dev up demo test quick check bench fuzz test-interop lock reference clean

setup: ; @$(PYTHON) tools/bootstrap.py
setup-dev: ; @$(PYTHON) tools/bootstrap.py --dev

up: setup          ## run a mail server on loopback, high ports, data in var/posthouse
	@$(BIN)/posthouse up --data $(DATA)

demo: setup        ## the story of a letter, live
	@$(BIN)/posthouse demo

check: setup-dev   ## lint, types, architecture contracts, sizes, references up to date
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python tools/size_check.py
	@$(BIN)/python tools/rfc_check.py
	@$(BIN)/python tools/reference.py --check

test: check        ## everything that CI runs
	@$(BIN)/pytest -m "not interop" -n 2

quick: setup-dev   ## the fast tests only
	@$(BIN)/pytest -m "not interop and not slow" -n 2

test-interop: setup-dev  ## real peers and clients from Debian and PyPI; installs them (needs root for apt-get)
	@sh tools/install_interop.sh
	@$(BIN)/pytest -m interop -rs

bench: setup-dev   ## posthouse beside its peers in one run, into bench/results/; BENCH="--budget-minutes 20" for less
	@sh tools/install_interop.sh bench
	@$(BIN)/python -m bench $(BENCH)

fuzz: setup-dev    ## every night: ten minutes over all targets; finds are kept in fuzz/crashes and told
	@$(BIN)/python -m fuzz all --minutes 10

reference: setup-dev ## regenerate docs/reference from the code
	@$(BIN)/python tools/reference.py

lock: setup-dev    ## refresh the lock files (needs uv: pip install uv)
	@uv pip compile pyproject.toml --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 -o requirements.lock -q
	@uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 -c requirements.lock -o requirements-dev.lock -q

clean: ; rm -rf .venv .bootstrap build dist
