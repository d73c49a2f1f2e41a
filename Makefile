# Everything the project does from a bare machine with Python 3.11 to 3.13, make and git.
# The first target that needs it fetches uv from PyPI into .uv/ and builds .venv/ from uv.lock; later ones build nothing
# unless pyproject.toml or uv.lock changed.

CUSTOMERS  ?= 10000
TRIALS     ?= 8
SEED       ?= 7
LAKE       ?=# SPANISHGAS_LAKE, else lake
EXPERIMENT ?=# SPANISHGAS_EXPERIMENT_NAME, else spanishgas
PORT       ?= 5000
JOBS       ?= 2
ONLY       ?=# a text in the name, file or tests of the mutants asked for; or images, with commas between them
BUILD_ARGS ?=# arguments of the Dockerfile: PYTHON=an-image LAMBDA=an-image
PYTEST     ?=# more words for pytest, such as --cov
UV_VERSION ?= 0.13.9

BIN   := .venv/bin
UV    := .uv/bin/uv
QUICK := not slow and not spark and not browser and not dashboard

export MLFLOW_DISABLE_TELEMETRY = true
# What MLflow says of its own tables and folders is no news to who calls `mlflow run`.
export MLFLOW_LOGGING_LEVEL ?= WARNING
# `mlflow run --env-manager local` and the tests take `python`, `mlflow` and `uv` from here.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Without it `make ui` is a dozen processes.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION ?= false
# A virtual environment that happens to be active is not the one meant.
unexport VIRTUAL_ENV
# Where it is set, each of a run's processes would compile what it imports again.
unexport PYTHONDONTWRITEBYTECODE

# .env, if there is one, for `run` and `ui`; what the caller's environment says wins.
DOTENV := if [ -f .env ]; then given=$$(export -p); set -a; . ./.env; set +a; eval "$$given"; fi;

.DEFAULT_GOAL := help
.PHONY: help run ui stack test test-all mutants lint format dev bench images verify-aws docs clean

help: ## this text
	@echo "make <target> [NAME=value ...]"
	@echo
	@awk -F ':.*## ' '/^[a-z.-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "Names: CUSTOMERS=$(CUSTOMERS) TRIALS=$(TRIALS) SEED=$(SEED) LAKE=$(or $(LAKE),lake) EXPERIMENT=$(or $(EXPERIMENT),spanishgas)"
	@echo "PORT=$(PORT) JOBS=$(JOBS), and PYTHON=... for an interpreter of your choice (3.11 to 3.13)."

run: .venv/.synced ## the whole chain: raw files to champion, scores and drift (CUSTOMERS, TRIALS, LAKE, SEED, EXPERIMENT)
	@$(DOTENV) lake='$(LAKE)'; experiment='$(EXPERIMENT)'; $(BIN)/mlflow run . --env-manager local \
	  --experiment-name "$${experiment:-$${SPANISHGAS_EXPERIMENT_NAME:-spanishgas}}" \
	  -P lake="$${lake:-$${SPANISHGAS_LAKE:-lake}}" \
	  -P customers='$(CUSTOMERS)' -P trials='$(TRIALS)' -P seed='$(SEED)'
	@echo "To see it: make ui, then http://127.0.0.1:$(PORT)"

ui: .venv/.synced ## MLflow's UI over the local tracking store (PORT)
	@$(DOTENV) case "$${MLFLOW_TRACKING_URI:-}" in \
	  http*) echo "The runs are on $$MLFLOW_TRACKING_URI: open that." ;; \
	  *) $(BIN)/mlflow ui --workers 1 --port $(PORT) --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" ;; \
	esac

# PORT stands for MLflow's UI unless it is given.
.PHONY: dashboard
dashboard: .venv/.dashboard ## the dashboard over the lake (PORT, else 8501; LAKE)
	@$(DOTENV) lake='$(LAKE)'; exec $(BIN)/spanishgas dashboard --port $(if $(filter file,$(origin PORT)),8501,$(PORT)) \
	  --lake "$${lake:-$${SPANISHGAS_LAKE:-lake}}"

