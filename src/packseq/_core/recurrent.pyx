"""Bindings of the recurrent kernels: fill in a job, release the GIL, call once.

What reaches `Network.forward` was checked before. plain.pyx has a shorter way for plain calls.
"""

cimport cython
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cimport numpy as cnp

from packseq._core.pool cimport Pool

import numpy as np

cnp.import_array()

cdef extern from *:
    """
    #define PACKSEQ_TEXT_(x) #x
    #define PACKSEQ_TEXT(x) PACKSEQ_TEXT_(x)
    #if defined(__VERSION__)
    #define PACKSEQ_COMPILER __VERSION__
    #elif defined(_MSC_VER)
    #define PACKSEQ_COMPILER "MSVC " PACKSEQ_TEXT(_MSC_VER)
    #else
    #define PACKSEQ_COMPILER "unknown"
    #endif
    """
    const char *COMPILER "PACKSEQ_COMPILER"
    const long CYTHON_HEX_VERSION

# What this module was built with.
BUILD = {
    "cython": f"{CYTHON_HEX_VERSION >> 24}.{CYTHON_HEX_VERSION >> 16 & 255}.{CYTHON_HEX_VERSION >> 8 & 255}",
    "compiler": (<bytes> COMPILER).decode(),
}

# The kernels' cells, by the numbers that they have there.
CELLS = tuple([packseq_cells[cell].name.decode() for cell in range(PACKSEQ_N_CELLS)])

# And the activations that their gates may have.
GATE_ACTIVATIONS = tuple([packseq_gate_activations[i].decode() for i in range(PACKSEQ_N_GATE_ACTIVATIONS)])

# What numbers and weights may be.
FORMATS = tuple([packseq_formats[i].name.decode() for i in range(PACKSEQ_N_FORMATS)])

cdef class Kernels:
    """The kernels compiled for one instruction set."""

    cdef const packseq_kernels *table

    @property
    def name(self):
        return self.table.name.decode()

    @property
    def vector_bytes(self):
        return self.table.vector_bytes

    @property
    def supported(self):
        """Whether this machine can run them."""
        return bool(packseq_supported(self.table))

    def has(self, str format):
        """Whether they have an engine for one of FORMATS."""
        return packseq_engine_of(self.table, FORMATS.index(format)) != NULL

    def activate(self, str activation, cnp.ndarray x):
        """Apply "tanh" or one of GATE_ACTIVATIONS to a contiguous float array of whole vectors."""
        cdef cnp.ndarray y = np.empty_like(x)
        cdef int which = (*GATE_ACTIVATIONS, "tanh").index(activation)
        cdef const packseq_engine *engine = packseq_engine_of(self.table, FORMATS.index(x.dtype.name))
        engine.activate(which, x.data, y.data, x.size)
        return y

    def linear(self, object rows, object weight, object start, Pool pool, int32_t threads):
        """start + rows @ weight.T, (N, M), on at most so many threads; None where an array is not as it is wanted.

        Wanted are arrays of one dtype, float32 or float64, as `has_numbers` has them: rows (N, K), whose last axis is
        contiguous, weight (M, K) of any strides, start (M,), contiguous, or None for zeros. All is looked at here, and
        in C, since to do so in Python takes longer than a small layer."""
        if type(rows) is not cnp.ndarray:
            return None
        cdef int typenum = cnp.PyArray_TYPE(rows)
        if typenum != cnp.NPY_FLOAT and typenum != cnp.NPY_DOUBLE:
            return None
        if not (has_numbers(rows, 2, typenum) and has_numbers(weight, 2, typenum)):
            return None
        cdef packseq_linear x
        cdef bint done
        cdef int64_t itemsize = cnp.PyArray_ITEMSIZE(rows)
        memset(&x, 0, sizeof(x))
        x.format = PACKSEQ_F32 if typenum == cnp.NPY_FLOAT else PACKSEQ_F64
        x.rows, x.n_rows, x.k = data(rows), cnp.PyArray_DIMS(rows)[0], cnp.PyArray_DIMS(rows)[1]
        x.weight, x.columns = data(weight), cnp.PyArray_DIMS(weight)[0]
        x.row_stride = cnp.PyArray_STRIDES(rows)[0] // itemsize
        x.column_stride = cnp.PyArray_STRIDES(weight)[0] // itemsize
        x.k_stride = cnp.PyArray_STRIDES(weight)[1] // itemsize
        if cnp.PyArray_DIMS(weight)[1] != x.k or cnp.PyArray_STRIDES(rows)[1] != itemsize:
            return None
        if start is not None:
            if not has_numbers(start, 1, typenum) or cnp.PyArray_DIMS(start)[0] != x.columns:
                return None
            if cnp.PyArray_STRIDES(start)[0] != itemsize:
                return None
            x.start = data(start)
        cdef cnp.npy_intp[2] shape = [x.n_rows, x.columns]
        cdef cnp.ndarray out = cnp.PyArray_EMPTY(2, shape, typenum, 0)
        x.out = cnp.PyArray_DATA(out)
        with nogil:
            done = run_linear(self.table, &x, pool, threads)
        if not done:
            raise MemoryError("no memory for what a linear layer needs beside its results")
        return out


