# Build, run and test Hardpoint. Needs GNU make and python3; scripts/bootstrap sees to the rest.

PYTHON ?= python3
STATE ?= .state
PORT ?= 8080

TESTS ?= tests/integration tests/contract tests/unit
# Tests wait more than they compute: two workers more than there are cores. The files keep their order, the long ones first
WORKERS ?= $(shell expr $$(nproc) + 2)
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=25 --durations-min=15

# An emulated guest keeps one core busy, so two labs are tested in side by side; each needs up to 6.5 GB of memory
LABS ?= 2
LAB_TESTS ?= not long
LAB = $(BIN)/python -m pytest -n $(LABS) --dist loadfile --no-loadscope-reorder --durations=40 --durations-min=30 tests/lab

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile -qq -c constraints.txt
# Of the contract, what the database has most part in: paths and parameters are looked at before it is asked
STORED := issues.py jobs.py pci_attach.py queries.py replies.py usb.py
# pip compiles one file after the other; processes start in half the time for it, and tests start hundreds
COMPILE := $(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null || true
VENV := .venv/installed
BENCH := .venv/installed-bench

export PYTHON
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.PHONY: help venv run test test-postgres test-ceph lab lab-long lab-images lint check openapi describe bench bare clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: $(VENV) ## install everything into .venv; again only when pyproject.toml or constraints.txt changed

run: $(VENV) ## start Hardpoint with this machine as its first host; STATE=.state PORT=8080; Ctrl-C stops it
	@$(BIN)/hardpoint up --state $(STATE) --port $(PORT)

test: $(VENV) ## run the unit, contract and integration tests
	@scripts/bootstrap test
	$(PYTEST) $(TESTS)

test-postgres: $(VENV) ## run the contract and integration tests on a PostgreSQL of their own
	@scripts/bootstrap test
	HARDPOINT_TEST_DATABASE=postgresql $(PYTEST) tests/integration/crash/test_crash.py tests/integration/facilities \
		tests/integration/hosts tests/integration/storage/test_local.py \
		$(addprefix tests/contract/test_,$(STORED))

test-ceph: $(VENV) ## run the tests on a Ceph cluster of their own, in user space (root)
	@scripts/bootstrap ceph
	$(BIN)/python -c "from tests.ceph.programs import prepare; prepare()"
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/ceph

lab-images: $(VENV) ## build the images of the lab's guests unless they are there (root)
	@scripts/bootstrap lab
	$(BIN)/python -m tests.lab build

lab: $(VENV) ## run the tests on QEMU guests as hosts (root; docs/lab.md)
	@scripts/bootstrap lab
	$(LAB) -m '$(LAB_TESTS)'

lab-long: $(VENV) ## run those that take emulated guests longest: packages of a bare host, PostgreSQL, shared blocks, Ceph (root)
	@scripts/bootstrap lab
	$(LAB) -m long

lint: $(VENV) ## lint, formatting, types, who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint ## lint and the unit tests
	$(PYTEST) tests/unit

openapi: $(VENV) ## write docs/openapi.json anew from the operations
	$(BIN)/python -m mn openapi > docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json

describe: $(VENV) ## write what the client knows of the API (its description, the SDK's actions) from the registry
	$(BIN)/python -m mn describe > .venv/api_description.json
	mv .venv/api_description.json mnclient/api_description.json
	$(BIN)/python scripts/generate_sdk.py

bench: $(BENCH) ## measure against peers and print the tables
	$(BIN)/python -m bench all

bare: ## prove that `make run` and `make test` work on a machine with python3 and make only (root)
	@$(PYTHON) scripts/bare

clean: ## remove what was built; the state folder of `make run` stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV): pyproject.toml constraints.txt
	@scripts/bootstrap venv
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@echo 'installing Hardpoint into .venv'
	@$(INSTALL) -e '.[mn,kvmagent,storageagent,cephagent,cli,test]'
	@$(COMPILE)
	@touch $@

$(BENCH): $(VENV)
	$(INSTALL) -e '.[mn,kvmagent,storageagent,cephagent,cli,test,bench]'
	@$(COMPILE)
	@touch $@
