"""Native threads that wait for work, for one call at a time. They live as long as the process."""

cimport cython
from libc.stdint cimport int32_t, int64_t

cdef extern from "pool.h" nogil:
    const int PACKSEQ_MOST_THREADS
    void *packseq_pool_new() noexcept
    const int64_t PACKSEQ_ENDLESS
    void packseq_pool_set_patience(void *pool, int64_t time) noexcept
    int64_t packseq_pool_patience(void *pool) noexcept
    int32_t packseq_pool_lend(void *pool, int32_t threads) noexcept
    void packseq_pool_give_back(void *pool) noexcept
    void packseq_pool_rouse(void *pool) noexcept
    int32_t packseq_pool_reserve(void *pool, int32_t workers) noexcept
    int packseq_pool_ready(void *pool, int32_t workers) noexcept
    int64_t packseq_pool_rounds(void *pool) noexcept
    int32_t packseq_pool_muster(void *pool, int32_t workers, int64_t time) noexcept
    void packseq_pool_run(void *pool, packseq_work work, void *argument, int32_t workers) noexcept

# The largest number of threads that a call may ask for.
MOST_THREADS = PACKSEQ_MOST_THREADS


@cython.final
cdef class Pool:
    """One set of threads; ``pool.h`` says more of what its methods do."""

    def __cinit__(self):
        self.handle = packseq_pool_new()
        if self.handle == NULL:
            raise MemoryError

    # A call takes what it can have, gathers as many as its work is worth, lets them run, and leaves what it took:
    #
    #     taken = pool.take(threads)
    #     workers = ...                            # at most `taken`
    #     if workers > 1 and not pool.gather(workers, only_awake=False):
    #         workers = 1
    #     if workers > 1 and <the work waits for all its workers>:
    #         workers = ... pool.muster(workers)   # at most so many
    #     pool.run(work, &argument, workers)
    #     pool.leave(taken)
    #
    # What is between take and leave runs on the caller alone where taken is 1, without the pool.

    cdef int32_t take(self, int32_t threads) noexcept nogil:
        """How many threads a call may use that asks for so many: as many as have a processor lately, or itself
        alone where another call has the pool."""
        return packseq_pool_lend(self.handle, threads)

    cdef void leave(self, int32_t taken) noexcept nogil:
        """After take(), which returned so many."""
        if taken > 1:
            packseq_pool_give_back(self.handle)

    cdef void rouse(self) noexcept nogil:
        """Of those who have taken it: work will come soon."""
        packseq_pool_rouse(self.handle)

    cdef bint gather(self, int32_t workers, bint only_awake) noexcept nogil:
        """Whether there are so many workers, the caller one of them; those who sleep too, or only_awake."""
        if only_awake:
            return packseq_pool_ready(self.handle, workers)
        return packseq_pool_reserve(self.handle, workers) == workers

    cdef int32_t muster(self, int32_t workers, int64_t time) noexcept nogil:
        """How many of those gathered have come, within so many nanoseconds; run() must follow."""
        return packseq_pool_muster(self.handle, workers, time)

    cdef int64_t get_patience(self) noexcept nogil:
        return packseq_pool_patience(self.handle)

    cdef void run(self, packseq_work work, void *argument, int32_t workers) noexcept nogil:
        """On so many workers, of those who have been mustered or gathered."""
        packseq_pool_run(self.handle, work, argument, workers)

    @property
    def patience(self):
        """Nanoseconds that a worker may be late; None: all are waited for, and there are as many as a call asks for."""
        cdef int64_t time = packseq_pool_patience(self.handle)
        return None if time == PACKSEQ_ENDLESS else time

    @patience.setter
    def patience(self, time):
        packseq_pool_set_patience(self.handle, PACKSEQ_ENDLESS if time is None else time)

    @property
    def rounds(self):
        """How often threads have worked together."""
        return packseq_pool_rounds(self.handle)

    def borrow(self):
        """Take it away from all calls until put_back(), or return False where a call has it."""
        return self.take(2) == 2

    def put_back(self):
        """After borrow()."""
        self.leave(2)
