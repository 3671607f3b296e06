# An executable paper: every target makes .venv first if needed; what executes notebooks goes on after an interruption.
PYTHON ?= python3.11
PY := .venv/bin/python
READY := .venv/.ready
PROFILE ?= quick

.DEFAULT_GOAL := help
.PHONY: help setup book pdf notebooks test unit check bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

$(READY): constraints.txt pyproject.toml
	@echo "== installing the pinned environment into .venv (about two minutes, 6 GB)"
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

setup: $(READY) ## make .venv with the pinned environment

book: $(READY) ## execute the notebooks on the synthetic archive (profile quick) and build the book
	@echo "== executing the notebooks, profile quick"
	$(PY) notebooks/execute.py quick
	@echo "== building the book"
	$(PY) book/build.py --executed runs/quick/notebooks

pdf: $(READY) ## the whole book as one PDF, _build/book.pdf (needs Chromium)
	$(PY) book/build.py --pdf $(if $(wildcard runs/quick/notebooks/06_translate.ipynb),--executed runs/quick/notebooks)

notebooks: $(READY) ## execute PROFILE and refresh the committed notebooks and records
	$(PY) notebooks/execute.py $(PROFILE) --publish

test: $(READY) unit check ## every check: style, unit tests, the book in a browser, re-execution
	@echo "== all checks passed"

unit: $(READY)
	@echo "== style"
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/codespell
	@echo "== notebook sources"
	$(PY) -m jupytext --quiet --test --to ipynb notebooks/[0-9]*.py
	@echo "== unit tests; one of them builds the book from the committed notebooks, with every warning an error"
	$(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder # by number of tests the few long ones came last

check: $(READY)
	@echo "== re-executing the committed notebooks into an empty folder"
	$(PY) notebooks/check.py quick

bench: $(READY) ## measure speed and memory on this machine
	$(PY) bench/networks.py
	$(PY) bench/build.py
	$(PY) bench/translation.py
	$(PY) notebooks/execute.py quick --only 01_dataset
	$(PY) bench/training.py

clean: ## remove the book and what the profile quick left, but no other runs or data and not .venv
	rm -rf _build runs/quick data/embedded data/quick
