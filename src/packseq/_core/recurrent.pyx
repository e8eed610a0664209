"""Bindings of the recurrent kernels: fill in a job, release the GIL, call once.

`Network.call` takes plain calls whole, from arrays to arrays, and looks at what it is given; what reaches
`Network.forward` was checked before.
"""

cimport cython
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cimport numpy as cnp

from packseq._core.order cimport count, place_all
from packseq._core.pool cimport Pool

import numpy as np

cnp.import_array()

cdef extern from "kernels.h" nogil:
    enum: PACKSEQ_N_CELLS
    enum: PACKSEQ_N_GATE_ACTIVATIONS

    ctypedef struct packseq_cell_traits:
        const char *name
        int32_t has_c

    const packseq_cell_traits *packseq_cells
    const char *const *packseq_gate_activations

    ctypedef struct packseq_matrix:
        const void *panels
        const int32_t *column
        int64_t k
        int64_t n_panels
        int64_t panels_per_block

    ctypedef struct packseq_direction:
        packseq_matrix ih
        packseq_matrix hh
        packseq_matrix second
        const void *bias
        const void *peephole
        int32_t finite

    ctypedef struct packseq_network:
        int32_t cell
        int32_t gate_activation
        int32_t n_layers
        int32_t n_directions
        int64_t hidden
        int64_t state
        const packseq_direction *directions

    ctypedef struct packseq_rows:
        void *base
        const int64_t *offsets
        const int64_t *order
        int64_t step_stride
        int64_t row_stride

    ctypedef struct packseq_barrier:
        int32_t arrived

    ctypedef struct packseq_job:
        const packseq_network *network
        int64_t batch
        int64_t steps
        const int64_t *batch_sizes
        const int64_t *order
        packseq_rows input
        packseq_rows output
        int64_t padded_steps
        const void *h0
        const void *c0
        void *hn
        void *cn
        int64_t n_shards
        const int64_t *bounds
        int32_t backwards
        int64_t block_rows
        int64_t shard_sequences
        int64_t shard_rows
        int32_t team
        int32_t abreast
        char *workspace
        int64_t workspace_stride
        packseq_barrier *barriers

    ctypedef struct packseq_kernels:
        const char *name
        int32_t vector_bytes
        int64_t (*workspace_f32)(const packseq_job *) noexcept nogil
        int64_t (*workspace_f64)(const packseq_job *) noexcept nogil
        void (*run_f32)(packseq_job *, int32_t) noexcept nogil
        void (*run_f64)(packseq_job *, int32_t) noexcept nogil
        void (*activate_f32)(int, const float *, float *, int64_t) noexcept nogil
        void (*activate_f64)(int, const double *, double *, int64_t) noexcept nogil

    const packseq_kernels *const *packseq_compiled() noexcept nogil
    int packseq_supported(const packseq_kernels *) noexcept nogil
    int32_t packseq_cut(packseq_job *, int64_t *, int32_t, int64_t, int64_t, int64_t) noexcept nogil
    int64_t packseq_least_rows(double, int64_t) noexcept nogil
    int64_t packseq_cost(const packseq_job *, int64_t) noexcept nogil
    const double PACKSEQ_SMALL_MICROSECONDS, PACKSEQ_TINY_MICROSECONDS, PACKSEQ_FLOPS_PER_MICROSECOND

cdef extern from *:
    const char *COMPILER "__VERSION__"
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

# What a result may take at most, in bytes, to be left to Network.call; the general path names what is too large.
cdef double MOST_BYTES = 1e12


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

    def activate(self, str activation, cnp.ndarray x):
        """Apply "tanh" or one of GATE_ACTIVATIONS to a contiguous float array of whole vectors."""
        cdef cnp.ndarray y = np.empty_like(x)
        cdef int which = (*GATE_ACTIVATIONS, "tanh").index(activation)
        if x.dtype == np.float32:
            self.table.activate_f32(which, <float *> x.data, <float *> y.data, x.size)
        else:
            self.table.activate_f64(which, <double *> x.data, <double *> y.data, x.size)
        return y


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


cdef struct Order:
    int64_t *batch_sizes # [T]
    int64_t *order       # [B]


