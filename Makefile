PYTHON ?= python3
SOURCES ?=
TESTS ?=
RUNS ?= runs
BIN := .venv/bin

.PHONY: quickstart default-model model-checksum lock licenses docs docs-data notebook test lint wheel clean

quickstart: .venv/ready
	$(BIN)/rungwise quickstart configs/quickstart.yaml --runs $(RUNS) $(if $(SOURCES),--sources $(SOURCES))

# Runs all that this machine can, and ends with the reasons of what it skipped. Fewer: make test TESTS="-m 'not slow'"
test: lint
	$(BIN)/python -m pytest -rs $(TESTS)

lint: .venv/ready-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile Dockerfile.train; fi

# Needs masters/ and photographs/ here: docs/lab-notes/2026-11.md says which.
default-model: .venv/ready
	path=$$($(BIN)/rungwise export benchmarks/default.yaml --runs $(RUNS) --json | \
	$(BIN)/python -c 'import json, sys; print(json.load(sys.stdin)["path"])') && mkdir -p rungwise/score/models && \
	cp $$path/student.int8.onnx rungwise/score/models/default.onnx && cp $$path/card.md rungwise/score/models/default.md
	$(MAKE) model-checksum

# The scorer refuses a shipped model that doesn't match it: run this whenever rungwise/score/models/default.onnx changes.
model-checksum:
	cd rungwise/score/models && sha256sum default.onnx > default.sha256

# Every dependency with the hashes of its files: the scorer's for any system; those of
# training, and all of them, for Linux on x86-64. Wants uv.
LOCK = uv pip compile pyproject.toml -c constraints.txt --generate-hashes --no-annotate --python-version 3.11 \
	--custom-compile-command "make lock"
lock:
	$(LOCK) --universal -o requirements.lock
	$(LOCK) --extra multi --python-platform x86_64-manylinux_2_28 -o requirements-train.lock
	$(LOCK) --extra all --python-platform x86_64-manylinux_2_28 -o requirements-all.lock

licenses: .venv/ready-dev
	$(BIN)/python docs/licenses.py > docs/licenses.md

# The generated blocks of README.md and docs/, from benchmarks/results/ and the code.
docs-data: .venv/ready-dev
	$(BIN)/python docs/generate.py

# Executes docs/notebook.ipynb again: whenever the packaged model, or what a cell prints, changes.
notebook: .venv/ready-dev
	$(BIN)/python docs/notebook.py

docs: docs-data
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

wheel: .venv/ready-dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv runs build dist site *.egg-info

.venv/ready: pyproject.toml constraints.txt
	@echo "installing what training needs into .venv (minutes, once)" >&2
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[train]"
	touch $@

.venv/ready-dev: .venv/ready
	@echo "installing what tests and several processes need into .venv" >&2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all]"
	touch $@
