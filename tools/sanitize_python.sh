#!/bin/sh
# Builds the extensions with AddressSanitizer and UBSan, or SANITIZERS=thread, apart from those in place, and runs tests
# on them: those named, or those below. Left out are tests that limit the address space, of which the sanitizer reserves terabytes,
# that kill or fork processes full of threads, that only read files, or on which torch computes.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
sanitizers=${SANITIZERS:-address,undefined}
built=build/sanitized-$sanitizers
flags="-g -fsanitize=$sanitizers -fno-sanitize-recover=undefined"

"$python" -m pip install --quiet 'setuptools>=77' 'Cython>=3.2.1' # it builds without isolation
CFLAGS=$flags LDFLAGS=$flags "$python" setup.py --quiet build --parallel 2 --build-base $built --build-lib $built/lib

if [ $# = 0 ]; then
    set -- tests/test_layout*.py tests/test_modules.py tests/test_module_errors.py tests/test_cells.py \
        tests/test_plain.py tests/test_out.py tests/test_doors.py tests/test_packed.py \
        tests/test_ops_*.py tests/test_plan.py tests/test_functional.py tests/test_interchange.py \
        tests/fuzz/test_fuzz_facade.py
fi
# The runtimes come before Python, which was built without them, and the C++ library before what throws.
LD_PRELOAD=
case $sanitizers in
thread) runtimes=libtsan.so ;;
*) runtimes="libasan.so libubsan.so libstdc++.so.6" ;;
esac
for library in $runtimes; do
    LD_PRELOAD="$LD_PRELOAD $(${CC:-cc} -print-file-name=$library)"
done
# Python frees little at its end, and its own allocator would hide what is read too far.
export LD_PRELOAD ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
export PYTHONMALLOC=malloc PYTHONPATH=$built/lib
"$python" -c "import packseq._core.plain as m; assert 'sanitized' in m.__file__, m.__file__"
exec "$python" -m pytest -q -p no:cacheprovider -k "not torch and not tensors" "$@"