cdef bint arrange(object lengths, int64_t batch, int64_t steps, int64_t *memory, Order *found):
    """Plan lengths given as a list of int or an int64 array, the longest of them `steps`, or give up.

    memory is for 3 * batch + 2 * steps + 1 numbers.
    """
    cdef int64_t *length = memory
    cdef int64_t *place = memory + 3 * batch + steps
    cdef int64_t b, longest = 0
    cdef bint listed = type(lengths) is list
    found.order, found.batch_sizes = memory + batch, memory + 3 * batch
    if listed:
        lengths = tuple(lengths)  # which no other thread can shorten meanwhile
        if len(<tuple> lengths) != batch:
            return False
    elif (type(lengths) is not cnp.ndarray
            or cnp.PyArray_TYPE(<cnp.ndarray> lengths) != cnp.NPY_INT64
            or cnp.PyArray_NDIM(<cnp.ndarray> lengths) != 1
            or cnp.PyArray_DIMS(<cnp.ndarray> lengths)[0] != batch
            or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray> lengths)):
        return False
    for b in range(batch):
        if not listed:
            length[b] = (<int64_t *> (<cnp.ndarray> lengths).data)[b]
        elif type((<tuple> lengths)[b]) is int and 0 <= (<tuple> lengths)[b] <= steps:
            length[b] = (<tuple> lengths)[b]
        else:
            return False
        if not 0 <= length[b] <= steps:
            return False
        longest = max(longest, length[b])
    if longest < steps:
        return False
    count(length, batch, steps, place, found.batch_sizes)
    place_all(length, batch, place, found.order, memory + 2 * batch)
    return True


cdef struct Task:
    packseq_job *job
    void (*run)(packseq_job *, int32_t) noexcept nogil


cdef void work(void *argument, int32_t worker) noexcept nogil:
    (<Task *> argument).run((<Task *> argument).job, worker)


cdef packseq_matrix matrix_of(tuple packed, int64_t panels_per_block) noexcept:
    """(panels [panel][K][2U], column [panel]) as the kernels see it."""
    cdef packseq_matrix matrix
    cdef cnp.ndarray panels = packed[0], column = packed[1]
    matrix.panels = panels.data
    matrix.column = <const int32_t *> column.data
    matrix.n_panels = panels.shape[0]
    matrix.k = panels.shape[1]
    matrix.panels_per_block = panels_per_block
    return matrix


