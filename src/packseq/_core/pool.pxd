"""The pool, for modules that have work for it."""

from libc.stdint cimport int32_t, int64_t

cdef extern from "pool.h" nogil:
    ctypedef void (*packseq_work)(void *argument, int32_t worker) noexcept
    ctypedef struct packseq_parts:
        int64_t next
    int64_t packseq_take_part(packseq_parts *parts) noexcept


cdef class Pool:
    cdef void *handle
    cdef int32_t take(self, int32_t threads) noexcept nogil
    cdef void leave(self, int32_t taken) noexcept nogil
    cdef void rouse(self) noexcept nogil
    cdef int32_t muster(self, int32_t workers, int64_t time) noexcept nogil
    cdef int64_t get_patience(self) noexcept nogil
    cdef bint gather(self, int32_t workers, bint only_awake) noexcept nogil
    cdef void run(self, packseq_work work, void *argument, int32_t workers) noexcept nogil
