"""The recurrent cells on BLAS: the engine of machines that no kernels were written for, in portable code.

Here is the whole of a call: shards, layers, directions, steps, gates. docs/kernels.md draws the same for the
kernels, which are faster, and whose results do not depend on the batch; a BLAS adds up in another order for another
number of rows. All products are made by the calling thread; BLAS may have threads of its own.

Row-major arrays, m of the sequences alive, longest first:

    x, h       [m][I], [m][R]    rows: what is multiplied
    gates      [G H][m]          units: what the products give, so that each gate of all rows is one run of numbers
    cell       [H][ld]           units too: c, or a GRU's h, of all sequences of the shard
    projected  [G H][rows]       W_ih x of a block of steps

The gates of a step, each [H][m]:

    LSTM  i f g o       GRU  n r z m (m: the recurrent part of n)       GRU, reset before  r z n       RNN  h
"""

cimport cython
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.limits cimport INT_MAX
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport numpy as cnp

from packseq._core.cells cimport Direction, Net, Walk, step_cell, turn
from packseq._core.gemm cimport Library, multiply, real
from packseq._core.pool cimport Pool
from packseq._core.recurrent cimport data, packseq_job, packseq_rows, view

import numpy as np

from packseq._core import gemm, recurrent

cnp.import_array()

cdef extern from "sizes.h" nogil:
    int64_t alive_at(const packseq_job *job, int64_t t, int64_t first, int64_t width) noexcept
    int64_t length_of(const packseq_job *job, int64_t r) noexcept

cdef extern from "mode.h" nogil:
    uint64_t enter_kernel_mode() noexcept
    void leave_kernel_mode(uint64_t mode) noexcept

# Gates of so many bytes are projected at a time.
cdef int64_t BLOCK_BYTES = 1 << 20
# What a shard may take for gates and states, and for what goes from layer to layer; one sequence may need more.
cdef int64_t ROWS_BYTES = 24 << 20
cdef int64_t SPILL_BYTES = 32 << 20


# ---- time ----


cdef inline int64_t caller(const packseq_job *job, int64_t r) noexcept nogil:
    """Where the caller has sorted sequence r."""
    return r if job.order == NULL else job.order[r]


cdef inline int64_t place(const packseq_rows *rows, int64_t t, int64_t r) noexcept nogil:
    """Where row (t, r) begins, from rows.base on."""
    cdef int64_t step = t * rows.step_stride if rows.offsets == NULL else rows.offsets[t] * rows.row_stride
    return step + (r if rows.order == NULL else rows.order[r]) * rows.row_stride


cdef void begin(Walk *w, real *h, real *cell) noexcept nogil:
    """First states of the shard, in packed order."""
    cdef int64_t R = w.net.state, H = w.net.hidden, r, at
    cdef const real *h0 = <const real *> w.job.h0
    cdef const real *kept = <const real *> w.job.c0 if w.net.has_c else h0
    cdef real *rows = <real *> w.rows
    w.begun = w.width if h0 != NULL or not w.weights.finite else 0
    memset(h, 0, w.width * R * sizeof(real))
    memset(rows, 0, w.width * H * sizeof(real))
    for r in range(w.width):
        at = w.index * w.job.batch + caller(w.job, w.first + r)
        if h0 != NULL:
            memcpy(h + r * R, h0 + at * R, R * sizeof(real))
        if kept != NULL:
            memcpy(rows + r * H, kept + at * H, H * sizeof(real))
    turn(rows, H, cell, w.width, w.width, H)


cdef void finish(const Walk *w, const real *h, const real *cell) noexcept nogil:
    """Last states of the shard, in the caller's order."""
    cdef int64_t R = w.net.state, H = w.net.hidden, r, at
    cdef real *rows = <real *> w.rows
    turn(cell, w.width, rows, H, H, w.width)
    for r in range(w.width):
        at = w.index * w.job.batch + caller(w.job, w.first + r)
        memcpy(<real *> w.job.hn + at * R, h + r * R, R * sizeof(real))
        if w.net.has_c:
            memcpy(<real *> w.job.cn + at * H, rows + r * H, H * sizeof(real))


cdef bint are_adjacent(const Walk *w, int64_t low, int64_t high) noexcept nogil:
    """Whether a product can read the input rows of these steps as they lie."""
    cdef const packseq_rows *x = &w.input
    cdef int64_t t, m
    if x.order != NULL or not w.input_width <= x.row_stride <= <int64_t> INT_MAX:
        return False
    for t in range(low, high - 1):
        m = alive_at(w.job, t, w.first, w.width)
        if place(x, t + 1, w.first) - place(x, t, w.first) != m * x.row_stride:
            return False
    return True


