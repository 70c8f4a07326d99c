# Every target is complete from a fresh clone: it makes the virtual environment and builds the engine first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The demo's seeds, training steps, samples for each measurement, and folder.
SEEDS ?= 0
STEPS ?= 2500
SAMPLES ?= 2000
DEMO ?= runs/demo
# The CUDA kernels of the engine: OFF, AUTO or ON. The tests compile and run them without the engine.
CUDA ?= OFF

# Two processes; one that has nothing left takes over half of what the other has.
PARALLEL ?= -n 2 --dist worksteal

.PHONY: demo test test-kernels test-aarch64 test-compilers lint format clean bench bench-full report docs dist gpu-kit gpu-kit-check

demo: $(VENV)/built  ## train digits with LOOM and with independent coupling, sample, compare
	$(BIN)/python bench/digits.py --seeds $(SEEDS) --steps $(STEPS) --num $(SAMPLES) --out $(DEMO)

test: lint  ## everything CI runs
	$(BIN)/python -m pytest $(PARALLEL)

bench: $(VENV)/built $(VENV)/peers  ## every case of bench/registry.py by pytest-benchmark: a table, and a figure
	mkdir -p runs/bench
	$(BIN)/python -m pytest bench --benchmark-json runs/bench/speed.json
	$(BIN)/python bench/speed_table.py runs/bench/speed.json --figure runs/bench/speed.svg

bench-full: bench-assignment bench-assignment_forms bench-assignment_sparse bench-assignment_k_best bench-assignment_bottleneck bench-assignment_unmatched bench-assignment_batches bench-points bench-families bench-phases bench-warm_starts bench-large bench-noise bench-cost bench-coupling bench-coupling_steps bench-coupling_kills bench-sampler bench-trainer  ## all speed claims, each with its named peers

report: $(VENV)/built  ## tables, figures and a page of the runs of bench/science.py that are done
	$(BIN)/python bench/science.py report

docs: $(VENV)/built $(VENV)/docs  ## the site of docs/ and of the docstrings, in docs/_build/html; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench-coupling: OPTIONS := --figure runs/bench/coupling.png
bench-points: OPTIONS := --figure runs/bench/points.png
bench-%: $(VENV)/built $(VENV)/peers
	mkdir -p runs/bench
	$(BIN)/python bench/$*.py --json runs/bench/$*.json $(OPTIONS)

test-kernels: $(VENV)/built  ## the CUDA kernels on the CPU at full size: thousands of instances
	$(BIN)/python -m pytest $(PARALLEL) tests/test_cuda_on_cpu.py tests/test_assignment_cuda.py tests/kernels_full.py

# What a machine with a GPU needs and cannot fetch: one folder, below 60 MB, for bench/gpu_check.py. The wheel in it
# is for CPython 3.12 (KIT_PYTHON) and one architecture (90: H100, H200).
KIT_PYTHON ?=
KIT_ARCHITECTURE ?= 90
gpu-kit: $(VENV)/built
	$(BIN)/python bench/gpu/kit.py --out gpu-kit --python "$(KIT_PYTHON)" --architecture $(KIT_ARCHITECTURE)

gpu-kit-check: $(VENV)/built  ## the kit's wheel under Python 3.12 with the torch and triton of a GPU machine; downloads GBs
	$(BIN)/python bench/gpu/try_wheel.py --kit gpu-kit --python "$(KIT_PYTHON)"

test-aarch64: $(VENV)/built  ## the engine on aarch64, by an emulator; needs aarch64-linux-gnu-g++ and qemu-aarch64
	$(BIN)/python -m pytest -rs tests/aarch64.py

test-compilers: $(VENV)/built  ## the engine by clang, for Linux, macOS and Windows; warnings are errors
	$(BIN)/python -m pip install 'ziglang>=0.13'
	$(BIN)/python -m pytest -rs tests/compilers.py

dist: $(VENV)/installed  ## a source distribution and a wheel in dist/, built twice and tried with NumPy alone
	$(BIN)/python tests/dist.py --out dist

lint: $(VENV)/built
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/built
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist docs/_build $(VENV)

$(VENV)/installed: requirements-dev.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --requirement requirements-dev.lock
	touch $@

$(VENV)/peers: $(VENV)/installed
	$(BIN)/python -m pip install lapx==0.11.1 lapjv==1.3.29 POT==0.9.7.post1 py-lap-solver==0.1.4 \
		fastlap==0.4.0
	$(BIN)/python -m pip install --no-deps ortools==9.15.6755
	$(BIN)/python -m pip install --no-deps --no-build-isolation torch-linear-assignment==0.1.0
	$(BIN)/python -m pip install --no-deps torchcfm==1.0.7
	touch $@

$(VENV)/docs: $(VENV)/installed requirements-docs.lock
	$(BIN)/python -m pip install --constraint requirements-dev.lock --requirement requirements-docs.lock
	touch $@

$(VENV)/built: $(VENV)/installed pyproject.toml CMakeLists.txt $(shell find csrc -type f)
	$(BIN)/python -m pip install --no-build-isolation --no-deps --editable . \
		--config-settings=cmake.define.LOOMFAST_CUDA=$(CUDA) --config-settings=cmake.define.LOOMFAST_STRICT=ON
	touch $@
