PYTHON ?= python3
SOURCES ?=
RUNS ?= runs
BIN := .venv/bin

.PHONY: quickstart default-model model-checksum lock licenses test browser lint wheel clean

quickstart: .venv/ready
	$(BIN)/rungwise quickstart configs/quickstart.yaml --runs $(RUNS) $(if $(SOURCES),--sources $(SOURCES))

test: .venv/ready browser lint
	$(BIN)/python -m pytest

# Pages are opened in a browser by tests that skip without one. Root on Debian gets it; others install `chromium` themselves.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	echo "no chromium: tests that open pages will be skipped" >&2

lint: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# Wants masters/ and photographs/ here: benchmarks/NOTES.md says which.
default-model: .venv/ready
	path=$$($(BIN)/rungwise export benchmarks/default.yaml --runs $(RUNS) --json | \
	$(BIN)/python -c 'import json, sys; print(json.load(sys.stdin)["path"])') && mkdir -p rungwise/score/models && \
	cp $$path/student.int8.onnx rungwise/score/models/default.onnx && cp $$path/card.md rungwise/score/models/default.md
	$(MAKE) model-checksum

# The scorer refuses a shipped model that doesn't match it: run this whenever rungwise/score/models/default.onnx changes.
model-checksum:
	cd rungwise/score/models && sha256sum default.onnx > default.sha256

# Every dependency with the hashes of its files: the scorer's for any system, all of them for Linux on x86-64. Wants uv.
LOCK = uv pip compile pyproject.toml -c constraints.txt --generate-hashes --no-annotate --python-version 3.11 \
	--custom-compile-command "make lock"
lock:
	$(LOCK) --universal -o requirements.lock
	$(LOCK) --extra all --python-platform x86_64-manylinux_2_28 -o requirements-all.lock

licenses: .venv/ready
	$(BIN)/python docs/licenses.py > docs/licenses.md

wheel: .venv/ready
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv runs build dist *.egg-info

.venv/ready: pyproject.toml constraints.txt
	@echo "installing pinned dependencies into .venv (minutes, once)" >&2
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all]"
	touch $@
