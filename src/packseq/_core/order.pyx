"""The order of a batch from its lengths: a counting sort, since steps are counted anyway.

And where its rows lie in other layouts, as indices for whoever has to be told them: a GPU, say.
"""

from libc.stdint cimport int64_t
cimport numpy as cnp

cnp.import_array()


cdef cnp.ndarray vector(int64_t size):
    cdef cnp.npy_intp shape = size
    return cnp.PyArray_EMPTY(1, &shape, cnp.NPY_INT64, 0)


cdef int64_t *data(cnp.ndarray array) noexcept:
    return <int64_t *> array.data


def rise(cnp.ndarray lengths):
    """The first b with lengths[b] > lengths[b - 1], or 0."""
    cdef const int64_t *length = data(lengths)
    cdef int64_t b
    for b in range(1, lengths.shape[0]):
        if length[b] > length[b - 1]:
            return b
    return 0


def outside(cnp.ndarray lengths, int64_t most):
    """The first b whose length is not in 0 .. most, or -1."""
    cdef const int64_t *length = data(lengths)
    cdef int64_t b
    for b in range(lengths.shape[0]):
        if length[b] < 0 or length[b] > most:
            return b
    return -1


def all_equal(cnp.ndarray lengths, int64_t steps):
    """Whether every length is `steps`."""
    cdef const int64_t *length = data(lengths)
    cdef int64_t b
    for b in range(lengths.shape[0]):
        if length[b] != steps:
            return False
    return True


def longest_first(cnp.ndarray lengths, bint keep_order):
    """The order of a batch, longest first and equal lengths in their own order, and its steps.

    lengths is (B,) int64, none negative; keep_order says that they are sorted as they stand.
    Returns batch_sizes (T,), offsets (T + 1,), sorted_lengths, sorted_indices, unsorted_indices (B,);
    with keep_order, sorted_lengths is lengths and the indices are the identity.
    """
    cdef int64_t batch = lengths.shape[0], longest = 0, b, t
    cdef const int64_t *length = data(lengths)
    for b in range(batch):
        longest = max(longest, length[b])
    cdef cnp.ndarray batch_sizes = vector(longest), offsets = vector(longest + 1)
    cdef cnp.ndarray order = vector(batch), inverse = vector(batch), sorted_lengths = lengths
    cdef cnp.ndarray next_place = vector(longest + 1)
    cdef int64_t *size = data(batch_sizes)
    cdef int64_t *offset = data(offsets)
    cdef int64_t *place = data(next_place)
    cdef int64_t *sequence = data(order)
    cdef int64_t *position = data(inverse)
    if not keep_order:
        sorted_lengths = vector(batch)
    cdef int64_t *sorted_length = data(sorted_lengths)
    with nogil:
        count(length, batch, longest, place, size)
        place_all(length, batch, place, sequence, position)
        offset[0] = 0
        for t in range(longest):
            offset[t + 1] = offset[t] + size[t]
        if not keep_order:
            for b in range(batch):
                sorted_length[position[b]] = length[b]
    return batch_sizes, offsets, sorted_lengths, order, inverse


def index_groups(cnp.ndarray sizes, cnp.ndarray of_group, cnp.ndarray of_place, cnp.ndarray out):
    """Number rows that lie in groups of `sizes`, end to end: of_group[g] + of_place[k] for the k-th of group g.

    Packed rows are groups of a step each, rows sequence by sequence groups of a sequence. All are int64; out has the
    sum of the sizes, and of_place as many as the largest.
    """
    cdef const int64_t *size = data(sizes)
    cdef const int64_t *begin = data(of_group)
    cdef const int64_t *place = data(of_place)
    cdef int64_t *row = data(out)
    cdef int64_t groups = sizes.shape[0], g, k
    with nogil:
        for g in range(groups):
            for k in range(size[g]):
                row[k] = begin[g] + place[k]
            row += size[g]


def index_reversed(cnp.ndarray batch_sizes, cnp.ndarray offsets, cnp.ndarray sorted_lengths, cnp.ndarray out):
    """The packed row that changes places with each when every sequence turns round; out is (N,)."""
    cdef const int64_t *size = data(batch_sizes)
    cdef const int64_t *offset = data(offsets)
    cdef const int64_t *length = data(sorted_lengths)
    cdef int64_t *row = data(out)
    cdef int64_t steps = batch_sizes.shape[0], t, r
    with nogil:
        for t in range(steps):
            for r in range(size[t]):
                row[r] = offset[length[r] - 1 - t] + r
            row += size[t]
