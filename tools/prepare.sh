#!/bin/sh
# Makes the virtual environment of `make`, after a look at what that needs: a Python, its venv and headers, a C
# compiler. What is missing is named, with Debian's packages where there is apt.
#
#     sh tools/prepare.sh PYTHON VENV
set -eu
python=$1 venv=$2
missing= packages=

# lacks WHAT PACKAGE...
lacks() {
    missing="$missing
  $1"
    shift
    packages="$packages $*"
}

cc=${CC:-cc}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    lacks "Python 3.11 or later ($python is not one; PYTHON=... names another)" python3 python3-venv python3-dev
else
    "$python" -c 'import ensurepip, venv' 2>/dev/null || lacks "Python's venv" python3-venv
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    cc=${CC:-$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CC"))')}
    [ -e "$include/Python.h" ] || lacks "Python's headers (no Python.h in $include)" python3-dev
fi
# Its first word is the command; the others are options.
if ! command -v "${cc%% *}" >/dev/null; then
    lacks "a C compiler, GCC or Clang (no ${cc%% *} on the path; CC=... names another)" gcc libc6-dev
elif ! echo '#include <stdio.h>' | $cc -fsyntax-only -x c - 2>/dev/null; then
    lacks "the C library's headers (${cc%% *} finds no stdio.h)" libc6-dev
fi

if [ -n "$missing" ]; then
    echo "packseq is built from source here, and this is missing:$missing" >&2
    if command -v apt-get >/dev/null; then
        echo "On Debian and Ubuntu, as root: apt-get install$packages" >&2
    fi
    exit 1
fi

echo "Making the virtual environment $venv"
rm -rf "$venv"
"$python" -m venv "$venv"
