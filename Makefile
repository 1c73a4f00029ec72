# Needs Python 3.11 or newer, with its venv module, and nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
RUN ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)
# Fixed once, so that every line of a recipe means the same folder.
RUN := $(RUN)

.PHONY: setup setup-dev test lint demo clean

setup: $(VENV)/.installed

setup-dev: $(VENV)/.installed-dev

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hjepa needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

test: setup-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

demo: setup
	$(BIN)/hjepa train configs/doorkey_5x5.yaml run.dir=$(RUN)
	$(BIN)/hjepa eval $(RUN) --episodes 200 --mode 1
	$(BIN)/hjepa eval $(RUN) --episodes 200 --mode 2
	$(BIN)/hjepa watch $(RUN)
	@echo "run folder: $(RUN)"
	@echo "curves and images: $(BIN)/tensorboard --logdir $(RUN)"

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
