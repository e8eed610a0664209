"""Rows between the packed batch and its sequences, as bytes: every dtype, every trailing shape.

A sequence is an address and a stride from one step to the next, so one loop serves padded batches
either way round, lists of arrays and the parts of one buffer; the permutation is in the addresses.
On the packed side, row r of step t lies ``offsets[t] + r`` rows after the start.

Nothing is checked. B and `row_bytes` are not 0, and every array is in packed order:

    packed         (N, *)   C-contiguous        row_bytes      bytes of one row
    addresses      (B,)     first row of each   step_strides   (B,)  bytes from a step to the next
    lengths        (B,)     non-increasing      offsets        (T + 1,)  first row of each step

`transfer` moves runs of steps from one packed batch to another; it says what it takes.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t

cnp.import_array()

cdef extern from "rows.h":
    ctypedef struct packseq_run:
        pass

    ctypedef struct packseq_side:
        char *rows
        int64_t row_stride
        const int64_t *offsets

    void packseq_gather(
        size_t row_bytes, char *packed, const int64_t *addresses, const int64_t *step_strides,
        const int64_t *lengths, const int64_t *offsets, int64_t B, int64_t T) noexcept nogil
    void packseq_scatter(
        size_t row_bytes, const char *packed, const int64_t *addresses,
        const int64_t *step_strides, const int64_t *lengths, const int64_t *offsets, int64_t B,
        int64_t T, const char *padding, int64_t padded) noexcept nogil
    void packseq_transfer(
        size_t row_bytes, packseq_side target, packseq_side source, int64_t stride,
        const packseq_run *runs, int64_t n_runs) noexcept nogil


def gather(cnp.ndarray packed, size_t row_bytes, const int64_t[::1] addresses,
           const int64_t[::1] step_strides, const int64_t[::1] lengths,
           const int64_t[::1] offsets):
    """Fill `packed` from the sequences."""
    cdef char *data = cnp.PyArray_BYTES(packed)
    with nogil:
        packseq_gather(row_bytes, data, &addresses[0], &step_strides[0], &lengths[0], &offsets[0],
                       addresses.shape[0], offsets.shape[0] - 1)


def scatter(cnp.ndarray packed, size_t row_bytes, const int64_t[::1] addresses,
            const int64_t[::1] step_strides, const int64_t[::1] lengths,
            const int64_t[::1] offsets, cnp.ndarray padding, int64_t padded):
    """Fill the sequences from `packed`, and the steps from their ends to `padded` with the one row
    `padding`, in the same pass. `padding` is None, and `padded` 0, where nothing is to be padded."""
    cdef const char *data = cnp.PyArray_BYTES(packed)
    cdef const char *padding_row = NULL if padding is None else cnp.PyArray_BYTES(padding)
    with nogil:
        packseq_scatter(row_bytes, data, &addresses[0], &step_strides[0], &lengths[0], &offsets[0],
                        addresses.shape[0], offsets.shape[0] - 1, padding_row, padded)


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


def transfer(cnp.ndarray target, const int64_t[::1] target_offsets, cnp.ndarray source,
             const int64_t[::1] source_offsets, size_t row_bytes, int64_t stride,
             const int64_t[:, ::1] runs):
    """Move runs of steps from `source` to `target`, both (N, *) with whole rows of `row_bytes`.

    Step t of a run (steps, source_row, source_step, target_row, target_step) goes from source_step
    + t * stride to target_step + t. The runs, at least one, are of non-increasing steps."""
    cdef packseq_side to, from_
    to.rows, from_.rows = cnp.PyArray_BYTES(target), cnp.PyArray_BYTES(source)
    to.row_stride, from_.row_stride = cnp.PyArray_STRIDE(target, 0), cnp.PyArray_STRIDE(source, 0)
    to.offsets, from_.offsets = &target_offsets[0], &source_offsets[0]
    with nogil:
        packseq_transfer(row_bytes, to, from_, stride, <const packseq_run *>&runs[0, 0],
                         runs.shape[0])
