# Every target first makes the virtual environment it needs: plain python3 and pip, or uv when that is on PATH.
# An environment is installed anew only when pyproject.toml or constraints.txt changed.

VENV         ?= .venv
PYTHON       ?=
ARGS         ?=
# Processes that share the fast tests, a file each at a time; one after another in one process: make test WORKERS=0
WORKERS      ?= 2
# The LiteLLM that `make lock` writes down, and the newer one that `make test-litellm-next` tries.
LITELLM      ?= 1.104.5
LITELLM_NEXT ?= 1.109.1

PY      := $(VENV)/bin/python
DEV     := $(VENV)/.installed-dev
PROOF   := $(VENV)/.installed-proof
UV      := $(shell command -v uv 2>/dev/null)
INSTALL := $(if $(UV),$(UV) pip install --quiet --python $(PY),$(PY) -m pip install --quiet --disable-pip-version-check)
PYTHONS := 3.10 3.11 3.12 3.13
FAST    := $(PY) -m pytest -m "not slow" -n $(WORKERS) --dist loadfile
# LiteLLM without .pyc files needs 10 s for each import, and some machines forbid Python to write them.
COMPILE := PYTHONDONTWRITEBYTECODE= $(PY) -m compileall -qq -j 0 $(VENV)/lib any_agent >/dev/null 2>&1 || true

.DEFAULT_GOAL := help
.PHONY: help demo test check format docs bench test-slow test-all-pythons test-litellm-next suite litellm-next lock hooks clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo '  ARGS="…" is handed on to pytest, e.g. make test ARGS="-k streaming -x"'

# ---- what you came for ----

# The demo needs only the package and its proofreader; a development environment that is there serves as well.
demo: $(if $(wildcard $(DEV)),$(DEV),$(PROOF)) ## proofread a manuscript, with a local model server or with none
	@$(VENV)/bin/any-agent demo $(ARGS)

test: $(DEV) ## run the fast tests; coverage of any_agent must reach 90 %
	@$(FAST) --cov=any_agent --cov-report=term --cov-fail-under=90 $(ARGS)

check: $(DEV) ## lint, formatting, types, spelling
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy --strict any_agent
	@$(VENV)/bin/codespell

format: $(DEV) ## let ruff mend and format the code
	@$(PY) -m ruff check --fix-only .
	@$(PY) -m ruff format .

docs: $(DEV) ## run what the README and the pages show, and check their links
	@$(PY) -m pytest tests/house -k "docs or readme" $(ARGS)

bench: $(DEV) ## CPU and calls per query, against raw aiohttp, the openai SDK and LiteLLM
	@$(PY) benchmarks/overhead.py $(ARGS)
	@$(PY) benchmarks/tools.py
	@$(PY) benchmarks/memory.py
	@$(PY) benchmarks/context.py

test-slow: $(DEV) ## run the slow tests only
	@$(PY) -m pytest -m slow --timeout=600 $(ARGS)

test-all-pythons: ## run the fast tests on Python 3.10, 3.11, 3.12 and 3.13, each in its own .venv-3.X
	@summary=; failed=0; \
	for version in $(PYTHONS); do \
	  found=; \
	  for candidate in $$(ls -d "$$HOME"/.pyenv/versions/$$version.*/bin/python3 2>/dev/null | sort -rV) python$$version; do \
	    if "$$candidate" -c 'import sys' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then echo "Python $$version: not found"; summary="$$summary  $$version not found;"; failed=1; continue; fi; \
	  echo "== Python $$version"; \
	  if $(MAKE) --no-print-directory suite VENV=.venv-$$version PYTHON="$$found"; \
	  then summary="$$summary  $$version passed;"; else summary="$$summary  $$version FAILED;"; failed=1; fi; \
	done; \
	echo "==$$summary"; exit $$failed

suite: $(DEV)
	@$(FAST) $(ARGS)

test-litellm-next: ## run the LiteLLM tests on the newer LITELLM_NEXT, in .venv-litellm-next
	@$(MAKE) --no-print-directory litellm-next VENV=.venv-litellm-next

# --no-deps: a registry may not have the certificates' newest release yet, which the newer LiteLLM asks for.
litellm-next: $(DEV)
	@$(INSTALL) --no-deps "litellm==$(LITELLM_NEXT)"
	@$(INSTALL) --upgrade "openai>=3,<4"
	@$(COMPILE)
	@$(PY) -m pytest -k litellm $(ARGS)

# ---- housekeeping ----

lock: ## write constraints.txt anew from pyproject.toml, for all Pythons and platforms
	@if [ -z "$(UV)" ]; then python3 -m venv .venv-lock && .venv-lock/bin/python -m pip install --quiet uv; fi
	@printf '%s\n' \
	  '# Versions known to work together, so that plain pip resolves in seconds:' \
	  '#     pip install -c constraints.txt -e ".[dev]"' \
	  '# Made by `make lock` (uv pip compile --universal); do not edit. LiteLLM is held back on purpose:' \
	  '#     make lock LITELLM=<version>' > constraints.txt.new
	@echo "litellm==$(LITELLM)" | $(or $(UV),.venv-lock/bin/uv) pip compile pyproject.toml --quiet --no-config --universal \
	  --python-version 3.10 --all-extras --constraint - --no-header --no-annotate --no-emit-index-url >> constraints.txt.new \
	  || { rm -f constraints.txt.new; exit 1; }
	@mv constraints.txt.new constraints.txt
	@echo "constraints.txt: $$(grep -c == constraints.txt) pins"

hooks: $(DEV) ## let git run the quick checks before each commit
	@$(VENV)/bin/pre-commit install

clean: ## remove environments, caches and build results
	@rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov build dist site
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(PY):
	@chosen=; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.10); do \
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; \
	  then chosen=$$candidate; break; fi; \
	done; \
	if [ -z "$$chosen" ]; then echo "any_agent needs Python 3.10 to 3.13 and found none; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; fi; \
	if [ -n "$(UV)" ]; then $(UV) venv --quiet --seed --python "$$chosen" $(VENV); else "$$chosen" -m venv $(VENV); fi \
	  || { rm -rf $(VENV); exit 1; }

$(DEV): pyproject.toml constraints.txt | $(PY)
	@echo "installing any_agent for development into $(VENV) (the first time takes about a minute)"
	@$(INSTALL) -c constraints.txt -e ".[dev]"
	@$(COMPILE)
	@touch $@

$(PROOF): pyproject.toml constraints.txt | $(PY)
	@echo "installing any_agent into $(VENV) (the first time takes about half a minute)"
	@$(INSTALL) -c constraints.txt -e ".[proof]"
	@$(COMPILE)
	@touch $@
