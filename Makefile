# The commands of this project. `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help run test audit lint format bench soak docs schema vendor clean

PYTHON := .venv/bin/python

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## run the product here (PORT=8000 BIND=127.0.0.1 DEMO=1)
	@scripts/run --stop-with-parent

test: ## all checks and tests (ALLOW_MISSING=1: without what is not installed)
	@scripts/test

audit: ## known weaknesses of what is installed (pip-audit; needs the network)
	@scripts/environment --group dev
	@scripts/audit

lint: ## all checks without a server
	@scripts/environment --group dev
	@scripts/lint

format: ## format Python and templates
	@scripts/environment --group dev
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format .
	@find templates -name '*.html' -exec .venv/bin/djade --target-version 5.2 {} + || true

bench: ## measure; writes bench-results.json
	@scripts/environment --group dev
	@$(PYTHON) -m scripts.servers $(PYTHON) -m tests.bench.run

soak: ## the tests that run for long
	@scripts/environment --group dev
	@$(PYTHON) -m scripts.servers $(PYTHON) -m pytest -m soak -o faulthandler_timeout=1200

docs: ## build the documentation into site/
	@scripts/environment --group dev --group docs
	@.venv/bin/zensical build --clean

schema: ## write docs/openapi.yml after the API changed
	@scripts/environment --group dev
	@$(PYTHON) manage.py spectacular --validate --fail-on-warn --file docs/openapi.yml

vendor: ## fetch static/vendor/ and the icons again (needs npm)
	@python3 scripts/vendor.py

clean: ## remove what can be made again; var/ stays
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache site .coverage
