# Needs Python >= 3.11, git and GNU make; everything else goes into .venv. `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
CUDA ?= $(or $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: \([0-9]*\).*/\1/p'),12)

BIN := $(VENV)/bin
RUN := $(BIN)/python -m
INSTALLED := $(VENV)/installed
LOWEST := build/lowest

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Matrices of tests and examples are small, and on a busy machine the threads of a BLAS wait for one another.
export OPENBLAS_NUM_THREADS ?= 1

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test lint types examples tour docs bench gpu warmup dev test-lowest dist clean distclean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "make %-12s %s\n", $$1, $$2 }'

# --- the two commands -----------------------------------------------------------------------------------

demo: $(INSTALLED)/plot  ## run every capability on real data, print a table, write a page
	$(RUN) linalg_ml tour

test: lint types examples tour  ## run all checks: lint, types, examples, the tour, tests and doctests
	$(RUN) pytest --cov

# --- parts of `make test` -------------------------------------------------------------------------------

lint: $(INSTALLED)/test  ## check style and format
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(INSTALLED)/test  ## check the types
	$(RUN) mypy

examples: $(INSTALLED)/test  ## run every script of examples/ without a screen
	@for script in $$(find examples -name 'plot_*.py' | sort); do \
		echo "$$script"; MPLBACKEND=Agg $(BIN)/python "$$script" || exit 1; done

tour: $(INSTALLED)/test
	mkdir -p build
	$(RUN) linalg_ml tour --output build/tour.html

# --- by hand --------------------------------------------------------------------------------------------

docs: $(INSTALLED)/docs  ## build the documentation in docs/_build/html
	$(RUN) sphinx -W --keep-going -b html docs docs/_build/html

bench: $(INSTALLED)/bench  ## run every benchmark once and print a table
	$(BIN)/python asv_bench/table.py

gpu: $(INSTALLED)/cuda$(CUDA) $(INSTALLED)/test  ## run the tests on a CUDA device (CUDA=12 or 13)
	$(BIN)/python -c "import cupy; print(cupy.cuda.runtime.getDeviceProperties(0)['name'].decode())"
	$(RUN) pytest -k cupy

warmup: $(INSTALLED)/plot  ## compile and cache the CPU kernels
	$(RUN) linalg_ml warmup

dev: $(INSTALLED)/dev  ## install everything that contributors need

test-lowest:  ## run the tests with the oldest versions accepted (PYTHON: 3.11 or 3.12)
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install -qq --constraint .ci/lowest.txt --editable ".[test]"
	$(LOWEST)/bin/python -m pytest

dist: $(INSTALLED)/dev  ## build the wheel and the sdist in dist/
	$(RUN) build

clean:  ## remove what the other targets made, but for .venv
	rm -rf build dist .coverage coverage.xml htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf docs/_build docs/auto_examples docs/api/generated docs/sg_execution_times.rst linalg_ml_tour.html
	find linalg_ml tests examples asv_bench docs -name __pycache__ -prune -exec rm -rf {} +

distclean: clean  ## remove .venv too
	rm -rf $(VENV)

# --- the environment: one stamp an extra, made anew when pyproject.toml changes -------------------------

$(VENV)/made:
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit(f'linalg_ml needs Python 3.11 or newer, and \
	$(PYTHON) is {sys.version.split()[0]}: try make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(INSTALLED)/%: pyproject.toml | $(VENV)/made
	$(RUN) pip install -qq --editable ".[$*]"
	@mkdir -p $(INSTALLED) && touch $@
