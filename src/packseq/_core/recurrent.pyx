"""Bindings of the recurrent kernels: fill in a job, release the GIL, call once. Nothing is checked here."""

cimport cython
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

cimport numpy as cnp

from packseq._core.order cimport count, place_all

import numpy as np

cnp.import_array()

cdef extern from "kernels.h" nogil:
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
        int32_t finite

    ctypedef struct packseq_network:
        int32_t cell
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
        int32_t zero_tails
        const void *h0
        const void *c0
        void *hn
        void *cn
        int64_t n_shards
        const int64_t *bounds
        int32_t backwards
        int64_t block_rows
        int64_t shard_rows
        int64_t shard_steps
        int32_t team
        char *workspace
        int64_t workspace_stride
        packseq_barrier *barriers
        int64_t next

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
    const int64_t PACKSEQ_SMALL_FLOPS

cdef extern from "pool.h" nogil:
    ctypedef void (*packseq_work)(void *argument, int32_t worker) noexcept
    void *packseq_pool_new() noexcept
    int32_t packseq_pool_reserve(void *pool, int32_t workers) noexcept
    void packseq_pool_run(void *pool, packseq_work work, void *argument, int32_t workers) noexcept

cdef extern from *:
    const char *COMPILER "__VERSION__"
    const long CYTHON_HEX_VERSION

# What this module was built with.
BUILD = {
    "cython": f"{CYTHON_HEX_VERSION >> 24}.{CYTHON_HEX_VERSION >> 16 & 255}.{CYTHON_HEX_VERSION >> 8 & 255}",
    "compiler": (<bytes> COMPILER).decode(),
}

# The order of kernels.h's packseq_cell.
CELLS = ("lstm", "gru", "gru_reset_before", "rnn_tanh", "rnn_relu")

# Streaming calls take what they need from malloc; larger ones go through Call and its kept workspace.
cdef enum:
    STREAM_BYTES = 1 << 20
    STREAM_ROWS = 48
    STREAM_STEPS = 1024


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
        """Apply "sigmoid" or "tanh" to a contiguous float array of whole vectors."""
        cdef cnp.ndarray y = np.empty_like(x)
        cdef int which = ("sigmoid", "tanh").index(activation)
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


cdef struct SmallPlan:
    int64_t lengths[STREAM_ROWS]
    int64_t order[STREAM_ROWS]
    int64_t inverse[STREAM_ROWS]
    int64_t batch_sizes[STREAM_STEPS]
    int64_t place[STREAM_STEPS + 1]


