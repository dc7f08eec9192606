# `make help` lists the verbs. `demo` and `test` install everything into .venv by themselves.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
INSTALLED := $(VENV)/.installed
RUN := $(VENV)/bin/
SCRIPTS := .ci/run tests/install_debian.sh tests/slurm/install.sh tests/browser/install.sh $(wildcard jobs/*.sbatch jobs/*.pbs jobs/torque/*.pbs)

# three processes, because many tests wait, a file at a time in the order of tests/conftest.py, the longest first;
# TEST_ARGS= runs one after the other, TEST_ARGS="-k NAME" some
TEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder

# one thread per library call: the tests compare numbers, and small machines run several of them
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help demo test lint types bench bench-large clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(INSTALLED) ## simulate a sheared suspension and recover what was put in, with a certified posterior
	rm -rf demo && mkdir demo
	$(RUN)hpcxpcs simulate laminar_flow -o demo/shear.hdf --angles 12 --frames 400 --noise 0.01 --seed 7 --config demo/config.yaml
	$(RUN)hpcxpcs fit demo/config.yaml --run demo/run

test: lint types ## lint, types, then all tests
	@tests/slurm/install.sh
	@tests/browser/install.sh
	$(ONE_THREAD) $(RUN)python -m pytest $(TEST_ARGS)

lint: $(INSTALLED) ## style of Python code and job scripts
	$(RUN)ruff check .
	$(RUN)shellcheck --shell=bash $(SCRIPTS)

types: $(INSTALLED) ## static types
	$(RUN)mypy

bench: $(INSTALLED) ## measure, and print tables
	$(RUN)python bench/help_time.py
	$(RUN)python bench/point_fit.py
	$(RUN)python bench/moments.py
	$(RUN)python bench/squares.py
	$(RUN)python bench/coverage.py
	$(RUN)python -m bench.posterior
	$(RUN)python -m bench.ranks
	$(RUN)python -m bench.campaign
	$(RUN)python -m bench.correlate

bench-large: $(INSTALLED) ## fit a file larger than the memory it may use: 12 GB of disk, a quarter of an hour
	$(RUN)python -m bench.large

clean: ## remove .venv, caches, the demo and built packages
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .nlsq_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# python3.12 first, otherwise any Python that is recent enough; PYTHON=... chooses one
$(INSTALLED): pyproject.toml
	@python=; \
	for candidate in $(PYTHON) python3.12 python3.13 python3.14 python3 python; do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
	        python=$$candidate; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "hpcxpcs needs Python 3.12 or later, and none was found: try make PYTHON=/path/to/python3.12" >&2; \
	    exit 1; \
	fi; \
	[ -x $(VENV)/bin/python ] || "$$python" -m venv $(VENV)
	@echo "installing into $(VENV) (a minute or two the first time)"
	@$(RUN)python -m pip install --quiet --disable-pip-version-check -e '.[mpi,test]'
	@touch $@
