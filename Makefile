# Every target sets itself up in a fresh clone that has python3, a C compiler and make; neon, as root, from Debian's
# packages.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# What an editable install is made from: change one, and the next target builds again.
BUILD := pyproject.toml setup.py $(wildcard src/packseq/_core/*.pyx src/packseq/_core/*.pxd src/packseq/_core/*.h src/packseq/_core/kernels/*)

# The C that is written by hand: what Cython writes lies beside its .pyx.
C_FILES := $(wildcard src/packseq/_core/*.h src/packseq/_core/kernels/*.[ch] tests/c/*.c)

.PHONY: demo test test-peers bench lint sanitize portable neon clean

demo: $(VENV)/.demo ## Tell which language lines of text are written in, with a trained LSTM
	$(BIN)/python examples/language_id.py

test: $(VENV)/.test ## All tests; those beside other libraries are skipped where these are absent
	$(BIN)/python -m pytest

test-peers: $(VENV)/.peers ## All tests, beside torch, ONNX Runtime and the libraries of each format
	$(BIN)/python -m pytest

bench: $(VENV)/.bench ## Speed beside torch, ONNX Runtime and NumPy; rewrites docs/benchmarks-*.md of this machine's kernels
	$(BIN)/python -m pytest benchmarks --benchmark-only
	$(BIN)/python benchmarks/report.py

lint: $(VENV)/.lint ## Style, which file imports which, types, and the stubs of what is compiled
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	$(BIN)/python tools/check_lines.py src/packseq/_core tests/c
	$(BIN)/python tools/check_imports.py
	$(BIN)/mypy
	$(BIN)/stubtest packseq._core --ignore-disjoint-bases --allowlist tools/stubtest_allowed.txt

sanitize: ## The kernels' C tests under every instruction set of this machine, with sanitizers
	CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined" sh tests/c/run.sh
	CFLAGS="-O1 -g -fsanitize=thread" sh tests/c/run.sh test_pool

portable: $(VENV)/.test ## What a build without kernels compiles, as C11, by each of GCC and Clang that is there
	PYTHON=$(BIN)/python sh tests/c/portable.sh

neon: ## The kernels for 64-bit Arm, cross-compiled and run by qemu (Debian's packages)
	sh tests/c/neon.sh

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: $(BUILD) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info src/packseq/_core/*.so src/packseq/_core/*.c