cdef bint plan_small(SmallPlan *plan, object lengths, int64_t batch, int64_t steps):
    """Plan lengths given as a list of int or an int64 array, the longest of them `steps`, or give up."""
    cdef int64_t b, longest = 0
    cdef bint listed = type(lengths) is list
    if steps > STREAM_STEPS:
        return False
    if listed:
        if len(<list> lengths) != batch:
            return False
    elif (type(lengths) is not cnp.ndarray
            or cnp.PyArray_TYPE(<cnp.ndarray> lengths) != cnp.NPY_INT64
            or cnp.PyArray_NDIM(<cnp.ndarray> lengths) != 1
            or cnp.PyArray_DIMS(<cnp.ndarray> lengths)[0] != batch
            or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray> lengths)):
        return False
    for b in range(batch):
        if not listed:
            plan.lengths[b] = (<int64_t *> (<cnp.ndarray> lengths).data)[b]
        elif type((<list> lengths)[b]) is int and 0 <= (<list> lengths)[b] <= steps:
            plan.lengths[b] = (<list> lengths)[b]
        else:
            return False
        if not 0 <= plan.lengths[b] <= steps:
            return False
        longest = max(longest, plan.lengths[b])
    if longest < steps:
        return False
    count(plan.lengths, batch, steps, plan.place, plan.batch_sizes)
    place_all(plan.lengths, batch, plan.place, plan.order, plan.inverse)
    return True


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

    directions is a list [L * D] of (ih, hh, second or None, bias, finite), each matrix a pair
    (panels, column) with its panels per block in `per_block`; see kernels.h for their order.
    """

    cdef packseq_network net
    cdef packseq_direction *table
    cdef const packseq_kernels *kernels
    cdef object keep
    cdef object dtype
    cdef int typenum
    cdef int64_t input_width
    cdef double step_flops
    cdef bint batch_first
    cdef int32_t backwards  # flips at each small call; what a race leaves here is as good

    def __cinit__(self, Kernels kernels, str cell, int64_t hidden, int64_t state, int n_directions,
                  list directions, tuple per_block, bint batch_first):
        cdef cnp.ndarray bias
        cdef int i
        self.table = <packseq_direction *> PyMem_Calloc(len(directions), sizeof(packseq_direction))
        if self.table == NULL:
            raise MemoryError
        self.keep = directions
        self.kernels = kernels.table
        self.batch_first = batch_first
        self.net.cell = CELLS.index(cell)
        self.net.n_layers = len(directions) // n_directions
        self.net.n_directions = n_directions
        self.net.hidden = hidden
        self.net.state = state
        self.net.directions = self.table
        self.step_flops = 0
        for i, (ih, hh, second, bias, finite) in enumerate(directions):
            self.table[i].ih = matrix_of(ih, per_block[0])
            self.table[i].hh = matrix_of(hh, per_block[1])
            if second is not None:
                self.table[i].second = matrix_of(second, per_block[2])
            self.table[i].bias = bias.data
            self.table[i].finite = finite
            self.step_flops += 2.0 * sum(matrix[0].size for matrix in (ih, hh, second) if matrix)
        self.input_width = self.table[0].ih.k
        self.dtype = directions[0][0][0].dtype
        self.typenum = self.dtype.num

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

    def stream(self, object x, object hx, object lengths=None):
        """Run a small, plain call at once, or return None for the general path to take it.

        x is (T, I), (T, B, I) or (B, T, I); hx is None, h or (h, c). What is accepted here is
        complete as it stands; all else, errors included, is the general path's.
        """
        cdef SmallPlan plan
        cdef bint lstm = self.net.cell == 0
        cdef cnp.ndarray array
        cdef int ndim
        cdef packseq_job job
        cdef int64_t bounds[2]
        cdef packseq_barrier unused
        cdef cnp.npy_intp out_shape[3]
        cdef cnp.npy_intp h_shape[3]
        cdef cnp.npy_intp c_shape[3]
        cdef int64_t batch, steps, bytes
        cdef object h0 = hx, c0 = None
        cdef char *memory

        if type(x) is not cnp.ndarray:
            return None
        array = x
        ndim = cnp.PyArray_NDIM(array)
        if ndim != 2 and ndim != 3 or not self.plain(x, ndim):
            return None
        if cnp.PyArray_DIMS(array)[ndim - 1] != self.input_width:
            return None
        if ndim == 2:
            steps, batch = cnp.PyArray_DIMS(array)[0], 1
        elif self.batch_first:
            batch, steps = cnp.PyArray_DIMS(array)[0], cnp.PyArray_DIMS(array)[1]
        else:
            steps, batch = cnp.PyArray_DIMS(array)[0], cnp.PyArray_DIMS(array)[1]
        if not 0 < batch <= STREAM_ROWS or steps == 0:
            return None
        if <double> steps * <double> batch * self.step_flops > PACKSEQ_SMALL_FLOPS:
            return None
        if lengths is not None and (ndim == 2 or not plan_small(&plan, lengths, batch, steps)):
            return None

        cdef cnp.npy_intp slots = self.net.n_layers * self.net.n_directions
        h_shape[0] = c_shape[0] = slots
        h_shape[1] = c_shape[1] = batch
        h_shape[ndim - 1] = self.net.state
        c_shape[ndim - 1] = self.net.hidden
        if hx is not None:
            if lstm:
                if type(hx) is not tuple or len(<tuple> hx) != 2:
                    return None
                h0, c0 = <tuple> hx
                if not self.is_state(c0, c_shape, ndim):
                    return None
            if not self.is_state(h0, h_shape, ndim):
                return None

        out_shape[0] = cnp.PyArray_DIMS(array)[0]
        out_shape[1] = cnp.PyArray_DIMS(array)[1]
        out_shape[ndim - 1] = self.net.n_directions * self.net.state
        cdef cnp.ndarray output = cnp.PyArray_EMPTY(ndim, out_shape, self.typenum, 0)
        cdef cnp.ndarray hn = cnp.PyArray_EMPTY(ndim, h_shape, self.typenum, 0)
        cdef cnp.ndarray cn = hn
        if lstm:
            cn = cnp.PyArray_EMPTY(ndim, c_shape, self.typenum, 0)

        job.network = &self.net
        job.batch = batch
        job.steps = steps
        job.batch_sizes = job.order = NULL
        job.input.base = array.data
        job.output.base = output.data
        job.input.offsets = job.input.order = job.output.offsets = job.output.order = NULL
        if ndim == 3 and self.batch_first:
            job.input.step_stride = self.input_width
            job.input.row_stride = steps * self.input_width
            job.output.step_stride = out_shape[2]
            job.output.row_stride = steps * out_shape[2]
        else:
            job.input.step_stride = batch * self.input_width
            job.input.row_stride = self.input_width
            job.output.step_stride = batch * out_shape[ndim - 1]
            job.output.row_stride = out_shape[ndim - 1]
        job.zero_tails = lengths is not None
        if lengths is not None:
            job.batch_sizes = plan.batch_sizes
            job.order = job.input.order = job.output.order = plan.order
        job.h0 = NULL if hx is None else (<cnp.ndarray> h0).data
        job.c0 = NULL if hx is None or not lstm else (<cnp.ndarray> c0).data
        job.hn = hn.data
        job.cn = cn.data
        bounds[0], bounds[1] = 0, batch
        job.n_shards = 1
        job.bounds = bounds
        job.backwards = self.backwards
        self.backwards = not self.backwards
        job.shard_rows = batch
        job.block_rows = max(batch, min(steps * batch, STREAM_ROWS))
        job.shard_steps = steps * batch if self.net.n_layers > 1 else 0
        job.team = 1
        job.barriers = &unused
        job.next = 0
        with nogil:
            bytes = self.workspace(&job)
            memory = <char *> malloc(bytes + 64) if bytes <= STREAM_BYTES else NULL
            if memory != NULL:
                job.workspace = memory + (64 - <size_t> memory % 64)
                self.run(&job, 0)
                free(memory)
        if memory == NULL:
            return None
        return output, ((hn, cn) if lstm else hn)

    cdef inline int64_t workspace(self, const packseq_job *job) noexcept nogil:
        if self.typenum == cnp.NPY_FLOAT:
            return self.kernels.workspace_f32(job)
        return self.kernels.workspace_f64(job)

    cdef inline void run(self, packseq_job *job, int32_t worker) noexcept nogil:
        if self.typenum == cnp.NPY_FLOAT:
            self.kernels.run_f32(job, worker)
        else:
            self.kernels.run_f64(job, worker)


cdef const int64_t *indices(object array) noexcept:
    return NULL if array is None else <const int64_t *> (<cnp.ndarray> array).data


cdef void *data(object array) noexcept:
    return NULL if array is None else (<cnp.ndarray> array).data


cdef struct Task:
    packseq_job *job
    void (*run)(packseq_job *, int32_t) noexcept nogil


cdef void work(void *argument, int32_t worker) noexcept nogil:
    (<Task *> argument).run((<Task *> argument).job, worker)


@cython.final
cdef class Pool:
    """Native threads that wait for calls, one call at a time. They live as long as the process."""

    cdef void *handle

    def __cinit__(self):
        self.handle = packseq_pool_new()
        if self.handle == NULL:
            raise MemoryError

    def reserve(self, int workers):
        """Start threads for so many workers, the caller included; return how many there can be."""
        cdef int have
        with nogil:
            have = packseq_pool_reserve(self.handle, workers)
        return have


@cython.final
cdef class Call:
    """One call of a network, cut up for `threads`: run() where workers is 1, else run_on(pool).

    x and out are packed (N, width) with `offsets`, or time-major (T, B, width) in the caller's order
    with a contiguous last axis; batch_sizes, offsets and order are a Plan's, or None.
    """

    cdef packseq_job job
    cdef packseq_barrier barriers[3]
    cdef Network network
    cdef object keep
    cdef readonly int workers
    cdef readonly int64_t workspace_bytes

    def __cinit__(self, Network network, cnp.ndarray x, cnp.ndarray out, int64_t batch, int64_t steps,
                  object batch_sizes, object offsets, object order, object hx, object hn, int threads,
                  bint zero_tails):
        cdef cnp.ndarray bounds = np.empty(batch + 1, np.int64)
        cdef packseq_job *job = &self.job
        self.network = network
        h0, c0 = hx
        h_n, c_n = hn
        self.keep = (x, out, batch_sizes, offsets, order, h0, c0, h_n, c_n, bounds)
        job.network = &network.net
        job.batch = batch
        job.steps = steps
        job.batch_sizes = indices(batch_sizes)
        job.order = indices(order)
        self.view(&job.input, x, indices(offsets))
        self.view(&job.output, out, indices(offsets))
        job.zero_tails = zero_tails
        job.h0, job.c0, job.hn, job.cn = data(h0), data(c0), data(h_n), data(c_n)
        job.barriers = self.barriers
        job.next = 0
        self.workers = packseq_cut(job, <int64_t *> bounds.data, threads, network.input_width,
                                   network.dtype.itemsize, network.kernels.vector_bytes)
        self.workspace_bytes = network.workspace(job) * (1 if job.team > 1 else self.workers)

    cdef void view(self, packseq_rows *rows, cnp.ndarray array, const int64_t *offsets) noexcept:
        cdef int64_t itemsize = array.dtype.itemsize
        rows.base = array.data
        if array.ndim == 2:
            rows.offsets = offsets
            rows.row_stride = array.strides[0] // itemsize
        else:
            rows.order = self.job.order
            rows.step_stride = array.strides[0] // itemsize
            rows.row_stride = array.strides[1] // itemsize

    def use(self, cnp.ndarray workspace):
        """Give it at least workspace_bytes + 64 bytes, for the time of the call."""
        cdef char *memory = workspace.data
        self.keep += (workspace,)
        self.job.workspace = memory + (64 - <size_t> memory % 64)
        self.job.workspace_stride = self.workspace_bytes // self.workers

    def run(self):
        """Run it on the calling thread; its workers must be 1."""
        with nogil:
            self.network.run(&self.job, 0)

    def run_on(self, Pool pool):
        """Run it on the calling thread and those of `pool`, which has reserved them."""
        cdef Task task
        task.job = &self.job
        task.run = self.network.kernels.run_f64
        if self.network.typenum == cnp.NPY_FLOAT:
            task.run = self.network.kernels.run_f32
        with nogil:
            packseq_pool_run(pool.handle, work, &task, self.workers)

    @property
    def cut(self):
        """How it is cut: (shards, members of a team)."""
        return self.job.n_shards, self.job.team
