"""One step of each cell on BLAS: the gates of m sequences become h, [H][m], and what the cell keeps is renewed.

blas.pyx says how the arrays lie. Gates go through loops of one array each, in squash.h, and meet in loops of a few
arrays here; a compiler makes vectors of both.
"""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from packseq._core.gemm cimport Routines, multiply, real
from packseq._core.recurrent cimport packseq_job, packseq_rows

cdef extern from "kernels.h" nogil:
    enum:
        PACKSEQ_LSTM
        PACKSEQ_LSTM_PEEPHOLE
        PACKSEQ_GRU
        PACKSEQ_GRU_RESET_BEFORE
        PACKSEQ_RNN_TANH
        PACKSEQ_TANH

cdef extern from "squash.h" nogil:
    void squash_f32(int activation, float *x, int64_t n) noexcept
    void squash_f64(int activation, double *x, int64_t n) noexcept

cdef struct Direction:
    const void *ih        # [G H][I], a GRU's gates n r z
    const void *hh        # [.. H][R]: all gates' but n's of a GRU that resets before
    const void *late      # [R][H], by which h is projected; or [H][H], n's of a GRU that resets before; or NULL
    const void *bias      # [G H], of all gates
    const void *peephole  # [3 H], by which c reaches i, f and o; or NULL
    bint finite           # whether 0 times any of hh is 0: then a missing h0 is not multiplied

cdef struct Net:
    Routines blas
    int32_t cell, activation
    int32_t n_layers, n_directions
    int64_t real_bytes, input, hidden, state
    int64_t gates          # columns of a step: G H
    int64_t from_input     # the first so many of them get W_ih x,
    int64_t recurrent      # and from this one on
    int64_t from_state     # so many W_hh h
    bint has_c
    const Direction *directions  # [L][D]

# One direction of one layer of a shard, on its way through time.
cdef struct Walk:
    const Net *net
    const packseq_job *job
    const Direction *weights
    int64_t first, width    # the shard's sequences,
    int64_t steps           # and the steps of the longest
    int64_t index           # of the direction, among all: l D + d
    bint reverse
    packseq_rows input, output
    int64_t input_width
    int64_t begun           # sequences whose h is no missing h0
    int64_t block_rows
    # Memory of the shard's:
    void *x                 # [block_rows][I or D R]
    void *gates             # [G H][width]
    void *hidden            # [H][width]: the new h, before it is projected
    void *rows              # [width][H]: what a late product multiplies
    void *h                 # [width][R]
    void *cell              # [H][width]


cdef inline void squash(int activation, real *x, int64_t n) noexcept nogil:
    if real is float:
        squash_f32(activation, x, n)
    else:
        squash_f64(activation, x, n)


cdef inline void turn(const real *x, int64_t x_stride, real *y, int64_t y_stride, int64_t rows,
                      int64_t columns) noexcept nogil:
    """y [columns][rows] = x [rows][columns]^T"""
    cdef int64_t start, stop, i, j
    for start in range(0, rows, 16):  # a line of the cache of y's
        stop = min(start + 16, rows)
        for j in range(columns):
            for i in range(start, stop):
                y[j * y_stride + i] = x[i * x_stride + j]


cdef inline void add_peephole(const real *p, const real *cell, int64_t ld, real *gate, int64_t units,
                              int64_t m) noexcept nogil:
    """gate += p c"""
    cdef int64_t u, r
    for u in range(units):
        for r in range(m):
            gate[u * m + r] += p[u] * cell[u * ld + r]


cdef inline void remember(const real *i, const real *f, const real *g, real *cell, int64_t n) noexcept nogil:
    """c = i g + f c"""
    cdef int64_t j
    for j in range(n):
        cell[j] = i[j] * g[j] + f[j] * cell[j]


cdef inline void scale(const real *by, real *x, int64_t n) noexcept nogil:
    """x = by x"""
    cdef int64_t j
    for j in range(n):
        x[j] *= by[j]


cdef inline void add_scaled(const real *by, const real *x, real *y, int64_t n) noexcept nogil:
    """y += by x"""
    cdef int64_t j
    for j in range(n):
        y[j] += by[j] * x[j]