@cython.final
cdef class Network:
    """A module's prepacked weights. Read-only once made, so threads share it.

    cell and gate_activation are of CELLS and GATE_ACTIVATIONS. directions is a list [L * D] of (ih, hh,
    second or None, bias, peephole or None, finite), each matrix a pair (panels, column) with its panels
    per block in `per_block`; see kernels.h for their order.
    """

    cdef packseq_network net
    cdef packseq_direction *table
    cdef const packseq_kernels *kernels
    cdef object keep
    cdef object dtype
    cdef int typenum
    cdef int64_t input_width
    cdef double row_microseconds  # a step of one sequence, about, beside enough others
    cdef int64_t least_rows  # what a step of fewer sequences counts as, in the midst of others,
    cdef int64_t least_rows_alone  # and where it is the only one, so that all weights pass
    cdef bint batch_first
    cdef bint one_step  # calls have no axis of time, states none of layers
    cdef int32_t backwards  # flips at each call; what a race leaves here is as good

    def __cinit__(self, Kernels kernels, str cell, str gate_activation, int64_t hidden, int64_t state,
                  int n_directions, list directions, tuple per_block, bint batch_first, bint one_step):
        cdef int i
        self.table = <packseq_direction *> PyMem_Calloc(len(directions), sizeof(packseq_direction))
        if self.table == NULL:
            raise MemoryError
        self.keep = directions
        self.kernels = kernels.table
        self.batch_first = batch_first
        self.one_step = one_step
        self.net.cell = CELLS.index(cell)
        self.net.gate_activation = GATE_ACTIVATIONS.index(gate_activation)
        self.net.n_layers = len(directions) // n_directions
        self.net.n_directions = n_directions
        self.net.hidden = hidden
        self.net.state = state
        self.net.directions = self.table
        weights = recurrent = 0
        for i, (ih, hh, second, bias, peephole, finite) in enumerate(directions):
            self.table[i].ih = matrix_of(ih, per_block[0])
            self.table[i].hh = matrix_of(hh, per_block[1])
            if second is not None:
                self.table[i].second = matrix_of(second, per_block[2])
            self.table[i].bias = data(bias)
            self.table[i].peephole = data(peephole)
            self.table[i].finite = finite
            from_state = hh[0].size + (second[0].size if second else 0)
            weights += ih[0].size + from_state
            recurrent = max(recurrent, from_state)
        self.input_width = self.table[0].ih.k
        self.dtype = directions[0][0][0].dtype
        self.typenum = self.dtype.num
        cdef double lanes = <double> kernels.vector_bytes / self.dtype.itemsize
        self.row_microseconds = 2.0 * weights / PACKSEQ_FLOPS_PER_MICROSECOND * 8 / lanes
        self.least_rows = packseq_least_rows(<double> recurrent * self.dtype.itemsize, self.kernels.vector_bytes)
        self.least_rows_alone = packseq_least_rows(<double> weights * self.dtype.itemsize, self.kernels.vector_bytes)

    def __dealloc__(self):
        PyMem_Free(self.table)

    cdef inline bint plain(self, object array, int ndim) noexcept:
        """A native, aligned, C-contiguous ndarray of this dtype and rank?"""
        return (
            type(array) is cnp.ndarray
            and cnp.PyArray_TYPE(<cnp.ndarray> array) == self.typenum
            and cnp.PyArray_NDIM(<cnp.ndarray> array) == ndim
            and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray> array)
        )

    cdef inline bint is_state(self, object array, cnp.npy_intp *shape, int ndim) noexcept:
        if not self.plain(array, ndim):
            return False
        cdef int axis
        for axis in range(ndim):
            if cnp.PyArray_DIMS(<cnp.ndarray> array)[axis] != shape[axis]:
                return False
        return True

    def call(self, object x, object hx, object lengths, object crew, object elsewhere):
        """Run a plain call, or return None for the general path to take it.

        x is (T, I), (T, B, I) or (B, T, I), or of one step (I,) or (B, I); hx is None, h or (h, c).
        crew() gives the pool and how many threads there may be. elsewhere() tells whether a call that
        is not small may be for another backend; None: it is not. What is accepted here is complete as
        it stands; all else, errors included, is the general path's.
        """
        cdef cnp.ndarray array
        cdef int ndim, by_time
        if type(x) is not cnp.ndarray:
            return None
        array = x
        ndim = cnp.PyArray_NDIM(array)
        cdef int axes = ndim + self.one_step
        if axes != 2 and axes != 3 or not self.plain(x, ndim):
            return None
        by_time = axes == 3 and self.batch_first
        cdef int64_t steps = 1 if self.one_step else cnp.PyArray_DIMS(array)[by_time]
        cdef int64_t batch = 1 if axes == 2 else cnp.PyArray_DIMS(array)[0 if self.one_step else 1 - by_time]
        if cnp.PyArray_DIMS(array)[ndim - 1] != self.input_width or batch == 0 or steps == 0:
            return None
        cdef double most = <double> steps * <double> max(batch, self.rows_of_a_step(steps)) * self.row_microseconds
        if most <= PACKSEQ_TINY_MICROSECONDS:
            return self.call_plain(array, batch, steps, hx, lengths, None, 1)
        cdef bint small = most <= PACKSEQ_SMALL_MICROSECONDS
        if not small and elsewhere is not None and elsewhere():
            return None
        cdef Pool pool
        cdef int32_t threads
        pool, threads = crew()
        if threads == 1 or not pool.lend():
            return self.call_plain(array, batch, steps, hx, lengths, pool, 1)
        if not small:
            pool.rouse()  # while this thread allocates
        try:
            return self.call_plain(array, batch, steps, hx, lengths, pool, threads)
        finally:
            pool.give_back()

    cdef object call_plain(self, cnp.ndarray x, int64_t batch, int64_t steps, object hx, object lengths, Pool pool,
                           int32_t threads):
        cdef bint lstm = packseq_cells[self.net.cell].has_c
        cdef int ndim = cnp.PyArray_NDIM(x)
        cdef packseq_job job
        cdef Order found
        cdef cnp.npy_intp out_shape[3]
        cdef cnp.npy_intp h_shape[3]
        cdef cnp.npy_intp c_shape[3]
        cdef object h0 = hx, c0 = None
        cdef int64_t *memory = NULL
        cdef bint done

        cdef int axis
        self.shape_states(h_shape, ndim, batch, self.net.state)
        self.shape_states(c_shape, ndim, batch, self.net.hidden)
        if hx is not None:
            if lstm:
                if type(hx) is not tuple or len(<tuple> hx) != 2:
                    return None
                h0, c0 = <tuple> hx
                if not self.is_state(c0, c_shape, ndim):
                    return None
            if not self.is_state(h0, h_shape, ndim):
                return None
        if lengths is not None and ndim == 2:
            return None

        for axis in range(ndim - 1):
            out_shape[axis] = cnp.PyArray_DIMS(x)[axis]
        out_shape[ndim - 1] = self.net.n_directions * self.net.state
        cdef double states = <double> self.net.n_layers * self.net.n_directions * self.net.hidden
        if 8.0 * batch * (<double> steps * out_shape[ndim - 1] + states) > MOST_BYTES:
            return None
        cdef cnp.ndarray output = cnp.PyArray_EMPTY(ndim, out_shape, self.typenum, 0)
        cdef cnp.ndarray hn = cnp.PyArray_EMPTY(ndim, h_shape, self.typenum, 0)
        cdef cnp.ndarray cn = hn
        if lstm:
            cn = cnp.PyArray_EMPTY(ndim, c_shape, self.typenum, 0)

        self.begin(&job, batch, steps)
        self.lay(&job.input, x, self.input_width, batch, steps)
        self.lay(&job.output, output, out_shape[ndim - 1], batch, steps)
        job.h0, job.c0, job.hn, job.cn = data(h0), data(c0), hn.data, cn.data
        if lengths is not None:
            memory = <int64_t *> malloc((3 * batch + 2 * steps + 1) * sizeof(int64_t))
            if memory == NULL:
                raise MemoryError
            if not arrange(lengths, batch, steps, memory, &found):
                free(memory)
                return None
            job.padded_steps = steps
            job.batch_sizes = found.batch_sizes
            job.order = job.input.order = job.output.order = found.order
        with nogil:
            done = self.execute(&job, pool, threads)
            free(memory)
        if not done:
            raise MemoryError("no memory for what a call needs beside its results")
        return output, ((hn, cn) if lstm else hn)

    def forward(self, cnp.ndarray x, cnp.ndarray out, int64_t batch, int64_t steps, object batch_sizes,
                object offsets, object order, tuple hx, tuple hn, Pool pool, int32_t threads,
                int64_t padded_steps):
        """Run it on at most so many threads.

        x and out are packed (N, width) with `offsets`, or time-major (T, B, width) in the caller's order
        with a contiguous last axis; batch_sizes, offsets and order are a Plan's, or None. Rows past each
        end, up to padded_steps, become 0.
        """
        cdef packseq_job job
        cdef bint done, lent
        self.begin(&job, batch, steps)
        job.batch_sizes = <const int64_t *> data(batch_sizes)
        job.order = <const int64_t *> data(order)
        view(&job.input, x, &job, offsets)
        view(&job.output, out, &job, offsets)
        job.padded_steps = padded_steps
        job.h0, job.c0, job.hn, job.cn = data(hx[0]), data(hx[1]), data(hn[0]), data(hn[1])
        with nogil:
            lent = threads > 1 and pool.lend()
            done = self.execute(&job, pool, threads if lent else 1)
            if lent:
                pool.give_back()
        if not done:
            raise MemoryError("no memory for what a call needs beside its results")

    def cut(self, int64_t batch, int64_t steps, object batch_sizes, int32_t threads):
        """How a call would be cut: (shards, members of a team, directions abreast, workers, bytes of workspace)."""
        cdef cnp.ndarray bounds = np.empty(batch + 1, np.int64)
        cdef packseq_job job
        self.begin(&job, batch, steps)
        job.batch_sizes = <const int64_t *> data(batch_sizes)
        cdef int32_t workers = self.share(&job, <int64_t *> bounds.data, threads)
        return job.n_shards, job.team, job.abreast, workers, self.workspace(&job, workers)

    cdef void begin(self, packseq_job *job, int64_t batch, int64_t steps) noexcept:
        memset(job, 0, sizeof(packseq_job))
        job.network = &self.net
        job.batch = batch
        job.steps = steps
        job.backwards = self.backwards
        self.backwards = not self.backwards

    cdef inline void shape_states(self, cnp.npy_intp *shape, int ndim, int64_t batch, int64_t width) noexcept:
        """(L * D, B, width), without the axes that calls of such a rank have not."""
        cdef int axis = 0
        if not self.one_step:
            shape[0] = self.net.n_layers * self.net.n_directions
            axis = 1
        if axis < ndim - 1:
            shape[axis] = batch
        shape[ndim - 1] = width

    cdef inline void lay(self, packseq_rows *rows, cnp.ndarray array, int64_t width, int64_t batch,
                         int64_t steps) noexcept:
        rows.base = array.data
        rows.step_stride = width if self.batch_first else batch * width
        rows.row_stride = steps * width if self.batch_first else width

    cdef bint execute(self, packseq_job *job, Pool pool, int32_t threads) noexcept nogil:
        """Cut it, lend it memory, run it; whoever calls has the pool if threads > 1. False: no memory."""
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
            job.workspace = memory + (64 - <size_t> memory % 64)
            job.workspace_stride = size // workers
            task.job = job
            task.run = self.kernels.run_f32 if self.typenum == cnp.NPY_FLOAT else self.kernels.run_f64
            if workers == 1:
                work(&task, 0)
            else:
                pool.run(work, &task, workers)
        free(memory)
        free(bounds)
        return memory != NULL

    cdef int32_t recruit(self, packseq_job *job, int64_t *bounds, Pool pool, int32_t threads) noexcept nogil:
        """Cut it for as many workers as are worth it and can be had, up to `threads`; returns how many."""
        cdef double takes = packseq_cost(job, self.rows_of_a_step(job.steps)) * self.row_microseconds
        cdef int32_t workers = self.share(job, bounds, threads if takes > PACKSEQ_TINY_MICROSECONDS else 1)
        cdef bint there = True
        if workers > 1:
            there = pool.ready(workers) if takes <= PACKSEQ_SMALL_MICROSECONDS else pool.reserve(workers) == workers
        return workers if there else self.share(job, bounds, 1)

    cdef inline int64_t rows_of_a_step(self, int64_t steps) noexcept nogil:
        """At least."""
        return self.least_rows_alone if steps == 1 else self.least_rows

    cdef inline int32_t share(self, packseq_job *job, int64_t *bounds, int32_t threads) noexcept nogil:
        cdef int64_t real_bytes = 4 if self.typenum == cnp.NPY_FLOAT else 8
        return packseq_cut(job, bounds, threads, self.input_width, real_bytes, self.kernels.vector_bytes)

    cdef inline int64_t workspace(self, const packseq_job *job, int32_t workers) noexcept nogil:
        """Of all workers together."""
        cdef int64_t parts = 1 if job.team > 1 else workers
        if self.typenum == cnp.NPY_FLOAT:
            return parts * self.kernels.workspace_f32(job)
        return parts * self.kernels.workspace_f64(job)


cdef void *data(object array) noexcept:
    return NULL if array is None else (<cnp.ndarray> array).data


cdef void view(packseq_rows *rows, cnp.ndarray array, const packseq_job *job, object offsets) noexcept:
    cdef int64_t itemsize = cnp.PyArray_ITEMSIZE(array)
    rows.base = array.data
    if cnp.PyArray_NDIM(array) == 2:
        rows.offsets = <const int64_t *> data(offsets)
        rows.row_stride = cnp.PyArray_STRIDES(array)[0] // itemsize
    else:
        rows.order = job.order
        rows.step_stride = cnp.PyArray_STRIDES(array)[0] // itemsize
        rows.row_stride = cnp.PyArray_STRIDES(array)[1] // itemsize
