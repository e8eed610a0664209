"""Reductions over time: choose the walk for the dtype, release the GIL, go.

Nothing is checked. `data`, (N, *), is C-contiguous, aligned, native, of a dtype that the walk has,
and N is not 0; arrays of B rows are in packed order. The elements of a step are cut into tiles, which
threads share.
"""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t

from packseq._core.pool cimport Pool, packseq_parts, packseq_take_part

cnp.import_array()

cdef extern from "segments.h":
    ctypedef struct packseq_tile:
        const int64_t *offsets
        int64_t steps, width, start, size, group

    ctypedef void packseq_walk(
        packseq_tile tile, const void *data, void *out, const void *other) noexcept nogil

    ctypedef struct packseq_walks:
        const char *name
        packseq_walk *f32
        packseq_walk *f64
        packseq_walk *i64
        packseq_walk *u64

    const packseq_walks *WALKS
    enum: N_WALKS
    enum: TILE

cdef struct Job:
    packseq_walk *run
    packseq_tile tile
    const void *data
    void *out
    const void *other
    int64_t elements
    packseq_parts tiles


cdef void take_tiles(void *argument, int32_t worker) noexcept nogil:
    """Those that no other has taken."""
    cdef Job *job = <Job *> argument
    cdef packseq_tile tile = job.tile
    tile.start = packseq_take_part(&job.tiles) * <int64_t>TILE
    while tile.start < job.elements:
        tile.size = min(<int64_t>TILE, job.elements - tile.start)
        job.run(tile, job.data, job.out, job.other)
        tile.start = packseq_take_part(&job.tiles) * <int64_t>TILE


def walk(str name, cnp.ndarray data, const int64_t[::1] offsets, int64_t width, cnp.ndarray out,
         cnp.ndarray other, int64_t group, Pool pool, int32_t threads):
    """Take all of `data` through all steps into `out`, on at most so many threads.

    `width` is the elements of a row, and `group` those that share one of the weights in `other`,
    which is None where the walk needs nothing."""
    cdef Job job
    cdef int32_t taken, workers
    job.run = find(name, data.dtype)
    job.data = cnp.PyArray_DATA(data)
    job.out = cnp.PyArray_DATA(out)
    job.other = NULL if other is None else cnp.PyArray_DATA(other)
    job.elements = offsets[1] * width
    job.tile.offsets = &offsets[0]
    job.tile.steps = offsets.shape[0] - 1
    job.tile.width = width
    job.tile.group = group
    job.tiles.next = 0
    with nogil:
        taken = pool.take(threads)
        workers = <int32_t> min(taken, (job.elements + TILE - 1) // TILE)
        if workers < 2 or not pool.gather(workers, False):
            take_tiles(&job, 0)
        else:
            pool.run(take_tiles, &job, workers)
        pool.leave(taken)


cdef packseq_walk *find(str name, cnp.dtype dtype) except NULL:
    cdef packseq_walks walks
    cdef bytes key = name.encode()
    cdef Py_ssize_t i
    for i in range(N_WALKS):
        walks = WALKS[i]
        if walks.name == key:
            # By kind, since NumPy has two integers of 64 bits.
            if dtype.kind == c"f":
                return walks.f32 if dtype.itemsize == 4 else walks.f64
            return walks.i64 if dtype.kind == c"i" else walks.u64
    raise KeyError(name)
