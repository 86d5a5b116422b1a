# Everything sets itself up: `make demo` and `make test` work on a fresh machine with Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint docs bench clean

help:  ## Show what there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# What is installed is marked by a file, so that a second call is quick; pyproject.toml makes it anew.
$(VENV)/.train: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e '.[train]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e '.[train,events,export,dev,peers]'
	@touch $@ $(VENV)/.train

setup: $(VENV)/.dev  ## Make the environment for development

# $(call remove,FOLDER,FILE ...): remove a folder, but only one that holds these files.
define remove
@if [ -e "$(1)" ]; then for file in $(2); do [ -f "$(1)/$$file" ] || \
  { echo "$(1) is not removed: it holds no $$file, so it is not ours; name another folder"; exit 1; }; done; fi
rm -rf -- "$(1)"
endef
demo: $(VENV)/.train  ## Train a deep spiking network without help and with it (about a minute), picture in runs/demo
	$(call remove,$(RUN),demo.png comparison.csv)
	$(BIN)/shortcut-snn demo --out "$(RUN)"

test: $(VENV)/.dev  ## Run the tests (eleven minutes on 2 cores)
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(VENV)/.dev  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.dev  ## Build the documentation into docs/_build
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_build

bench: $(VENV)/.dev  ## Time training steps side by side with SpikingJelly, snnTorch and Norse
	$(BIN)/python -m benchmarks

clean:  ## Remove the environment and the demo's run
	$(call remove,$(RUN),demo.png comparison.csv)
	$(call remove,$(VENV),pyvenv.cfg)
