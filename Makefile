# Every target sets itself up in a fresh clone that has python3 (on Debian also python3-venv and python3-dev), a C
# compiler and make; neon, as root, from Debian's packages.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# What an editable install is made from: change one, and the next target builds again.
BUILD := pyproject.toml setup.py $(wildcard src/packseq/_core/*.pyx src/packseq/_core/*.pxd src/packseq/_core/*.h src/packseq/_core/kernels/*)

# The C that is written by hand: what Cython writes lies beside its .pyx.
C_FILES := $(wildcard src/packseq/_core/*.h src/packseq/_core/kernels/*.[ch] tests/c/*.[ch] tests/faults/*.c)

# How long `make fuzz` takes for each target, and `make soak`.
FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 3

.PHONY: help demo demo-ray test test-peers test-engines bench docs models lint sanitize portable sanitize-python fuzz soak neon wheel clean

help: ## What make can do (this list)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.built ## Tell which language lines of text are written in, with a trained LSTM
	$(BIN)/python examples/language_id.py

demo-ray: $(VENV)/.demo-ray ## The same over a folder of Parquet on a local cluster of Ray
	$(BIN)/python examples/language_id_ray.py

test: $(VENV)/.test ## All tests; those beside other libraries are skipped where these are absent
	$(BIN)/python -m pytest

test-peers: $(VENV)/.peers ## All tests, beside torch, ONNX Runtime and the libraries of each format
	$(BIN)/python -m pytest

test-engines: $(VENV)/.engines ## Predictions on Ray, Spark and Daft; by hand, it takes minutes and Java 17
	$(BIN)/python -m pytest tests/engines

bench: $(VENV)/.bench ## Speed beside torch, ONNX Runtime and NumPy; rewrites docs/benchmarks-*.md of this machine's kernels
	$(BIN)/python -m pytest benchmarks --benchmark-only
	$(BIN)/python benchmarks/report.py

docs: $(VENV)/.docs ## The site, in build/docs: its pages are run, its links checked, no warning left
	rm -rf build/docs docs/reference/generated docs/pictures
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs
	$(BIN)/python tools/check_site.py build/docs

models: $(VENV)/.peers ## Public packages' models, beside their own runtimes; downloads 250 MB, rewrites docs/models.md
	$(BIN)/python tools/try_models.py

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

sanitize-python: $(VENV)/.test ## The Python tests of modules, layout, operations and interchange, with sanitizers
	PYTHON=$(BIN)/python tools/sanitize_python.sh
	PYTHON=$(BIN)/python SANITIZERS=thread tools/sanitize_python.sh tests/test_streams.py

fuzz: $(VENV)/.fuzz ## Each reader of checkpoints and the public functions, on bytes that reach new code
	mkdir -p build/fuzz
	for target in $$(PYTHONPATH=tests $(BIN)/python tests/fuzz/fuzz.py); do \
		echo "$$target"; \
		PYTHONPATH=tests $(BIN)/python tests/fuzz/fuzz.py $$target -max_total_time=$(FUZZ_SECONDS) -timeout=120 \
			-rss_limit_mb=4096 -artifact_prefix=build/fuzz/ >build/fuzz/$$target.log 2>&1 || \
			{ tail -n 40 build/fuzz/$$target.log; exit 1; }; \
		grep '^Done' build/fuzz/$$target.log; \
	done

soak: $(VENV)/.test ## Threads, forks, modules and checkpoints for minutes: the same bits, memory and descriptors flat
	$(BIN)/python tools/soak.py --minutes $(SOAK_MINUTES)
	$(BIN)/python tools/soak_threads.py --minutes $(SOAK_MINUTES)

neon: ## The kernels for 64-bit Arm, cross-compiled and run by qemu (Debian's packages)
	sh tests/c/neon.sh

wheel: $(VENV)/.wheel ## A wheel for many Linuxes in dist/, checked, and tested where there is no compiler
	sh tools/build_wheel.sh $(BIN)/python

# The last that a new environment gets: one without it is half made, and is made again.
$(BIN)/pip:
	@sh tools/prepare.sh $(PYTHON) $(VENV)

$(VENV)/.built: $(BUILD) $(BIN)/pip
	@echo "Building packseq into $(VENV), which takes one to three minutes"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# What an extra asks for, beside the packseq that was built.
$(VENV)/.%: $(VENV)/.built
	@echo "Installing what '$*' needs into $(VENV)"
	@$(BIN)/python -m pip install --quiet 'packseq[$*]'
	@touch $@

clean: ## Remove what was built, and the virtual environment
	rm -rf $(VENV) build dist src/*.egg-info src/packseq/_core/*.so src/packseq/_core/*.c
