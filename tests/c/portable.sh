# What a build without kernels compiles is C11: by each compiler of CC that there is, "gcc clang" by default. Our own C
# and headers to the letter; what Cython made of the .pyx, which must lie beside them, without GNU's extensions switched
# on. Its slots cast functions to void *, and Python's and NumPy's headers are not ours: there -pedantic-errors would fail.
#
# A cross compiler wants -I for the pyconfig.h of its system in PYCONFIG.
set -eu
core=$(dirname "$0")/../../src/packseq/_core
python=${PYTHON:-python3}
numpy=$("$python" -c 'import numpy; print(numpy.get_include())')
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT

own="-std=c11 -pedantic-errors -Wall -Wextra -Werror -Wno-unused-function"
made="-std=c11 -Werror=implicit-function-declaration -DNPY_NO_DEPRECATED_API=NPY_2_0_API_VERSION"
includes="${PYCONFIG:-} -isystem $include -isystem $numpy -I$core -I$core/kernels"
tried=
for compiler in ${CC:-gcc clang}; do
    command -v "$compiler" >/dev/null || continue
    tried="$tried $compiler"
    case $("$compiler" -dumpmachine) in
    *mingw*) pool=one_thread ;;
    *) pool=pool ;;
    esac
    for name in along cell_table cut dispatch $pool; do
        "$compiler" $own -O2 -DPACKSEQ_NO_KERNELS -I"$core/kernels" -c "$core/kernels/$name.c" -o "$built/own.o"
    done
    for name in rows segments sessions squash kernels/pool kernels/kernels kernels/sizes kernels/mode; do
        printf '#include "%s.h"\n' "$name" >"$built/$(basename "$name").c"
        "$compiler" $own -O2 -DPACKSEQ_NO_KERNELS -I"$core" -I"$core/kernels" -c "$built/$(basename "$name").c" -o "$built/own.o"
    done
    for source in "$core"/*.pyx; do
        "$compiler" $made -O1 -DPACKSEQ_NO_KERNELS $includes -c "${source%.pyx}.c" -o "$built/made.o"
    done
done
test -n "$tried"
echo "C11 by$tried"
