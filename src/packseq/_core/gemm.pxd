"""Products of rows by BLAS: row-major here, Fortran order there. The only file that knows both."""

from libc.stdint cimport int64_t

ctypedef fused real:
    float
    double

ctypedef void (*sgemm)(char *, char *, int *, int *, int *, float *, float *, int *, float *, int *, float *, float *,
                       int *) noexcept nogil
ctypedef void (*dgemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *, double *,
                       double *, int *) noexcept nogil
ctypedef void (*sgemv)(char *, int *, int *, float *, float *, int *, float *, int *, float *, float *,
                       int *) noexcept nogil
ctypedef void (*dgemv)(char *, int *, int *, double *, double *, int *, double *, int *, double *, double *,
                       int *) noexcept nogil

cdef struct Routines:
    sgemm sgemm
    dgemm dgemm
    sgemv sgemv
    dgemv dgemv

cdef class Library:
    cdef Routines routines
    cdef object module  # whose code the routines are


# OpenBLAS takes a product of so many multiplications at most for a small one; parts of W have at least so many rows.
# W 1024 x 256, microseconds whole and by parts (Zen 5):
#
#     rows of A    |   2 |   4 |   8
#     AVX-512      |  60 |  71 |  98
#     by parts     |  29 |  32 |  61
#     AVX2         |  53 |  83 |  69
#     by parts     |  55 |  89 | 107
cdef enum:
    SMALL = 1 << 18
    LEAST_PART = 128


cdef inline void multiply(const Routines *blas, const real *w, int64_t n, int64_t k, const real *a, int64_t a_stride,
                          int64_t m, real keep, real *c, int64_t c_stride) noexcept nogil:
    """C [n][m] = keep C + W [n][k] A [m][k]^T, row-major, all numbers within MOST_INT.

    W has no gaps; rows of A are a_stride apart, at least k, and those of C c_stride. Where keep is 0, C is not read.
    Row-major C is C^T to Fortran, so this is C^T = A W^T there, "T" of A and "N" of W: as both lie, weights in torch's
    order, and always the same variant, since some versions of OpenBLAS went wrong where two ran at once.
    """
    cdef int rows = <int> m, units = <int> n, inner = <int> k, lda = <int> a_stride, ldc = <int> c_stride, one = 1
    cdef int part
    cdef real unit = 1
    # One row is a vector, which BLAS multiplies without a copy of W.
    if m == 1 and c_stride == 1:
        if real is float:
            blas.sgemv(b"T", &inner, &units, &unit, <float *> w, &inner, <float *> a, &one, &keep, c, &one)
        else:
            blas.dgemv(b"T", &inner, &units, &unit, <double *> w, &inner, <double *> a, &one, &keep, c, &one)
        return
    # Few rows go by parts of W that are small to OpenBLAS, which then leaves out its copies of both.
    while 0 < units:
        if m * k * LEAST_PART <= SMALL:
            part = <int> min(<int64_t> units, SMALL // (m * k) // LEAST_PART * LEAST_PART)
        else:
            part = units
        if real is float:
            blas.sgemm(b"T", b"N", &rows, &part, &inner, &unit, <float *> a, &lda, <float *> w, &inner, &keep, c,
                       &ldc)
        else:
            blas.dgemm(b"T", b"N", &rows, &part, &inner, &unit, <double *> a, &lda, <double *> w, &inner, &keep, c,
                       &ldc)
        units -= part
        w += part * k
        c += part * c_stride