cdef inline void mix(const real *n, const real *z, real *h, int64_t size) noexcept nogil:
    """h = n + z (h - n)"""
    cdef int64_t j
    for j in range(size):
        h[j] = n[j] + z[j] * (h[j] - n[j])


cdef inline real *lstm(const Walk *w, real *gates, int64_t m) noexcept nogil:
    """i, f, o = s(.), g = tanh(.);  c' = i g + f c;  h' = o tanh(c')

    With peepholes: i = s(. + p_i c), f = s(. + p_f c), o = s(. + p_o c').
    """
    cdef int64_t H = w.net.hidden, n = H * m, ld = w.width, u
    cdef real *i = gates
    cdef real *f = gates + n
    cdef real *g = gates + 2 * n
    cdef real *o = gates + 3 * n
    cdef real *c = <real *> w.cell
    cdef real *h = <real *> w.hidden
    cdef const real *p = <const real *> w.weights.peephole
    if p != NULL:
        add_peephole(p, c, ld, i, H, m)
        add_peephole(p + H, c, ld, f, H, m)
    squash(w.net.activation, i, 2 * n)
    squash(PACKSEQ_TANH, g, n)
    for u in range(H):
        remember(i + u * m, f + u * m, g + u * m, c + u * ld, m)
        memcpy(h + u * m, c + u * ld, m * sizeof(real))
    if p != NULL:
        add_peephole(p + 2 * H, c, ld, o, H, m)
    squash(w.net.activation, o, n)
    squash(PACKSEQ_TANH, h, n)
    scale(o, h, n)
    return h


cdef inline real *end_gru(const Walk *w, real *n, const real *z, int64_t m) noexcept nogil:
    cdef int64_t H = w.net.hidden, u
    cdef real *h = <real *> w.hidden
    cdef real *kept = <real *> w.cell
    squash(PACKSEQ_TANH, n, H * m)
    for u in range(H):
        mix(n + u * m, z + u * m, kept + u * w.width, m)
        memcpy(h + u * m, kept + u * w.width, m * sizeof(real))
    return h


cdef inline real *gru(const Walk *w, real *gates, int64_t m) noexcept nogil:
    """r, z = s(.);  n = tanh(. + r m);  h' = n + z (h - n)"""
    cdef int64_t size = w.net.hidden * m
    cdef real *n = gates
    cdef real *r = gates + size
    cdef real *z = gates + 2 * size
    squash(w.net.activation, r, 2 * size)
    add_scaled(r, gates + 3 * size, n, size)
    return end_gru(w, n, z, m)


cdef inline real *gru_reset_before(const Walk *w, real *gates, int64_t m) noexcept nogil:
    """r, z = s(.);  n = tanh(. + U_n (r h));  h' = n + z (h - n)"""
    cdef int64_t H = w.net.hidden, size = H * m, u
    cdef real *r = gates
    cdef real *z = gates + size
    cdef real *n = gates + 2 * size
    cdef real *rows = <real *> w.rows
    squash(w.net.activation, r, 2 * size)
    for u in range(H):
        scale(<real *> w.cell + u * w.width, r + u * m, m)
    turn(r, m, rows, H, H, m)
    multiply(&w.net.blas, <const real *> w.weights.late, H, H, rows, H, m, <real> 1, n, m)
    return end_gru(w, n, z, m)


cdef inline real *rnn(const Walk *w, real *gates, int64_t m) noexcept nogil:
    """h' = tanh(.) or relu(.)"""
    cdef int64_t j, n = w.net.hidden * m
    if w.net.cell == PACKSEQ_RNN_TANH:
        squash(PACKSEQ_TANH, gates, n)
    else:
        for j in range(n):
            gates[j] = 0 if gates[j] < 0 else gates[j]
    return gates


cdef inline real *step_cell(const Walk *w, real *gates, int64_t m) noexcept nogil:
    if w.net.cell == PACKSEQ_LSTM or w.net.cell == PACKSEQ_LSTM_PEEPHOLE:
        return lstm(w, gates, m)
    if w.net.cell == PACKSEQ_GRU:
        return gru(w, gates, m)
    if w.net.cell == PACKSEQ_GRU_RESET_BEFORE:
        return gru_reset_before(w, gates, m)
    return rnn(w, gates, m)
