#!/usr/bin/env bash
# What a machine with a GPU and many cores can tell of packseq, in one command of eight minutes:
#
#     [PYTHON=python3] tools/measure_machine.sh [--dry] OUT
#
# It needs no network and installs nothing: a Python with torch, Cython, setuptools, NumPy, pytest
# and hypothesis, and a C compiler, are there; without scipy and threadpoolctl some columns are
# empty. Such a machine is had for minutes, so each part has a limit, writes to its own file in OUT
# as it goes, and stands alone: whatever fails or is cut, the rest goes on and what was found stays.
# summary.txt says how each part ended. The exit status is 0 if all ran to their end without a fault.
#
# --dry runs all of it, little of each, on a machine without a GPU, to see that it works.
set -uo pipefail

usage() {
    echo "usage: [PYTHON=python3] $0 [--dry] OUT" >&2
    exit 2
}

dry=
if [ "${1:-}" = --dry ]; then
    dry=yes
    shift
fi
[ $# -eq 1 ] && [[ $1 != -* ]] || usage

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1" || exit
out=$(cd "$1" && pwd)
python=$(command -v "${PYTHON:-python3}") || {
    echo "no such Python: ${PYTHON:-python3}" >&2
    exit 2
}
python=$(cd "$(dirname "$python")" && pwd)/${python##*/} # the folder changes below
cd "$root" || exit

export PYTHONPATH=$root/src:$root/tools${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1
failed=0
: >"$out/summary.txt"

say() { printf '%s\n' "$*" | tee -a "$out/summary.txt"; }

# part NAME SECONDS COMMAND...: run it into NAME.txt. An interrupt, which pytest answers with what it
# has found so far, comes first; a shell that began in the background would have it ignored.
part() {
    local name=$1 limit=$2 start=$SECONDS status=0
    shift 2
    timeout --signal=INT --kill-after=5 "$limit" env --default-signal=INT "$@" \
        >"$out/$name.txt" 2>&1 || status=$?
    [ $status -eq 0 ] || failed=1
    say "$name: status $status after $((SECONDS - start)) of $limit seconds"
}

if [ -n "$dry" ]; then
    limits=(180 60 60 60 60)
    tests=(tests/test_backends.py tests/test_layout_torch.py)
    cuda=(--device cpu --quick --seconds 5)
    threads=(--quick --seconds 5)
else
    limits=(70 20 130 150 100)
    # What moves tensors or runs on them, the shortest first.
    tests=(tests/test_backends.py tests/test_backend_choice.py tests/test_layout_torch.py
        tests/test_layout.py tests/test_layout_errors.py tests/test_module_errors.py
        tests/test_modules.py tests/test_accelerate.py)
    cuda=(--seconds 125)
    threads=(--seconds 80)
fi

part build "${limits[0]}" "$python" setup.py build_ext --inplace --parallel 8
part machine "${limits[1]}" "$python" tools/show_machine.py
part tests "${limits[2]}" "$python" -m pytest -v --tb=short -p tell_failures \
    -o faulthandler_timeout=60 "${tests[@]}"
part cuda "${limits[3]}" "$python" benchmarks/bench_cuda.py "${cuda[@]}"
part threads "${limits[4]}" "$python" benchmarks/bench_threads.py "${threads[@]}"
say "all: status $failed after $SECONDS seconds"
exit $failed
