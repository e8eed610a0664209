"""Live sessions: a table of their states, and pushes, which run a network on those of some of them.

sessions.h says how the states lie. Whoever looks at the table or changes it holds the critical section, in which
no Python runs: with a GIL this costs nothing, and without one it is a lock. A push holds it twice, to claim its
sessions and to give them back; the kernels run in between, without the GIL, on states that nobody else may change.
"""

cimport cython
cimport numpy as cnp
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from packseq._core.pool cimport Pool
from packseq._core.recurrent cimport PACKSEQ_TINY, Network, data, packseq_job

cnp.import_array()

cdef extern from "sessions.h" nogil:
    ctypedef enum packseq_had:
        PACKSEQ_HAD
        PACKSEQ_CLOSED
        PACKSEQ_NEVER_OPENED
        PACKSEQ_TWICE
        PACKSEQ_IN_PUSH

    ctypedef struct packseq_sessions:
        int64_t capacity
        int64_t n_open
        int64_t next_id

    ctypedef struct packseq_slot:
        pass

    ctypedef struct packseq_claim:
        int64_t n
        int64_t *slots
        void **before
        void **after

    void packseq_sessions_init(packseq_sessions *, int64_t, size_t, size_t, int64_t)
    void packseq_sessions_clear(packseq_sessions *)
    packseq_slot *packseq_open(packseq_sessions *, int64_t)
    packseq_had packseq_close(packseq_sessions *, int64_t)
    void packseq_put(const packseq_sessions *, const packseq_slot *, const void *, const void *)
    packseq_had packseq_write(packseq_sessions *, int64_t, const void *, const void *)
    packseq_had packseq_read(const packseq_sessions *, int64_t, void *, void *)
    void packseq_list(const packseq_sessions *, int64_t *, char *, char *)
    int64_t packseq_claim_all(packseq_sessions *, const int64_t *, int64_t, packseq_claim *, int64_t *, packseq_had *)
    void packseq_release(packseq_sessions *, const packseq_claim *, int)


