# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
SOURCES := switch protocols risk loadtest tests

.PHONY: demo test lint faults bench load lock clean

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "citycard needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/ready
	$(BIN)/citycard demo $(DEMO)

test: .venv/ready
	$(BIN)/python -m pytest $(TEST)

lint: .venv/ready
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

# Real faults under traffic, 25 times as many as in `make test`, and more simulated days; a
# table of what each fault did to the money comes at the end.
faults: .venv/ready
	SIMULATION_SEEDS=$${SIMULATION_SEEDS:-5000} $(BIN)/python -m pytest tests/simulation
	CITYCARD_FAULTS=$${CITYCARD_FAULTS:-25} $(BIN)/python -m pytest -n 0 tests/faults $(TEST)

bench: .venv/ready
	$(BIN)/python -m loadtest.bench $(BENCH)

load: .venv/ready
	$(BIN)/python -m loadtest.load $(LOAD)

# After a change of dependencies in pyproject.toml.
lock: .venv/ready
	$(BIN)/pip-compile --quiet --all-extras --allow-unsafe --generate-hashes --strip-extras --no-header \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file=requirements.lock pyproject.toml

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
