"""BLAS as SciPy has it: the routines that ``scipy.linalg.cython_blas`` exports to C, found when first needed.

They are taken from the capsules of its ``__pyx_capi__``, as Cython's own ``cimport`` would take them, but when a
module is first called: to import SciPy's linear algebra takes 0.3 s, and who has kernels needs none of it.
"""

import re

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer

# What BLAS's int holds: no size or stride may be larger.
MOST_INT = 2**31 - 1

# The types of the arguments, where F is a pointer to a float of the routine's width.
cdef str GEMM = "void (char *, char *, int *, int *, int *, F, F, int *, F, int *, F, F, int *)"
cdef str GEMV = "void (char *, int *, int *, F, F, int *, F, int *, F, F, int *)"


cdef class Library:
    """The routines, from the module ``scipy.linalg.cython_blas``.

    Raises
    ------
    ImportError
        It has not those of these types.
    """

    def __cinit__(self, module):
        self.module = module
        self.routines.sgemm = <sgemm> routine(module, "sgemm", GEMM)
        self.routines.dgemm = <dgemm> routine(module, "dgemm", GEMM)
        self.routines.sgemv = <sgemv> routine(module, "sgemv", GEMV)
        self.routines.dgemv = <dgemv> routine(module, "dgemv", GEMV)

    @property
    def name(self):
        return "blas"


cdef void *routine(object module, str name, str expected) except NULL:
    """The address of one, if its arguments are of the types that this file calls it with."""
    capsule = getattr(module, "__pyx_capi__", {}).get(name)
    if capsule is None:
        raise ImportError(f"{module.__name__} exports no {name}: packseq needs another version of SciPy")
    cdef const char *signature = PyCapsule_GetName(capsule)
    # Cython writes a typedef of cython_blas as __pyx_t_5scipy_6linalg_11cython_blas_s, or _d.
    types = re.sub(rf"(?:__pyx_t_\w+_{name[0]}|{'float' if name[0] == 's' else 'double'}) \*", "F", signature.decode())
    if types != expected:
        raise ImportError(
            f"{module.__name__}.{name} is {signature.decode()!r}, expected {expected!r} with pointers to "
            f"{'float' if name[0] == 's' else 'double'} for F: packseq needs another version of SciPy"
        )
    return PyCapsule_GetPointer(capsule, signature)
