PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test lint docs linkcheck bench install

train: install
	$(BIN)/hypergen train $(ARGS)

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

# More processes than cores: pages are dealt out in pieces, and the notebooks are neighbours.
docs: install
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -E -q -j 8 docs build/docs

linkcheck: install
	$(BIN)/python -m sphinx -b linkcheck -q -D nb_execution_mode=off docs build/linkcheck

bench: install
	$(BIN)/python -m scripts.bench.population $(ARGS)

install: .venv/installed

# The stamp comes last, so an interrupted installation is begun anew.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --editable '.[dev]'
	touch $@
