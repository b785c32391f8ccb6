# Two commands: `make demo` runs the main job, `make test` passes the tests. Each does all its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Every process that a test starts would compile all of TierQ anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test lint docs docs-serve bench capacity chaos plans soak clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: install
	$(BIN)/tierq demo

test: install
	$(BIN)/python -m pytest -n 5 --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# NO_MKDOCS_2_WARNING: Material for MkDocs speaks of its own future at each build.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict

bench: install
	$(BIN)/python -m bench

plans: install
	PYTHONPATH=tests $(BIN)/python -m chaos.plans

soak: install
	PYTHONPATH=tests $(BIN)/python -m chaos.soak --minutes 30 --rate 100 --store postgresql --broker redis

chaos: install
	PYTHONPATH=tests $(BIN)/python -m chaos
	PYTHONPATH=tests $(BIN)/python -m chaos.limits

capacity: install
	PYTHONPATH=tests $(BIN)/python -m bench.capacity
	$(BIN)/python -m bench.scaling

clean:
	rm -rf $(VENV) .tierq
