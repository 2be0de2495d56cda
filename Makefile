# Two commands from a fresh clone do everything: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# what `make demo` writes, and further options of `unetpipe demo`
DEMO ?= demo
DEMO_OPTIONS ?=
# further options of pytest, such as PYTEST='-k cli' or PYTEST='-m "not slow"'
PYTEST ?=
# processes that share the tests
PROCESSES ?= 2
# percent of the package that all tests together must reach
COVERAGE ?= 85

.DEFAULT_GOAL := help
.PHONY: help demo test lint types tests fuzz faults reliability coverage format lock docs site notebooks dist clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: $(VENV)/.installed ## Make a small dataset, train on it, segment, evaluate: under 4 minutes on two cores
	$(BIN)/unetpipe demo --out $(DEMO) $(DEMO_OPTIONS)

test: lint types tests coverage ## Style, layers, types, all tests, the coverage floor: what a change must pass

lint: $(VENV)/.installed-dev ## Style and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.installed-dev ## mypy --strict
	$(BIN)/mypy

tests: $(VENV)/.installed-dev ## pytest with coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=$(PROCESSES) --dist=loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered $(PYTEST)

fuzz: $(VENV)/.installed-dev ## Try 12,000 damaged inputs, and each property of tests/test_same_image.py on 2000 examples
	UNETPIPE_RELIABILITY=full UNETPIPE_EXAMPLES=2000 $(BIN)/python -m pytest --quiet tests/test_same_image.py tests/reliability/fuzz

faults: $(VENV)/.installed-dev ## Kill, fill up, block and repeat in full: the reliability suite but for the inputs of `make fuzz`
	UNETPIPE_RELIABILITY=full OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet --ignore=tests/reliability/fuzz tests/reliability

reliability: $(VENV)/.installed-dev ## `make fuzz faults`, then the table of docs/reliability.md: under 30 minutes on two cores
	rm -f build/reliability.json
	$(MAKE) --jobs=2 --output-sync fuzz faults
	$(BIN)/python docs/refresh_reliability.py
	$(BIN)/python benchmarks/long_runs.py plot --out build/long_runs --png docs/images/long_runs.png

coverage: ## Fail if the last `make tests` reached less of the package than COVERAGE percent
	$(BIN)/coverage report --format=total --fail-under=$(COVERAGE)

format: $(VENV)/.installed-dev ## Put the code in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: $(VENV)/.installed-dev ## Write requirements.txt: what constraints.txt pins, with hashes, for all systems
	{ sed '/^[a-z]/,$$d' requirements.txt; $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --constraint constraints.txt --extra cldice --extra clinic --extra onnx --extra openvino \
	  --no-header --no-annotate pyproject.toml; } > requirements.new
	mv requirements.new requirements.txt

docs: $(VENV)/.installed-dev ## Refresh the reference of commands and the licences, then check the docs
	$(BIN)/python docs/refresh_cli.py
	$(BIN)/python docs/dependencies.py licences
	$(BIN)/python -m pytest --quiet tests/test_docs.py

site: $(VENV)/.installed-dev ## Build the documentation site into build/site; any broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

notebooks: $(VENV)/.installed-dev ## Run the notebooks of docs/tutorials as they are: ten minutes of training
	TUTORIAL_MINUTES=10 $(BIN)/python -m pytest --quiet tests/test_notebooks.py

dist: $(VENV)/.installed-dev ## Build sdist, wheel (twice: equal bytes) and SBOM, and run the demo from the wheel in a clean environment
	rm -rf dist
	PYTHON=$(BIN)/python .ci/build dist
	PYTHON=$(PYTHON) .ci/smoke dist/*.whl

clean: ## Remove the environment and what tools left behind
	rm -rf $(VENV) build dist .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): some minutes, once"
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	@touch $@
