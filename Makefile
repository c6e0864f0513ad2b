PYTHON ?= python3
SOURCES ?=
RUNS ?= runs
BIN := .venv/bin

.PHONY: quickstart test lint wheel clean

quickstart: .venv/ready
	$(BIN)/rungwise quickstart configs/quickstart.yaml --runs $(RUNS) $(if $(SOURCES),--sources $(SOURCES))

test: .venv/ready lint
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

wheel: .venv/ready
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv runs build dist *.egg-info

.venv/ready: pyproject.toml constraints.txt
	@echo "installing pinned dependencies into .venv (minutes, once)" >&2
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all]"
	touch $@