@cython.final
cdef class Sessions:
    """The states of live sessions.

    shapes are those of one sequence's states, ((L, R),) or ((L, R), (L, H)); arrays of states are of these, of
    `typenum`, and C-contiguous; c is None where there is none. At most `capacity` are open at once.
    """

    cdef packseq_sessions table
    cdef tuple shapes
    cdef int typenum

    def __cinit__(self, tuple shapes, cnp.dtype dtype, int64_t capacity):
        cdef size_t h_bytes = shapes[0][1] * dtype.itemsize
        cdef size_t c_bytes = shapes[1][1] * dtype.itemsize if len(shapes) > 1 else 0
        self.shapes, self.typenum = shapes, dtype.num
        packseq_sessions_init(&self.table, shapes[0][0], h_bytes, c_bytes, capacity)

    def __dealloc__(self):
        packseq_sessions_clear(&self.table)

    def __len__(self):
        cdef int64_t n
        with cython.critical_section(self):
            n = self.table.n_open
        return n

    # ---- one session ----

    def open(self):
        """Open a session, its state zeros, and return its id; RuntimeError where all are open."""
        cdef int64_t id
        cdef bint full, opened = False
        with cython.critical_section(self):
            full = self.table.n_open >= self.table.capacity
            id = self.table.next_id
            if not full:
                opened = packseq_open(&self.table, id) != NULL
            self.table.next_id += opened
        if full:
            raise RuntimeError(f"all {self.table.capacity} sessions that there may be are open: close one first")
        if not opened:
            raise MemoryError("no memory for the state of one more session")
        return id

    def close(self, int64_t id):
        cdef packseq_had had
        with cython.critical_section(self):
            had = packseq_close(&self.table, id)
        check(had, "id", id)

    def read(self, int64_t id):
        """Copy its state: (h,) or (h, c)."""
        cdef packseq_had had
        cdef tuple state = self.allocate()
        cdef void *h = data(state[0])
        cdef void *c = data(state[len(state) - 1])
        with cython.critical_section(self):
            had = packseq_read(&self.table, id, h, c)
        check(had, "id", id)
        return state

    def write(self, int64_t id, cnp.ndarray h, cnp.ndarray c):
        """Set its state; to zeros where h is None."""
        cdef packseq_had had
        cdef void *from_h = data(h)
        cdef void *from_c = data(c)
        with cython.critical_section(self):
            had = packseq_write(&self.table, id, from_h, from_c)
        check(had, "id", id)

    # ---- all of them ----

    def ids(self):
        """Those that are open, in no order."""
        return self.all_of(False)[0]

    def snapshot(self):
        """(ids, the next id, (h,) or (h, c)), each state (L, n, width) in the order of ids."""
        return self.all_of(True)

    def restore(self, const int64_t[::1] ids, int64_t next_id, tuple states):
        """Open these, of states as snapshot() has them, in a table that is new: no two alike, all below next_id."""
        cdef int64_t b
        cdef packseq_slot *slot
        cdef cnp.ndarray h, c = None
        for b in range(ids.shape[0]):
            h = states[0][:, b].copy()
            if len(states) > 1:
                c = states[1][:, b].copy()
            slot = packseq_open(&self.table, ids[b])
            if slot == NULL:
                raise MemoryError("no memory for the states of all sessions")
            packseq_put(&self.table, slot, data(h), data(c))
        self.table.next_id = next_id

    cdef tuple all_of(self, bint with_states):
        cdef int64_t n = -1, next_id = 0, now = len(self)
        cdef cnp.ndarray ids
        cdef tuple states
        cdef int64_t *to_ids
        cdef char *to_h
        cdef char *to_c
        while n != now:  # others may open and close while memory is taken
            n = now
            ids = vector(n)
            states = self.allocate(n) if with_states else ()
            to_ids = <int64_t *> ids.data
            to_h = to_c = NULL
            if with_states:
                to_h, to_c = <char *> data(states[0]), <char *> data(states[len(states) - 1])
            with cython.critical_section(self):
                now, next_id = self.table.n_open, self.table.next_id
                if now == n:
                    packseq_list(&self.table, to_ids, to_h, to_c)
        return ids, next_id, states

    cdef tuple allocate(self, int64_t n=-1):
        """States of one session, or of n."""
        cdef cnp.npy_intp shape[3]
        cdef list made = []
        for layers, width in self.shapes:
            shape[0], shape[1], shape[2] = layers, n, width
            if n < 0:
                shape[1] = width
            made.append(cnp.PyArray_EMPTY(2 if n < 0 else 3, shape, self.typenum, 0))
        return tuple(made)

    # ---- some of them ----

    def push_plain(self, Network network, cnp.ndarray ids, object frames, object crew):
        """push() of a plain array of one row each, or None where frames are none: the short way, for few sessions.

        crew() gives the pool and how many threads there may be. A push of 5 sessions of an LSTM 128 takes 12
        microseconds so, and 25 the general way (Zen 4, one run).
        """
        cdef int64_t n = ids.shape[0]
        cdef cnp.npy_intp shape[2]
        cdef cnp.ndarray x, out
        if type(frames) is not cnp.ndarray:
            return None
        x = frames[...]  # another thread may reshape the caller's in place
        if (cnp.PyArray_TYPE(x) != network.typenum or cnp.PyArray_NDIM(x) != 2 or not cnp.PyArray_ISCARRAY_RO(x)
                or x.shape[0] != n or x.shape[1] != network.input_width):
            return None
        shape[0], shape[1] = n, network.net.state
        if network.most_size(n, 1) == PACKSEQ_TINY:
            pool, threads = None, 1
        else:
            pool, threads = crew()
        out = cnp.PyArray_EMPTY(2, shape, network.typenum, 0)
        self.push(network, ids, x, out, (1, None, None, None), pool, threads)
        return out

    cpdef push(self, Network network, cnp.ndarray ids, cnp.ndarray x, cnp.ndarray out, tuple where, Pool pool,
               int32_t threads):
        """Run the sessions `ids`, an int64 vector, on rows in their order, and keep their new states.

        x and out are packed rows (N, width), N perhaps 0; `where` is how they lie: how many steps there are, and the
        batch_sizes, offsets and order of a Plan, or None for one step of each.
        """
        cdef int64_t n = ids.shape[0], had_all, id = 0
        cdef const int64_t *wanted = <const int64_t *> ids.data
        cdef packseq_claim claim
        cdef packseq_had had = PACKSEQ_HAD
        cdef packseq_job job
        cdef bint done = False, empty = x.shape[0] == 0, tiny
        cdef int64_t steps = where[0]
        claim.slots = <int64_t *> malloc((3 * n + 1) * sizeof(int64_t))
        if claim.slots == NULL:
            raise MemoryError
        claim.before = <void **> (claim.slots + n)
        claim.after = <void **> (claim.slots + 2 * n)
        with cython.critical_section(self):
            had_all = packseq_claim_all(&self.table, wanted, n, &claim, &id, &had)
        if had_all == n and not empty:
            network.begin(&job, n, steps)
            network.lay(&job, x, out, where[1], where[2], where[3])
            job.before, job.after = claim.before, claim.after
            tiny = network.most_size(n, steps) == PACKSEQ_TINY  # the pool, perhaps None, is left to others
            with nogil:
                done = network.execute(&job, pool, 1) if tiny else network.perform(&job, pool, threads)
        if had_all == n:
            with cython.critical_section(self):
                packseq_release(&self.table, &claim, done)
        free(claim.slots)
        if had_all < n:
            check(had, f"ids[{had_all}]", id)
        if not (done or empty):
            raise MemoryError("no memory for what a call needs beside its results")


def as_ids(object ids):
    """A list of ints, or a contiguous int64 vector, as a new array or a new view; None for all else."""
    cdef cnp.ndarray made
    cdef int64_t *to
    cdef Py_ssize_t b
    cdef int overflow
    if type(ids) is cnp.ndarray:
        made = ids[...]
        plain = cnp.PyArray_TYPE(made) == cnp.NPY_INT64 and cnp.PyArray_NDIM(made) == 1
        return made if plain and cnp.PyArray_ISCARRAY_RO(made) else None
    if type(ids) is not list:
        return None
    ids = tuple(ids)  # which no other thread can shorten meanwhile
    made = vector(len(<tuple> ids))
    to = <int64_t *> made.data
    for b in range(len(<tuple> ids)):
        if not PyLong_CheckExact((<tuple> ids)[b]):
            return None
        to[b] = PyLong_AsLongLongAndOverflow((<tuple> ids)[b], &overflow)
        if overflow:
            return None
    return made


cdef cnp.ndarray vector(int64_t size):
    cdef cnp.npy_intp shape = size
    return cnp.PyArray_EMPTY(1, &shape, cnp.NPY_INT64, 0)


cdef check(packseq_had had, str name, int64_t id):
    """Raise what is wrong with an id."""
    if had == PACKSEQ_CLOSED:
        raise ValueError(f"{name} = {id} is of a session that was closed")
    if had == PACKSEQ_NEVER_OPENED:
        raise ValueError(f"{name} = {id} is of no session: it was never opened")
    if had == PACKSEQ_TWICE:
        raise ValueError(f"{name} = {id} is there twice: a push takes each session once")
    if had == PACKSEQ_IN_PUSH:
        raise RuntimeError(f"{name} = {id} is in another push: wait for that")
