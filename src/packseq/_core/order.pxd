"""The counting sort that puts a batch in order, shared by the plan and by plain calls."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset


cdef inline void count(const int64_t *length, int64_t batch, int64_t longest, int64_t *place,
                       int64_t *batch_sizes) noexcept nogil:
    """batch_sizes[t] = place[t] = how many are longer than t; place has longest + 1 entries."""
    cdef int64_t b, t, alive = 0
    memset(place, 0, (longest + 1) * sizeof(int64_t))
    for b in range(batch):
        place[length[b]] += 1
    for t in range(longest, -1, -1):
        alive += place[t]
        place[t] = alive - place[t]
    memcpy(batch_sizes, place, longest * sizeof(int64_t))


cdef inline void place_all(const int64_t *length, int64_t batch, int64_t *place,
                           int64_t *sorted_indices, int64_t *unsorted_indices) noexcept nogil:
    """Those of length t follow all that are longer, in their order."""
    cdef int64_t b, r
    for b in range(batch):
        r = place[length[b]]
        place[length[b]] += 1
        sorted_indices[r] = b
        unsorted_indices[b] = r