cdef bint has_numbers(object array, int ndim, int typenum) noexcept:
    """Whether it is an array of NumPy, not empty, whose numbers lie whole numbers apart, as a processor reads them."""
    cdef int axis
    if (type(array) is not cnp.ndarray or cnp.PyArray_NDIM(array) != ndim or cnp.PyArray_TYPE(array) != typenum
            or not cnp.PyArray_ISBEHAVED_RO(array)):
        return False
    for axis in range(ndim):
        if cnp.PyArray_DIMS(array)[axis] == 0 or cnp.PyArray_STRIDES(array)[axis] % cnp.PyArray_ITEMSIZE(array):
            return False
    return True


# What along() makes of rows, in packseq_along's order.
ALONG = ("sum", "cumsum", "max", "min", "totals", "softmax")


def along(Kernels kernels, str name, cnp.ndarray rows, cnp.ndarray out):
    """Take each of `rows`, (M, K), along its numbers, by the kernels or, where they are None, by what any machine has.

    Both are of float32 or of float64, aligned and C-contiguous, and not empty: out is (M,) for a sum or an extreme,
    (M, K) for a running sum or a softmax, and (2, M) for the maxima and the totals of the exponentials without them."""
    cdef packseq_format format = PACKSEQ_F32 if cnp.PyArray_ITEMSIZE(rows) == 4 else PACKSEQ_F64
    cdef packseq_along_rows *const *table = packseq_plain_along(format)
    if kernels is not None:
        table = packseq_engine_of(kernels.table, format).along
    cdef packseq_along_rows *run = table[<int> ALONG.index(name)]
    cdef int64_t count = rows.shape[0], size = rows.shape[1]
    with nogil:
        run(count, size, rows.data, out.data)


def compiled():
    """Every instruction set compiled in, best first."""
    cdef const packseq_kernels *const *table = packseq_compiled()
    cdef Kernels kernels
    found = []
    while table[0] != NULL:
        kernels = Kernels.__new__(Kernels)
        kernels.table = table[0]
        found.append(kernels)
        table += 1
    return found


cdef struct Task:
    packseq_job *job
    void (*run)(packseq_job *, int32_t) noexcept nogil


cdef void work(void *argument, int32_t worker) noexcept nogil:
    (<Task *> argument).run((<Task *> argument).job, worker)


cdef void do_nothing(void *argument, int32_t worker) noexcept nogil:
    pass


cdef struct Linear:
    packseq_linear *x
    void (*run)(packseq_linear *, int32_t) noexcept nogil


cdef void work_on_linear(void *argument, int32_t worker) noexcept nogil:
    (<Linear *> argument).run((<Linear *> argument).x, worker)


cdef bint run_linear(const packseq_kernels *table, packseq_linear *x, Pool pool, int32_t threads) noexcept nogil:
    """Cut it, lend it memory, run it on as many threads as can be had of so many. False: no memory."""
    cdef const packseq_engine *engine = packseq_engine_of(table, <packseq_format> x.format)
    cdef packseq_size size = packseq_size_for(packseq_microseconds_of_linear(x, table.vector_bytes))
    cdef int32_t taken = 1 if size == PACKSEQ_TINY else pool.take(threads)
    cdef int32_t workers = packseq_cut_linear(x, table.vector_bytes, taken)
    if workers > 1 and not pool.gather(workers, size == PACKSEQ_SMALL):
        workers = packseq_cut_linear(x, table.vector_bytes, 1)
    cdef Linear task = Linear(x, engine.linear)
    x.workspace_stride = engine.linear_workspace(x)
    cdef char *memory = <char *> malloc(workers * x.workspace_stride + 64)
    if memory != NULL:
        x.workspace = memory + (64 - <size_t> memory % 64)
        if workers > 1:
            pool.run(work_on_linear, &task, workers)
        else:
            work_on_linear(&task, 0)
    free(memory)
    pool.leave(taken)
    return memory != NULL


