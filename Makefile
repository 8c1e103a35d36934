PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test lint docs bench install

train: install
	$(BIN)/hypergen train $(ARGS)

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:nbmake -n 2 --dist worksteal $(ARGS)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbmake docs/examples

bench: install
	$(BIN)/python -m scripts.bench.population $(ARGS)

install: .venv/installed

# The stamp comes last, so an interrupted installation is begun anew.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --editable '.[dev]'
	touch $@
