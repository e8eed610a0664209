"""The compiled extensions; everything else is in pyproject.toml.

With PACKSEQ_NO_KERNELS=1 in the environment there will be no kernels, and the modules run on BLAS.
"""

import os
import shutil
import sysconfig
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORE = "src/packseq/_core"
HEADERS = sorted(str(path) for path in Path(CORE, "kernels").glob("*.h"))
WALKS = [f"{CORE}/segments.h", f"{CORE}/walks.h", f"{CORE}/kernels/exponential.h"]
SQUASHES = [f"{CORE}/squash.h", f"{CORE}/squashes.h", *HEADERS]
POOLS = {f"{CORE}/kernels/pool.c", f"{CORE}/kernels/one_thread.c"}
POOL = f"{CORE}/kernels/{'pool' if os.name == 'posix' else 'one_thread'}.c"
KERNELS = sorted({str(path) for path in Path(CORE, "kernels").glob("*.c")} - POOLS)
MACROS = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]
if os.environ.get("PACKSEQ_NO_KERNELS", "0") != "0":
    # What is left of them is plain C: rows along their numbers, the cells' names, how work is cut,
    # and that there are none.
    KERNELS = [f"{CORE}/kernels/{name}.c" for name in ("along", "cell_table", "cut", "dispatch")]
    MACROS += [("PACKSEQ_NO_KERNELS", "1")]

# Contracting a*b+c into one FMA is wanted; -ffast-math is not: linked in, it would change the
# denormal mode of the whole process. Instruction sets are chosen per file by pragmas.
CFLAGS = ["-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
# Where another tenant has the core's other hardware thread, a product's loop that straddles one
# line too many of the cache of decoded instructions takes 10 to 45 % longer (Zen 3, 4 to 6 rows).
CFLAGS += ["-falign-loops=64"]
# Python's own flags say -g, which makes the files five times as large; whoever wants it says so.
if "-g" not in os.environ.get("CFLAGS", "").split():
    CFLAGS += ["-g0"]
MSVC_FLAGS = ["/O2", "/std:c11", "/experimental:c11atomics"]


# What Cython adds for typed memoryviews, once and not in each module: 0.3 MB less, and as fast
# (mean ratio 0.998 over the 16 cases "width" of benchmarks/compare.py). Compiled for its size it
# is 38 kB less again (0.993 over the same, within what one build has against itself).
SHARED = "packseq._core._shared"


class BuildExtensions(build_ext):
    """With the flags of whichever compiler was found, or a sentence that says what is missing."""

    def build_extensions(self):
        if self.compiler.compiler_type == "unix":
            if not shutil.which(self.compiler.compiler_so[0]):
                raise SystemExit(
                    f"packseq has kernels in C: to build it, GCC or Clang is needed, and there is "
                    f"no {self.compiler.compiler_so[0]} here. Install one (Debian, Ubuntu: apt "
                    "install gcc libc6-dev python3-dev), or name one by CC=..."
                )
            headers = Path(sysconfig.get_path("include"))
            if not Path(headers, "Python.h").exists():
                raise SystemExit(
                    f"packseq has kernels in C: to build it, Python's headers are needed, and "
                    f"there is no Python.h in {headers}. Install them (Debian, Ubuntu: apt install "
                    "python3-dev)."
                )
        super().build_extensions()

    def build_extension(self, ext):
        msvc = self.compiler.compiler_type == "msvc"
        ext.extra_compile_args = MSVC_FLAGS if msvc else [*CFLAGS, *ext.extra_compile_args]
        ext.extra_link_args = ["-pthread"] if os.name == "posix" else []
        super().build_extension(ext)


def extension(name, sources=(), depends=(), flags=()):
    return Extension(
        f"packseq._core.{name}",
        sources=[f"{CORE}/{name}.pyx", *sources],
        depends=list(depends),
        include_dirs=[numpy.get_include(), CORE, f"{CORE}/kernels"],
        define_macros=MACROS,
        extra_compile_args=list(flags),
    )


setup(
    cmdclass={"build_ext": BuildExtensions},
    ext_modules=cythonize(
        # What an older Cython or NumPy left behind may not compile any more.
        force=True,
        shared_utility_qualified_name=SHARED,
        module_list=[
            Extension(SHARED, [f"{CORE}/_shared.c"], extra_compile_args=["-Os"]),
            extension("order"),
            extension("pool", [POOL], HEADERS),
            extension("rows", depends=[f"{CORE}/rows.h", *HEADERS]),
            extension("segments", depends=WALKS),
            extension("recurrent", KERNELS, HEADERS),
            extension("plain", depends=HEADERS),
            extension("gemm"),
            extension("blas", depends=SQUASHES),
            # 12 kB less than by -O3, and no slower: it has no loops over numbers.
            extension("streams", depends=[*HEADERS, f"{CORE}/sessions.h"], flags=["-O2"]),
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "freethreading_compatible": True,
        },
    ),
)
