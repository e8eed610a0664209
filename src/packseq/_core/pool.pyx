"""Native threads that wait for work, for one call at a time. They live as long as the process."""

cimport cython
from libc.stdint cimport int32_t, int64_t

cdef extern from "pool.h" nogil:
    const int PACKSEQ_MOST_THREADS
    void *packseq_pool_new() noexcept
    int packseq_pool_lend(void *pool) noexcept
    void packseq_pool_give_back(void *pool) noexcept
    void packseq_pool_rouse(void *pool) noexcept
    int32_t packseq_pool_reserve(void *pool, int32_t workers) noexcept
    int packseq_pool_ready(void *pool, int32_t workers) noexcept
    int64_t packseq_pool_rounds(void *pool) noexcept
    void packseq_pool_run(void *pool, packseq_work work, void *argument, int32_t workers) noexcept

# The largest number of threads that a call may ask for.
MOST_THREADS = PACKSEQ_MOST_THREADS


@cython.final
cdef class Pool:
    """One set of threads; ``pool.h`` says what its methods do."""

    def __cinit__(self):
        self.handle = packseq_pool_new()
        if self.handle == NULL:
            raise MemoryError

    cdef bint lend(self) noexcept nogil:
        return packseq_pool_lend(self.handle)

    cdef void give_back(self) noexcept nogil:
        packseq_pool_give_back(self.handle)

    cdef void rouse(self) noexcept nogil:
        packseq_pool_rouse(self.handle)

    cdef int32_t reserve(self, int32_t workers) noexcept nogil:
        return packseq_pool_reserve(self.handle, workers)

    cdef bint ready(self, int32_t workers) noexcept nogil:
        return packseq_pool_ready(self.handle, workers)

    cdef void run(self, packseq_work work, void *argument, int32_t workers) noexcept nogil:
        packseq_pool_run(self.handle, work, argument, workers)

    @property
    def rounds(self):
        """How often threads have worked together."""
        return packseq_pool_rounds(self.handle)

    def borrow(self):
        """Take it away from all calls until put_back(), or return False where a call has it."""
        return bool(self.lend())

    def put_back(self):
        """After borrow()."""
        self.give_back()