stack: .venv/.synced ## the stack of AWS on this machine: PostgreSQL, moto, MLflow with a login; until Ctrl-C
	@$(BIN)/python -m tests.stack

test: .venv/.synced ## unit, integration and end-to-end tests but the slow, Spark, browser and dashboard ones (JOBS)
	$(BIN)/pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 15 -m "$(QUICK)" $(PYTEST)

test-all: .venv/.all ## every test, with every extra
	$(BIN)/pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 30

mutants: .venv/.all ## faults planted in a copy of the package, one by one: the tests named for each must fail (JOBS, ONLY)
	$(BIN)/python -m tests.mutants --jobs $(JOBS) --only '$(ONLY)'

lint: .venv/.synced ## style, types, layers, words, and conda.yaml against uv.lock
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/conda_yaml.py --check
	$(BIN)/python .ci/words.py

format: .venv/.synced ## rewrite sources as lint wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

conda.yaml: .venv/.synced ## write conda.yaml from uv.lock
	$(BIN)/python .ci/conda_yaml.py
	@touch $@

dev: .venv/.all ## every extra and tool in .venv; inside git also the pre-commit hook
	@if git rev-parse --git-dir >/dev/null 2>&1; then $(BIN)/pre-commit install; fi

bench: .venv/.all ## the project beside its peers and limits, in one table at the end (hours)
	$(BIN)/python -m benchmarks

docs: .venv/.synced ## the documentation as a site, in site/
	$(BIN)/python docs/reference_pages.py
	$(BIN)/zensical build --clean --strict

images: .venv/.synced ## every container image built, started as its service does, and weighed (ONLY, BUILD_ARGS)
	$(BIN)/python -m infra.images $(if $(ONLY),--only '$(ONLY)') $(BUILD_ARGS)

verify-aws: .venv/.synced ## score 90 made-up customers by a real SageMaker job and check each step (docs/scoring.md)
	$(BIN)/python -m infra.verify_aws

clean: ## remove environments and caches; data and runs stay
	rm -rf .venv .uv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage* build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Kept: $(or $(LAKE),lake)/, mlflow.db, mlruns/, mlartifacts/. Remove them by hand to begin anew."

# Once every extra was asked for, .venv keeps them: a later `make test` must not take them away.
.venv/.synced: pyproject.toml uv.lock $(UV)
	@echo "Building .venv from uv.lock (the first time this downloads about 1 GB)"
	@$(UV) sync --locked --compile-bytecode --python .uv/bin/python --no-python-downloads $$(test ! -f .venv/.all || echo --all-extras --all-groups)
	@touch $@

.venv/.dashboard: .venv/.synced
	@$(UV) sync --locked --compile-bytecode --inexact --extra dashboard
	@touch $@

.venv/.all: .venv/.synced
	@$(UV) sync --locked --compile-bytecode --all-extras --all-groups
	@touch $@

$(UV):
	@found=; lacking=; candidates="$${PYTHON:-python3.11 python3 python3.13 python3.12}"; \
	for python in $$candidates; do \
	  "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue; \
	  "$$python" -c 'import ensurepip, venv' 2>/dev/null || { lacking="$$python"; continue; }; \
	  found="$$python"; break; \
	done; \
	if [ -n "$$found" ]; then :; elif [ -n "$$lacking" ]; then \
	  echo "$$lacking lacks venv or ensurepip: install them (Debian: apt install python3-venv) or set PYTHON=" >&2; exit 1; \
	else \
	  echo "None of $$candidates is a Python 3.11, 3.12 or 3.13: install one, or name it with PYTHON=" >&2; exit 1; \
	fi; \
	echo "Fetching uv $(UV_VERSION) from PyPI into .uv with $$("$$found" --version)"; \
	"$$found" -m venv --clear .uv && \
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) || \
	{ rm -rf .uv; echo "uv could not be installed from PyPI: see the message above" >&2; exit 1; }
