"""The compiled extensions; everything else is in pyproject.toml."""

from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

CORE = "src/packseq/_core"
POOL = f"{CORE}/kernels/pool.c"
KERNELS = sorted(str(path) for path in Path(CORE, "kernels").glob("*.c") if path != Path(POOL))
HEADERS = sorted(str(path) for path in Path(CORE, "kernels").glob("*.h"))
WALKS = [f"{CORE}/segments.h", f"{CORE}/walks.h", f"{CORE}/kernels/exponential.h"]

# Contracting a*b+c into one FMA is wanted; -ffast-math is not: linked in, it would change the
# denormal mode of the whole process. Instruction sets are chosen per file by pragmas.
CFLAGS = ["-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
# Where another tenant has the core's other hardware thread, a product's loop that straddles one
# line too many of the cache of decoded instructions takes 10 to 45 % longer (Zen 3, 4 to 6 rows).
CFLAGS += ["-falign-loops=64"]
MACROS = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]


def extension(name, sources=(), depends=()):
    return Extension(
        f"packseq._core.{name}",
        sources=[f"{CORE}/{name}.pyx", *sources],
        depends=list(depends),
        include_dirs=[numpy.get_include(), CORE, f"{CORE}/kernels"],
        define_macros=MACROS,
        extra_compile_args=CFLAGS,
        extra_link_args=["-pthread"],
    )


setup(
    ext_modules=cythonize(
        # What an older Cython or NumPy left behind may not compile any more.
        force=True,
        module_list=[
            extension("order"),
            extension("pool", [POOL], HEADERS),
            extension("rows", depends=[f"{CORE}/rows.h"]),
            extension("segments", depends=WALKS),
            extension("recurrent", KERNELS, HEADERS),
            extension("plain", depends=HEADERS),
            extension("gemm"),
            extension("blas", depends=[f"{CORE}/squash.h", f"{CORE}/squashes.h", *HEADERS]),
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "freethreading_compatible": True,
        },
    )
)
