# make demo   sets everything up and runs the main job on the embedded data set
# make test   sets everything up, lints, type-checks, checks the floors and runs the tests

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint scatter bench clean

demo: .venv/demo
	$(BIN)/zoo compare --config configs/openmoji/compare.yaml

test: .venv/dev lint
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -q -n 2 --dist loadfile

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Builds torch-scatter against the torch that is there (minutes). PyG finds and uses it by itself.
scatter: .venv/demo
	$(BIN)/pip install -q wheel setuptools
	$(BIN)/pip install --no-build-isolation torch-scatter
	$(BIN)/zoo --version

# The default of every benchmark that needs no photos of yours: hours.
bench: .venv/demo
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/input_pipeline.py
	$(BIN)/python benchmarks/coverage.py

# The environment is made once, and again when the dependencies change.
.venv/demo .venv/dev: setup.cfg
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[$(@F)]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
