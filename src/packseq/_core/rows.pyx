"""Rows between the packed batch and its sequences, as bytes: every dtype, every trailing shape.

A sequence is an address and a stride from one step to the next, so one loop serves padded batches
either way round, lists of arrays and the parts of one buffer; the permutation is in the addresses.
On the packed side, row r of step t lies ``offsets[t] + r`` rows after the start.

Nothing is checked. B and `row_bytes` are not 0, and every array is in packed order:

    packed         (N, *)   C-contiguous        row_bytes      bytes of one row
    addresses      (B,)     first row of each   step_strides   (B,)  bytes from a step to the next
    lengths        (B,)     non-increasing      offsets        (T + 1,)  first row of each step

`transfer` moves runs of steps from one packed batch to another; it says what it takes.

Many bytes are moved in parts, which threads share: `pool`, and at most so many `threads` of it.
"""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t

from packseq._core.pool cimport Pool, packseq_parts

cnp.import_array()

cdef extern from "rows.h":
    ctypedef struct packseq_run:
        pass

    ctypedef struct packseq_side:
        char *rows
        int64_t row_stride
        const int64_t *offsets

    ctypedef struct packseq_batch:
        char *packed
        const int64_t *addresses
        const int64_t *step_strides
        const int64_t *lengths
        const int64_t *offsets
        const char *padding
        int64_t padded

    ctypedef struct packseq_runs:
        packseq_side target, source
        int64_t stride
        const packseq_run *runs

    ctypedef struct packseq_part:
        pass

    ctypedef void packseq_move(size_t row_bytes, const void *job, packseq_part part) noexcept nogil
    packseq_move packseq_gather
    packseq_move packseq_scatter
    packseq_move packseq_transfer

    ctypedef struct packseq_moving:
        packseq_move *move
        size_t row_bytes
        const void *job
        int64_t steps, sequences
        packseq_parts parts

    int64_t packseq_count_parts(const packseq_moving *moving) noexcept nogil
    void packseq_move_all(const packseq_moving *moving) noexcept nogil
    void packseq_move_parts(void *moving, int32_t worker) noexcept nogil

# What a thread must have to move to be worth waking: two take 0.6 to 0.9 of one's time from twice as much on, and
# as long below (packed and padded, rows of 64 and 1024 bytes; Zen 4).
cdef enum:
    BYTES_OF_A_WORKER = 1 << 19


cdef void move_rows(packseq_moving *moving, int64_t rows, Pool pool, int32_t threads) noexcept nogil:
    """So many rows in all, by as many threads as that is worth."""
    cdef int64_t worth = rows * <int64_t> moving.row_bytes // BYTES_OF_A_WORKER
    cdef int32_t taken, workers
    moving.parts.next = 0
    if worth < 2 or threads < 2:
        packseq_move_all(moving)
        return
    taken = pool.take(threads)
    workers = <int32_t> min(taken, worth, packseq_count_parts(moving))
    if workers < 2 or not pool.gather(workers, False):
        packseq_move_all(moving)
    else:
        pool.run(packseq_move_parts, moving, workers)
    pool.leave(taken)


def gather(cnp.ndarray packed, size_t row_bytes, const int64_t[::1] addresses,
           const int64_t[::1] step_strides, const int64_t[::1] lengths,
           const int64_t[::1] offsets, Pool pool, int32_t threads):
    """Fill `packed` from the sequences."""
    cdef packseq_batch batch
    cdef packseq_moving moving
    batch.packed = cnp.PyArray_BYTES(packed)
    batch.addresses, batch.step_strides = &addresses[0], &step_strides[0]
    batch.lengths, batch.offsets = &lengths[0], &offsets[0]
    moving.move, moving.job, moving.row_bytes = packseq_gather, &batch, row_bytes
    moving.steps, moving.sequences = offsets.shape[0] - 1, addresses.shape[0]
    with nogil:
        move_rows(&moving, offsets[moving.steps], pool, threads)


