# Holdfast. `make run` starts the wallet, `make test` proves it; everything they need is fetched by `setup`.
.DEFAULT_GOAL := help
export UV_PYTHON_DOWNLOADS = never
UV := .tools/bin/uv
BIN := .venv/bin
STAMP := .venv/.ready
ARGS ?=

.PHONY: help setup run test check bench soak format lock reference schema clean system

help: ## Show what can be made
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## Make the environment in .venv

$(UV): scripts/uv-requirements.txt
	@scripts/bootstrap

$(STAMP): $(UV) requirements.txt pyproject.toml
	@test -x $(BIN)/python || $(UV) venv --quiet --python "$$(command -v python3)" .venv
	@$(UV) pip sync --quiet --require-hashes requirements.txt
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

system: ## Install the system packages that tests need (a browser)
	@scripts/system-packages

run: setup ## Start everything on this machine and print the page to open
	@$(BIN)/holdfast up $(ARGS)

test: setup system ## Run the tests
	@$(BIN)/pytest --numprocesses 3 --dist loadfile $(ARGS)

soak: setup system ## Run the long fault and endurance tests
	@$(BIN)/pytest -m soak --timeout 7200 $(ARGS)

check: setup ## Format, lint, types, contracts: under a minute
	@scripts/check

format: setup ## Rewrite the code in the house format
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix-only --quiet .

reference: schema ## Write again what docs/reference takes from the code
	@$(BIN)/python scripts/reference
	@$(BIN)/python scripts/cli-reference

schema: setup ## Write again the schema that the migrations make
	@$(BIN)/python scripts/schema

bench: bench-ledger bench-routing bench-api bench-detect bench-eta bench-publish bench-notify ## Run every benchmark

bench-%: setup ## Run one benchmark: bench-ledger, -routing, -api, -detect, -eta, -publish, -notify
	@mkdir -p build/bench && $(BIN)/python -m bench.$* $(ARGS)

lock: $(UV) ## Pin the requirements again
	@$(UV) pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal \
	  --python-version 3.11 --extra dev pyproject.toml --output-file requirements.txt

clean: ## Delete everything that can be made again
	@rm -rf .venv .tools build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
