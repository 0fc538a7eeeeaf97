# Two commands on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := $(wildcard setup.py pyproject.toml constraints.txt kernels/bodies/* kernels/cpu/*)

.PHONY: demo test sanitize lint wheel clean

demo: $(VENV)/.runtime
	$(BIN)/segreg demo -o demo

test: $(VENV)/.test lint
	$(BIN)/python -m pytest -q --ignore tests/models
	$(BIN)/python -m pytest -q tests/models

sanitize: $(VENV)/.test
	$(BIN)/python -m tests.kernels.sanitized

lint: $(VENV)/.test
	$(BIN)/ruff check .

wheel: $(VENV)/.test
	$(BIN)/python -m build --wheel

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.runtime: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cpu]'
	touch $@

$(VENV)/.test: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cpu,export,quantize,foreign,engines,test]'
	# One of its networks is exported in the tests; it needs nothing of what its package asks for.
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt icon_registration
	touch $@

clean:
	rm -rf $(VENV) build dist demo *.egg-info kernels/*.so