cdef packseq_matrix matrix_of(tuple packed, int64_t panels_per_block) noexcept:
    """(K, panels, column, scales or None, sums or None) as the kernels see it."""
    cdef packseq_matrix matrix
    matrix.k = packed[0]
    matrix.panels = data(packed[1])
    matrix.column = <const int32_t *> data(packed[2])
    matrix.n_panels = packed[1].shape[0]
    matrix.panels_per_block = panels_per_block
    matrix.scales = <const float *> data(packed[3])
    matrix.sums = <const int32_t *> data(packed[4])
    return matrix


@cython.final
cdef class Network:
    """A module's prepacked weights. Read-only once made, so threads share it.

    cell, gate_activation and format are of CELLS, GATE_ACTIVATIONS and FORMATS. directions is a list
    [L * D] of (ih, hh, late or None, bias, peephole or None, finite), each matrix (K, panels, column,
    scales, sums), the last two None but for int8, with its panels per block in `per_block`; see kernels.h
    for their order.
    """

    def __cinit__(self, Kernels kernels, str cell, str gate_activation, str format, int64_t hidden,
                  int64_t state, int n_directions, list directions, tuple per_block, bint batch_first,
                  bint one_step):
        cdef int i
        self.table = <packseq_direction *> PyMem_Calloc(len(directions), sizeof(packseq_direction))
        if self.table == NULL:
            raise MemoryError
        self.keep = directions
        self.net.format = FORMATS.index(format)
        self.engine = packseq_engine_of(kernels.table, <packseq_format> self.net.format)
        self.batch_first = batch_first
        self.one_step = one_step
        self.net.cell = CELLS.index(cell)
        self.net.gate_activation = GATE_ACTIVATIONS.index(gate_activation)
        self.net.n_layers = len(directions) // n_directions
        self.net.n_directions = n_directions
        self.net.hidden = hidden
        self.net.state = state
        self.net.directions = self.table
        for i, (ih, hh, late, bias, peephole, finite) in enumerate(directions):
            self.table[i].ih = matrix_of(ih, per_block[0])
            self.table[i].hh = matrix_of(hh, per_block[1])
            if late is not None:
                self.table[i].late = matrix_of(late, per_block[2])
            self.table[i].bias = data(bias)
            self.table[i].peephole = data(peephole)
            self.table[i].finite = finite
        self.input_width = self.table[0].ih.k
        self.has_c = packseq_cells[self.net.cell].has_c
        self.typenum = directions[0][3].dtype.num  # the bias's
        packseq_estimate(&self.net, kernels.table.vector_bytes)

    def __dealloc__(self):
        PyMem_Free(self.table)

    def forward(self, cnp.ndarray x, cnp.ndarray out, int64_t batch, int64_t steps, object batch_sizes,
                object offsets, object order, tuple hx, tuple hn, Pool pool, int32_t threads,
                int64_t padded_steps):
        """Run it on at most so many threads.

        x and out are packed (N, width) with `offsets`, or time-major (T, B, width) in the caller's order
        with a contiguous last axis; batch_sizes, offsets and order are a Plan's, or None. Rows past each
        end, up to padded_steps, become 0.
        """
        cdef packseq_job job
        cdef bint done
        self.begin(&job, batch, steps)
        self.lay(&job, x, out, batch_sizes, offsets, order)
        job.padded_steps = padded_steps
        job.h0, job.c0, job.hn, job.cn = data(hx[0]), data(hx[1]), data(hn[0]), data(hn[1])
        with nogil:
            done = self.perform(&job, pool, threads)
        if not done:
            raise MemoryError("no memory for what a call needs beside its results")

    def cut(self, int64_t batch, int64_t steps, object batch_sizes, int32_t threads):
        """How a call would be cut: (costs of its shards, members of a team, directions abreast, workers, bytes of
        workspace)."""
        cdef cnp.ndarray bounds = np.empty(batch + 1, np.int64)
        cdef packseq_job job
        self.begin(&job, batch, steps)
        job.batch_sizes = <const int64_t *> data(batch_sizes)
        cdef int32_t workers = packseq_cut(&job, <int64_t *> bounds.data, threads)
        cdef list costs = [packseq_cost_of(&job, shard) for shard in range(job.n_shards)]
        return costs, job.team, job.abreast, workers, self.workspace(&job, workers)

    cdef void begin(self, packseq_job *job, int64_t batch, int64_t steps) noexcept:
        memset(job, 0, sizeof(packseq_job))
        job.network = &self.net
        job.batch = batch
        job.steps = steps
        job.last_first = self.last_first
        self.last_first = not self.last_first

    cdef void lay(self, packseq_job *job, cnp.ndarray x, cnp.ndarray out, object batch_sizes, object offsets,
                  object order) noexcept:
        """Say where the rows lie, as forward() has them."""
        job.batch_sizes = <const int64_t *> data(batch_sizes)
        job.order = <const int64_t *> data(order)
        view(&job.input, x, job, offsets)
        view(&job.output, out, job, offsets)

    cdef packseq_size most_size(self, int64_t batch, int64_t steps) noexcept:
        return packseq_most_size(&self.net, batch, steps)

    cdef bint perform(self, packseq_job *job, Pool pool, int32_t threads) noexcept nogil:
        """Execute it on as many threads as can be had of so many."""
        cdef int32_t taken = pool.take(threads)
        cdef bint done = self.execute(job, pool, taken)
        pool.leave(taken)
        return done

    cdef bint execute(self, packseq_job *job, Pool pool, int32_t threads) noexcept nogil:
        """Cut it, lend it memory, run it; whoever calls has taken so many threads. False: no memory."""
        cdef packseq_barrier barriers[3]
        cdef Task task
        cdef char *memory = NULL
        cdef int64_t *bounds = <int64_t *> malloc((job.batch + 1) * sizeof(int64_t))
        cdef int32_t workers
        cdef int64_t size
        if bounds != NULL:
            workers = self.recruit(job, bounds, pool, threads)
            size = self.workspace(job, workers)
            memory = <char *> malloc(size + 64)
        if memory != NULL:
            memset(barriers, 0, sizeof(barriers))
            job.barriers = barriers
            if workers > 1:
                job.begun, job.patience = packseq_nanoseconds(), pool.get_patience()
            job.workspace = memory + (64 - <size_t> memory % 64)
            job.workspace_stride = size // workers
            task.job = job
            task.run = self.engine.run
            if threads == 1:
                work(&task, 0)
            else:
                pool.run(work, &task, workers)
        elif threads > 1:
            pool.run(do_nothing, NULL, 1)
        free(memory)
        free(bounds)
        return memory != NULL

    cdef int32_t recruit(self, packseq_job *job, int64_t *bounds, Pool pool, int32_t threads) noexcept nogil:
        """Cut it for as many workers as are worth it and can be had, up to `threads`; returns how many."""
        cdef double takes = packseq_microseconds_of(job) if threads > 1 else 0
        cdef packseq_size size = packseq_size_for(takes)
        cdef int32_t workers = packseq_cut(job, bounds, threads if size > PACKSEQ_TINY else 1)
        if workers == 1:
            return 1
        if not pool.gather(workers, size == PACKSEQ_SMALL):
            return packseq_cut(job, bounds, 1)
        if job.team == 1 or size == PACKSEQ_SMALL:
            return workers
        # Members of a team wait for each other. Those of a small one are awake, and will come; for who does not, and
        # whom nobody waits for, the caller stands in.
        cdef int32_t come = pool.muster(workers, <int64_t> (1000 * takes / PATIENT_PART))
        return workers if come == workers else packseq_cut(job, bounds, come)

    cdef int64_t workspace(self, const packseq_job *job, int32_t workers) noexcept nogil:
        """Of all workers together."""
        cdef int64_t parts = 1 if job.team > 1 else workers
        return parts * self.engine.workspace(job)