def scatter(cnp.ndarray packed, size_t row_bytes, const int64_t[::1] addresses,
            const int64_t[::1] step_strides, const int64_t[::1] lengths,
            const int64_t[::1] offsets, cnp.ndarray padding, int64_t padded, Pool pool,
            int32_t threads):
    """Fill the sequences from `packed`, and the steps from their ends to `padded` with the one row
    `padding`, in the same pass. `padding` is None, and `padded` 0, where nothing is to be padded."""
    cdef packseq_batch batch
    cdef packseq_moving moving
    cdef int64_t steps = offsets.shape[0] - 1
    batch.packed = cnp.PyArray_BYTES(packed)
    batch.addresses, batch.step_strides = &addresses[0], &step_strides[0]
    batch.lengths, batch.offsets = &lengths[0], &offsets[0]
    batch.padding = NULL if padding is None else cnp.PyArray_BYTES(padding)
    batch.padded = padded
    moving.move, moving.job, moving.row_bytes = packseq_scatter, &batch, row_bytes
    moving.steps, moving.sequences = max(steps, padded), addresses.shape[0]
    with nogil:
        move_rows(&moving, max(offsets[steps], padded * moving.sequences), pool, threads)


def alike(list sequences):
    """New views of plain contiguous arrays (L, *) of one dtype without objects and one *; else None.

    The short way for most lists; what is not alike here may still be so to NumPy. They are viewed
    before they are looked at: another thread may reshape the caller's in place at any time."""
    cdef cnp.ndarray first, array
    cdef object item
    cdef list views = []
    cdef int axis
    for item in sequences:
        if type(item) is not cnp.ndarray:
            return None
        views.append(item[...])
    if not views:
        return None
    first = views[0]
    if cnp.PyArray_NDIM(first) == 0 or first.dtype.hasobject:
        return None
    for item in views:
        array = item
        if (cnp.PyArray_DESCR(array) is not cnp.PyArray_DESCR(first)
                or cnp.PyArray_NDIM(array) != cnp.PyArray_NDIM(first)
                or not cnp.PyArray_IS_C_CONTIGUOUS(array)):
            return None
        for axis in range(1, cnp.PyArray_NDIM(first)):
            if cnp.PyArray_DIMS(array)[axis] != cnp.PyArray_DIMS(first)[axis]:
                return None
    return views


def locate(list sequences, int64_t[::1] addresses, int64_t[::1] step_strides):
    """Write where each array of `sequences` starts and how far its steps are apart.

    In C, since reading an address takes Python a microsecond a sequence."""
    cdef Py_ssize_t b
    cdef cnp.ndarray sequence
    for b in range(len(sequences)):
        sequence = sequences[b]
        addresses[b] = <Py_ssize_t>cnp.PyArray_DATA(sequence)
        step_strides[b] = cnp.PyArray_STRIDE(sequence, 0)


def locate_padded(cnp.ndarray padded, const int64_t[::1] order):
    """The same of the sequences `order`, (B,), of a (T, B, *) batch: addresses and step_strides."""
    cdef cnp.npy_intp count = order.shape[0], b
    cdef cnp.ndarray addresses = cnp.PyArray_EMPTY(1, &count, cnp.NPY_INT64, 0)
    cdef cnp.ndarray step_strides = cnp.PyArray_EMPTY(1, &count, cnp.NPY_INT64, 0)
    for b in range(count):
        (<int64_t *>addresses.data)[b] = (
            <Py_ssize_t>cnp.PyArray_DATA(padded) + order[b] * cnp.PyArray_STRIDE(padded, 1))
        (<int64_t *>step_strides.data)[b] = cnp.PyArray_STRIDE(padded, 0)
    return addresses, step_strides


def transfer(cnp.ndarray target, const int64_t[::1] target_offsets, cnp.ndarray source,
             const int64_t[::1] source_offsets, size_t row_bytes, int64_t stride,
             const int64_t[:, ::1] runs, Pool pool, int32_t threads):
    """Move runs of steps from `source` to `target`, both (N, *) with whole rows of `row_bytes`.

    Step t of a run (steps, source_row, source_step, target_row, target_step) goes from source_step
    + t * stride to target_step + t. The runs, at least one, are of non-increasing steps."""
    cdef packseq_runs job
    cdef packseq_moving moving
    job.target.rows, job.source.rows = cnp.PyArray_BYTES(target), cnp.PyArray_BYTES(source)
    job.target.row_stride = cnp.PyArray_STRIDE(target, 0)
    job.source.row_stride = cnp.PyArray_STRIDE(source, 0)
    job.target.offsets, job.source.offsets = &target_offsets[0], &source_offsets[0]
    job.stride, job.runs = stride, <const packseq_run *>&runs[0, 0]
    moving.move, moving.job, moving.row_bytes = packseq_transfer, &job, row_bytes
    moving.steps, moving.sequences = runs[0, 0], runs.shape[0]
    with nogil:
        move_rows(&moving, target.shape[0], pool, threads)