cdef void collect(const Walk *w, int64_t low, int64_t high, real *x) noexcept nogil:
    """x = the input rows of these steps."""
    cdef int64_t t, r
    cdef const real *base = <const real *> w.input.base
    for t in range(low, high):
        for r in range(alive_at(w.job, t, w.first, w.width)):
            memcpy(x, base + place(&w.input, t, w.first + r), w.input_width * sizeof(real))
            x += w.input_width


cdef void project(const Walk *w, int64_t low, int64_t high, int64_t rows, real *projected) noexcept nogil:
    """projected [.. H][rows] = W_ih x of these steps."""
    cdef const real *x = <const real *> w.input.base + place(&w.input, low, w.first)
    cdef int64_t stride = w.input.row_stride
    if not are_adjacent(w, low, high):
        collect(w, low, high, <real *> w.x)
        x, stride = <const real *> w.x, w.input_width
    multiply(&w.net.blas, <const real *> w.weights.ih, w.net.from_input, w.input_width, x, stride, rows, <real> 0,
             projected, rows)


cdef void step(Walk *w, int64_t t, int64_t m, const real *projected, int64_t stride) noexcept nogil:
    """The m rows of a step, whose part of what was projected begins there."""
    cdef const Net *net = w.net
    cdef int64_t R = net.state, known = min(m, w.begun), j, r
    cdef const real *bias = <const real *> w.weights.bias
    cdef real *gates = <real *> w.gates
    cdef real *h = <real *> w.h
    cdef real *rows = <real *> w.rows
    cdef real *output = <real *> w.output.base
    cdef real *new
    for j in range(net.from_input):
        for r in range(m):
            gates[j * m + r] = bias[j] + projected[j * stride + r]
    for j in range(net.from_input, net.gates):
        for r in range(m):
            gates[j * m + r] = bias[j]
    if known:
        multiply(&net.blas, <const real *> w.weights.hh, net.from_state, R, h, R, known, <real> 1,
                 gates + net.recurrent * m, m)
    new = step_cell(w, gates, m)
    if R < net.hidden:
        turn(new, m, rows, net.hidden, net.hidden, m)
        multiply(&net.blas, <const real *> w.weights.late, R, net.hidden, rows, net.hidden, m, <real> 0, gates, m)
        new = gates
    turn(new, m, h, R, R, m)
    for r in range(m):
        memcpy(output + place(&w.output, t, w.first + r), h + r * R, R * sizeof(real))
    w.begun = max(w.begun, m)


cdef int64_t count_steps(const Walk *w, int64_t done, int64_t *rows) noexcept nogil:
    """As many whole steps as a block of projected rows holds, after so many others; and their rows."""
    cdef int64_t count = 0, t, m
    rows[0] = 0
    while done + count < w.steps:
        t = w.steps - 1 - done - count if w.reverse else done + count
        m = alive_at(w.job, t, w.first, w.width)
        if rows[0] + m > w.block_rows:
            break
        rows[0] += m
        count += 1
    return count


cdef void walk(Walk *w, real *projected) noexcept nogil:
    """From the first step to the last, by blocks of projected rows; in reverse, from the last to the first."""
    cdef int64_t done = 0, count, rows, low, at, t, i, m
    begin(w, <real *> w.h, <real *> w.cell)
    while done < w.steps:
        count = count_steps(w, done, &rows)
        low = w.steps - done - count if w.reverse else done
        project(w, low, low + count, rows, projected)
        at = rows if w.reverse else 0
        for i in range(count):
            t = low + count - 1 - i if w.reverse else low + i
            m = alive_at(w.job, t, w.first, w.width)
            at -= m if w.reverse else 0
            step(w, t, m, projected + at, rows)
            at += 0 if w.reverse else m
        done += count
    finish(w, <real *> w.h, <real *> w.cell)


# ---- a call: shards, layers, directions ----


cdef struct Cut:
    int64_t shards
    const int64_t *bounds  # [shards + 1]: shard s is sequences bounds[s] .. bounds[s + 1]
    int64_t width, rows    # of the widest shard, and of all steps of the fullest where there are layers between
    int64_t block_rows     # projected at a time; at least the width
    int64_t numbers        # that a shard needs room for


