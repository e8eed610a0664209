"""The pool, for modules that have work for it."""

from libc.stdint cimport int32_t

cdef extern from "pool.h" nogil:
    ctypedef void (*packseq_work)(void *argument, int32_t worker) noexcept


cdef class Pool:
    cdef void *handle
    cdef bint lend(self) noexcept nogil
    cdef void give_back(self) noexcept nogil
    cdef void rouse(self) noexcept nogil
    cdef int32_t reserve(self, int32_t workers) noexcept nogil
    cdef bint ready(self, int32_t workers) noexcept nogil
    cdef void run(self, packseq_work work, void *argument, int32_t workers) noexcept nogil
