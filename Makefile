# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# uv takes seconds where pip takes minutes; pip also knows package indexes that only its own configuration names.
install = $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(1) || $(BIN)/python -m pip install --quiet $(1)

.PHONY: demo test lint bench screenshots clean

demo: $(STAMP)
	@$(BIN)/profile-spawner demo $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry .

bench: $(STAMP)
	@$(BIN)/python -m benchmarks --output docs/performance.md $(ARGS)

# Takes the pictures of the documentation anew.
screenshots: $(STAMP)
	@UPDATE_SCREENSHOTS=1 $(BIN)/python -m pytest tests/e2e -k gpu_lab_and -q

# The environment is made once, and again only when the dependencies change.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed; call: make PYTHON=python3.11" if sys.version_info < (3, 10) else 0)'
	@echo "Making $(VENV) (once, about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check uv
	@$(call install,--editable '.[test]')
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