cdef void cut_up(const Net *net, const packseq_job *job, int64_t *bounds, Cut *made) noexcept nogil:
    """Runs of sequences, as long as what they need is bounded. A single one may need more."""
    cdef int64_t input = max(net.input, net.n_directions * net.state if net.n_layers > 1 else 0)
    cdef int64_t of_sequence = net.gates + 3 * net.hidden + net.state, of_row = net.gates + input
    cdef int64_t most = max(<int64_t> 1, ROWS_BYTES // net.real_bytes // (of_sequence + of_row))
    cdef int64_t spilt = net.n_directions * net.state if net.n_layers > 1 else 0
    cdef int64_t most_rows = SPILL_BYTES // net.real_bytes // spilt if spilt else INT64_MAX
    cdef int64_t first = 0, last, rows
    memset(made, 0, sizeof(Cut))
    while first < job.batch:
        rows, last = length_of(job, first), first + 1
        while last < job.batch and last - first < most and rows + length_of(job, last) <= most_rows:
            rows += length_of(job, last)
            last += 1
        bounds[made.shards] = first
        made.shards += 1
        made.width, made.rows = max(made.width, last - first), max(made.rows, rows)
        first = last
    bounds[made.shards] = job.batch
    made.bounds = bounds
    made.block_rows = max(made.width, min(most, BLOCK_BYTES // net.real_bytes // net.gates))
    made.block_rows = max(made.width, min(made.block_rows, made.rows))
    made.numbers = made.width * of_sequence + made.block_rows * of_row + (made.rows * spilt if spilt else 0)


cdef inline int64_t count_offsets(const Net *net, const packseq_job *job) noexcept nogil:
    """Where the steps begin of what goes from layer to layer."""
    return job.steps if net.n_layers > 1 else 0


cdef inline real *take(real **memory, int64_t count) noexcept nogil:
    """The next so many numbers of it."""
    cdef real *taken = memory[0]
    memory[0] += count
    return taken


cdef void run_shard(const Net *net, const packseq_job *job, const Cut *made, int64_t shard, real *memory,
                    int64_t *spill_offsets) noexcept nogil:
    """All layers and directions of its sequences."""
    cdef Walk w
    cdef packseq_rows spill, both
    cdef real *projected
    cdef int64_t row = net.n_directions * net.state, at = 0, m
    cdef int32_t layer, d
    memset(&w, 0, sizeof(Walk))
    memset(&spill, 0, sizeof(packseq_rows))
    w.net, w.job, w.block_rows = net, job, made.block_rows
    w.first = made.bounds[shard]
    w.width = made.bounds[shard + 1] - w.first
    w.gates, w.hidden = take(&memory, made.width * net.gates), take(&memory, made.width * net.hidden)
    w.rows, w.cell = take(&memory, made.width * net.hidden), take(&memory, made.width * net.hidden)
    w.h = take(&memory, made.width * net.state)
    projected = take(&memory, made.block_rows * net.gates)
    w.x = take(&memory, made.block_rows * max(net.input, row if net.n_layers > 1 else 0))
    # The layers between are packed by the shard's own steps.
    spill.base, spill.offsets, spill.row_stride = memory, spill_offsets, row
    while w.steps < job.steps:
        m = alive_at(job, w.steps, w.first, w.width)
        if m == 0:
            break
        if net.n_layers > 1:
            spill_offsets[w.steps] = at - w.first
        at += m
        w.steps += 1
    w.output, w.input_width = job.input, net.input
    for layer in range(net.n_layers):
        w.input = w.output
        both = spill if (net.n_layers - 1 - layer) % 2 else job.output
        w.output = both
        for d in range(net.n_directions):
            w.index = layer * net.n_directions + d
            w.weights = &net.directions[w.index]
            w.reverse = d == 1
            w.output.base = <real *> both.base + d * net.state
            walk(&w, projected)
        w.output, w.input_width = both, row


cdef void clear_padding(const packseq_job *job, int64_t row, real *output) noexcept nogil:
    """Rows past each end, [row] numbers, become 0."""
    cdef int64_t t, r
    for t in range(job.padded_steps):
        for r in range(alive_at(job, t, 0, job.batch) if t < job.steps else 0, job.batch):
            memset(output + place(&job.output, t, r), 0, row * sizeof(real))


cdef bint run(const Net *net, const packseq_job *job, real *output) noexcept nogil:
    """Lend a call memory and run it. False: no memory."""
    cdef Cut made
    cdef int64_t shard
    cdef uint64_t mode
    cdef real *memory = NULL
    cdef int64_t *numbers = <int64_t *> malloc((job.batch + 1 + count_offsets(net, job)) * sizeof(int64_t))
    if numbers != NULL:
        cut_up(net, job, numbers, &made)
        memory = <real *> malloc(made.numbers * sizeof(real))
    if memory != NULL:
        mode = enter_kernel_mode()
        clear_padding(job, net.n_directions * net.state, output)
        for shard in range(made.shards):
            run_shard(net, job, &made, shard, memory, numbers + job.batch + 1)
        leave_kernel_mode(mode)
    free(memory)
    free(numbers)
    return memory != NULL


@cython.final
cdef class Network:
    """A module's weights as BLAS reads them. Read-only once made, so threads share it.

    cell and gate_activation are of CELLS and GATE_ACTIVATIONS of recurrent.pyx. directions is a list [L * D] of
    (ih, hh, late or None, bias, peephole or None, finite), all C-contiguous and in the orders that Direction says.
    """

    cdef Net net
    cdef Direction *table
    cdef object keep
    cdef int typenum

    def __cinit__(self, Library library, str cell, str gate_activation, int64_t hidden, int64_t state,
                  int n_directions, list directions):
        cdef int i
        self.table = <Direction *> PyMem_Calloc(len(directions), sizeof(Direction))
        if self.table == NULL:
            raise MemoryError
        self.keep = library, directions
        for i, (ih, hh, late, bias, peephole, finite) in enumerate(directions):
            check(ih)
            check(hh)
            self.table[i].ih, self.table[i].hh, self.table[i].late = data(ih), data(hh), data(late)
            self.table[i].bias, self.table[i].peephole = data(bias), data(peephole)
            self.table[i].finite = finite
        ih, hh, late, bias, *_ = directions[0]
        self.typenum = ih.dtype.num
        self.net.blas = library.routines
        self.net.cell = recurrent.CELLS.index(cell)
        self.net.activation = recurrent.GATE_ACTIVATIONS.index(gate_activation)
        self.net.n_layers, self.net.n_directions = len(directions) // n_directions, n_directions
        self.net.real_bytes = ih.dtype.itemsize
        self.net.input, self.net.hidden, self.net.state = ih.shape[1], hidden, state
        self.net.gates, self.net.from_input, self.net.from_state = len(bias), len(ih), len(hh)
        self.net.recurrent = hidden if cell == "gru" else 0
        self.net.has_c = cell.startswith("lstm")
        self.net.directions = self.table

    def __dealloc__(self):
        PyMem_Free(self.table)

    def forward(self, cnp.ndarray x, cnp.ndarray out, int64_t batch, int64_t steps, object batch_sizes,
                object offsets, object order, tuple hx, tuple hn, Pool pool, int32_t threads,
                int64_t padded_steps):
        """As the kernels' Network has it, but that BLAS uses threads of its own, or none."""
        cdef packseq_job job
        cdef bint done
        self.begin(&job, batch, steps, batch_sizes)
        job.order = <const int64_t *> data(order)
        view(&job.input, x, &job, offsets)
        view(&job.output, out, &job, offsets)
        job.padded_steps = padded_steps
        job.h0, job.c0, job.hn, job.cn = data(hx[0]), data(hx[1]), data(hn[0]), data(hn[1])
        with nogil:
            if self.typenum == cnp.NPY_FLOAT:
                done = run(&self.net, &job, <float *> job.output.base)
            else:
                done = run(&self.net, &job, <double *> job.output.base)
        if not done:
            raise MemoryError("no memory for what a call needs beside its results")

    def cut(self, int64_t batch, int64_t steps, object batch_sizes, int32_t threads):
        """How a call would be cut, as the kernels' Network has it."""
        cdef cnp.ndarray bounds = np.empty(batch + 1, np.int64)
        cdef packseq_job job
        cdef Cut made
        self.begin(&job, batch, steps, batch_sizes)
        cut_up(&self.net, &job, <int64_t *> bounds.data, &made)
        cdef int64_t offset_bytes = count_offsets(&self.net, &job) * sizeof(int64_t)
        return made.shards, 1, 1, 1, made.numbers * self.net.real_bytes + offset_bytes

    cdef void begin(self, packseq_job *job, int64_t batch, int64_t steps, object batch_sizes) noexcept:
        memset(job, 0, sizeof(packseq_job))
        job.batch, job.steps = batch, steps
        job.batch_sizes = <const int64_t *> data(batch_sizes)


cdef check(cnp.ndarray weights):
    """
    Raises
    ------
    ValueError
        BLAS cannot count its rows or columns.
    """
    if max(weights.shape[0], weights.shape[1]) > gemm.MOST_INT:
        raise ValueError(
            f"a weight of shape {weights.shape[0], weights.shape[1]} is too large for BLAS, whose sizes are at most "
            f"{gemm.MOST_INT}"
        )
