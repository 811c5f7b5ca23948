# Every command of the project; `make help` lists them. They need make and Python 3.11-3.13.

VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 5
SOURCES := shared services deploy tests
TOOLS := .venv-tools
PACKAGES := $(patsubst %/pyproject.toml,%,$(wildcard \
  shared/pyproject.toml services/*/pyproject.toml deploy/*/pyproject.toml))

.DEFAULT_GOAL := help
.PHONY: help install up demo test test-properties test-bounds bench test-browser picture chaos \
  manifests-tools manifests-test check format catalogue proto lock clean

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) \
	  | awk -F@ '{ printf "%-22s %s\n", $$1, $$2 }'

install: ## Make .venv from the hashed lock (the other commands do it by themselves)
	@sh deploy/local/install "$(VENV)" requirements.lock $(PACKAGES)

up: install ## Start the whole shop on this machine and print its link; Ctrl-C stops it
	@exec $(BIN)/turnpike up

demo: install ## Play a purchase; BREAK="--kill SERVICE" or --wipe-broker, VERBOSE=1 for all
	@exec $(BIN)/turnpike demo $(BREAK) $(if $(VERBOSE),--verbose)

test: install ## Run the tests against real PostgreSQL, NATS and Xray
	@exec $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

test-properties: install ## Play 20 000 random steps against the real ledger
	@HYPOTHESIS_PROFILE=long exec $(BIN)/pytest -n 2 tests/store/test_money_machine.py

test-bounds: install ## Count the buffers of statements in a shop of a million people
	@exec $(BIN)/pytest tests/bounds

bench: install ## Measure speed, latency, memory and start; PART=scenarios measures one part
	@exec $(BIN)/python -m tests.load $(PART)

test-browser: install ## Play the journeys in a real browser (needs chromium)
	@exec $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder tests/browser

picture: install ## Draw docs/purchase.gif (needs chromium and fonts-noto-color-emoji)
	@TURNPIKE_PICTURE=1 exec $(BIN)/pytest tests/browser/test_purchase.py

chaos: install ## Break the shop under load; ROW=10 one row, SHORT=1 the short form, SEED=7
	@exec $(BIN)/python -m tests.chaos $(ROW) $(if $(SHORT),--short) \
	  $(if $(SEED),--seed $(SEED))

manifests-tools: install ## Make .venv-tools for manifests-test, which also does it
	@PYTHON=$(BIN)/python UV_TO_USE=$(BIN)/uv \
	  sh deploy/local/install $(TOOLS) tests/manifests/tools.lock

manifests-test: manifests-tools ## Check manifests and images; OVERLAY=path
	@OVERLAY="$(OVERLAY)" exec $(BIN)/pytest --numprocesses 2 --dist loadfile tests/manifests

check: install ## Format, lint, types, dead code, dependencies and the tests of the rules
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy $(SOURCES)
	@$(BIN)/vulture
	@$(BIN)/deptry --no-ansi tests
	@bin=$$(cd $(BIN) && pwd); for package in $(PACKAGES); do \
	  found=$$(cd $$package && "$$bin/deptry" --no-ansi . 2>&1) || \
	    { echo "$$package: $$found"; exit 1; }; done
	@$(BIN)/pytest tests/unit/test_architecture.py tests/unit/test_language.py \
	  tests/unit/test_documents.py tests/unit/test_catalogue.py \
	  tests/unit/test_asyncapi_schema.py tests/unit/test_repository.py tests/store/test_statements.py

format: install ## Put the code into its format
	@$(BIN)/ruff check --fix-only -q $(SOURCES)
	@$(BIN)/ruff format -q $(SOURCES)

catalogue: install ## Write docs/asyncapi.json from the code
	@$(BIN)/python -m shared.contracts.catalogue > docs/asyncapi.json

proto: install ## Generate the messages of Xray's API from their .proto
	@$(BIN)/python -m grpc_tools.protoc -I services/vpn-provisioner \
	  --python_out=services/vpn-provisioner --pyi_out=services/vpn-provisioner \
	  vpn_provisioner/panels/xray/xray_api.proto

lock: install ## Resolve the dependencies anew into requirements.lock
	@$(BIN)/uv lock --quiet --upgrade
	@$(BIN)/uv export --quiet --all-packages --all-groups --no-header --no-emit-workspace \
	  -o requirements.lock >/dev/null
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-header -o tests/manifests/tools.lock tests/manifests/tools.in >/dev/null

clean: install ## Remove the local shop's state; refuses while a shop runs on it
	@exec $(BIN)/turnpike clean
