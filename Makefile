# Every command of the project; `make help` lists them. Nothing but make and Python 3.11-3.13 must be there.

VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 4
SOURCES := shared services deploy tests
INSTALLED := $(VENV)/.installed
TOOLS := .venv-tools
PACKAGES := pyproject.toml shared/pyproject.toml $(wildcard services/*/pyproject.toml deploy/*/pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help install up demo test test-properties bench test-browser chaos manifests-tools manifests-test check format catalogue proto lock clean

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | awk -F@ '{ printf "%-22s %s\n", $$1, $$2 }'

install: $(INSTALLED) ## Make .venv from the hashed lock (the other commands do it by themselves)

$(INSTALLED): requirements.lock $(PACKAGES) deploy/local/install
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh deploy/local/install
	@touch $@

up: $(INSTALLED) ## Start the whole shop on this machine and print its link; Ctrl-C stops it
	@exec $(BIN)/turnpike up

demo: $(INSTALLED) ## Play a purchase without a browser and prove it; BREAK="--kill SERVICE" or --wipe-broker
	@exec $(BIN)/turnpike demo $(BREAK)

test: $(INSTALLED) ## Run the tests against real PostgreSQL, NATS and Xray
	@exec $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

test-properties: $(INSTALLED) ## Play 20 000 random steps against the real book: repeats, deaths, reordering
	@HYPOTHESIS_PROFILE=long exec $(BIN)/pytest -n 2 tests/store/test_money_machine.py

bench: $(INSTALLED) ## Measure speed, latency, memory and start; PART=stories measures one part
	@exec $(BIN)/python -m tests.load $(PART)

test-browser: $(INSTALLED) ## Play the journeys in a real browser (needs chromium)
	@exec $(BIN)/pytest tests/browser

chaos: $(INSTALLED) ## Break every part under load and count: ROW=10 one row, SHORT=1 CI's form (not 14, 34), SEED=7 another load
	@exec $(BIN)/python -m tests.chaos $(ROW) $(if $(SHORT),--short) $(if $(SEED),--seed $(SEED))

manifests-tools: $(TOOLS)/.installed ## Make .venv-tools of what manifests-test runs (it does by itself)

$(TOOLS)/.installed: tests/manifests/tools.lock $(INSTALLED)
	@echo "installing into $(TOOLS) ..."
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(TOOLS)
	@$(BIN)/uv pip sync --quiet --no-progress --python $(TOOLS)/bin/python --require-hashes tests/manifests/tools.lock
	@touch $@

manifests-test: $(INSTALLED) $(TOOLS)/.installed ## Render the manifests, hold them against schemas and rules, and run the image's steps
	@exec $(BIN)/pytest --numprocesses 2 --dist loadfile tests/manifests

check: $(INSTALLED) ## Format, lint, types and the house tests
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy $(SOURCES)
	@$(BIN)/pytest tests/unit/test_house.py tests/unit/test_catalogue.py tests/store/test_statements.py

format: $(INSTALLED) ## Put the code into its format
	@$(BIN)/ruff check --fix-only -q $(SOURCES)
	@$(BIN)/ruff format -q $(SOURCES)

catalogue: $(INSTALLED) ## Write docs/asyncapi.json from the code
	@$(BIN)/python -m shared.catalogue > docs/asyncapi.json

proto: $(INSTALLED) ## Generate the messages of Xray's API from their .proto
	@$(BIN)/python -m grpc_tools.protoc -I services/vpn-provisioner --python_out=services/vpn-provisioner \
	  --pyi_out=services/vpn-provisioner vpn_provisioner/panels/xray_api.proto

lock: $(INSTALLED) ## Resolve the dependencies anew into requirements.lock
	@$(BIN)/uv lock --quiet --upgrade
	@$(BIN)/uv export --quiet --all-packages --all-groups --no-header --no-emit-workspace -o requirements.lock >/dev/null
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  -o tests/manifests/tools.lock tests/manifests/tools.in >/dev/null

clean: ## Remove the local shop's state; refuses while a shop runs on it
	@sh deploy/local/clean .turnpike
