"""The short way of plain calls: from arrays to arrays in one function, for what the general way takes microseconds.

A plain call is one on a native, aligned, C-contiguous array of the network's own dtype, alone or with states
and lengths of such forms too. `call` takes it whole, or returns None before anything has been done, and never
raises an error of its own about what it was given: all else, errors included, is the general way's, in
networks/recurrent.py, networks/cells.py and `Network.forward`. tests/test_plain.py holds the two together: the
same bits, and the same inputs refused in the same words.

    LSTM, microseconds (Zen 4)          | H 2            | H 32           | H 128
                                        | short  general | short  general | short  general
    one step of one sequence            |  1.1       9.3 |  1.2       9.5 |  3.8      12.3
    the same, with states               |  1.1      14.4 |  1.5      14.9 |  6.6      21.3
    3 steps of 2 sequences of lengths   |  1.8      18.9 |  2.3      19.5 | 12.4      31.5
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

cimport numpy as cnp

from packseq._core.order cimport count, place_all
from packseq._core.pool cimport Pool
from packseq._core.recurrent cimport (
    PACKSEQ_LARGE, PACKSEQ_TINY, Network, data, packseq_job, packseq_rows, packseq_size)

cnp.import_array()

# What a result may take at most, in bytes, to be taken here; the general way names what is too large.
cdef double MOST_BYTES = 1e12

cdef struct Order:
    int64_t *batch_sizes # [T]
    int64_t *order       # [B]


def call(object engine, object x, object hx, object lengths, object crew, object elsewhere):
    """Run a plain call, or return None for the general way to take it, as all are that run on BLAS.

    x is (T, I), (T, B, I) or (B, T, I), or of one step (I,) or (B, I); hx is None, h or (h, c).
    crew() gives the pool and how many threads there may be. elsewhere() tells whether a call that
    is not small may be for another backend; None: it is not.
    """
    if type(engine) is not Network or type(x) is not cnp.ndarray:
        return None
    cdef Network network = engine
    cdef cnp.ndarray array = x
    cdef int ndim = cnp.PyArray_NDIM(array)
    cdef int axes = ndim + network.one_step
    if axes != 2 and axes != 3 or not is_plain(network, x, ndim):
        return None
    cdef int by_time = axes == 3 and network.batch_first
    cdef int64_t steps = 1 if network.one_step else cnp.PyArray_DIMS(array)[by_time]
    cdef int64_t batch = 1 if axes == 2 else cnp.PyArray_DIMS(array)[0 if network.one_step else 1 - by_time]
    if cnp.PyArray_DIMS(array)[ndim - 1] != network.input_width or batch == 0 or steps == 0:
        return None
    cdef packseq_size size = network.most_size(batch, steps)
    if size == PACKSEQ_TINY:
        return run(network, array, batch, steps, hx, lengths, None, 1)
    if size == PACKSEQ_LARGE and elsewhere is not None and elsewhere():
        return None
    cdef Pool pool
    cdef int32_t threads
    pool, threads = crew()
    # Others' code may have run meanwhile, and an array may be reshaped in place.
    if not is_input(network, array, ndim, by_time, batch, steps):
        return None
    cdef int32_t taken = pool.take(threads)
    if taken > 1 and size == PACKSEQ_LARGE:
        pool.rouse()  # while this thread allocates
    try:
        return run(network, array, batch, steps, hx, lengths, pool, taken)
    finally:
        pool.leave(taken)


cdef object run(Network network, cnp.ndarray x, int64_t batch, int64_t steps, object hx, object lengths, Pool pool,
                int32_t threads):
    """With so many threads taken; None where hx or lengths are not plain."""
    cdef int axis, ndim = cnp.PyArray_NDIM(x)
    cdef cnp.npy_intp out_shape[3]
    cdef cnp.npy_intp h_shape[3]
    cdef cnp.npy_intp c_shape[3]
    cdef object h0 = hx, c0 = None
    cdef packseq_job job
    cdef Order found
    cdef int64_t *memory = NULL
    cdef bint done

    shape_states(network, h_shape, ndim, batch, network.net.state)
    shape_states(network, c_shape, ndim, batch, network.net.hidden)
    if hx is not None:
        if network.has_c:
            if type(hx) is not tuple or len(<tuple> hx) != 2:
                return None
            h0, c0 = <tuple> hx
            if not is_state(network, c0, c_shape, ndim):
                return None
        if not is_state(network, h0, h_shape, ndim):
            return None
    if lengths is not None and ndim == 2:
        return None

    for axis in range(ndim - 1):
        out_shape[axis] = cnp.PyArray_DIMS(x)[axis]
    out_shape[ndim - 1] = network.net.n_directions * network.net.state
    cdef double states = <double> network.net.n_layers * network.net.n_directions * network.net.hidden
    if 8.0 * batch * (<double> steps * out_shape[ndim - 1] + states) > MOST_BYTES:
        return None
    cdef cnp.ndarray output = cnp.PyArray_EMPTY(ndim, out_shape, network.typenum, 0)
    cdef cnp.ndarray hn = cnp.PyArray_EMPTY(ndim, h_shape, network.typenum, 0)
    cdef cnp.ndarray cn = hn
    if network.has_c:
        cn = cnp.PyArray_EMPTY(ndim, c_shape, network.typenum, 0)

    network.begin(&job, batch, steps)
    lay(network, &job.input, x, network.input_width, &job)
    lay(network, &job.output, output, out_shape[ndim - 1], &job)
    job.h0, job.c0, job.hn, job.cn = data(h0), data(c0), hn.data, cn.data
    if lengths is not None:
        memory = <int64_t *> malloc((3 * batch + 2 * steps + 1) * sizeof(int64_t))
        if memory == NULL:
            raise MemoryError
        if not order_lengths(lengths, batch, steps, memory, &found):
            free(memory)
            return None
        job.padded_steps = steps
        job.batch_sizes = found.batch_sizes
        job.order = job.input.order = job.output.order = found.order
    with nogil:
        done = network.execute(&job, pool, threads)
        free(memory)
    if not done:
        raise MemoryError("no memory for what a call needs beside its results")
    return output, ((hn, cn) if network.has_c else hn)


cdef inline bint is_plain(Network network, object array, int ndim) noexcept:
    """A native, aligned, C-contiguous ndarray of the network's dtype and of this rank?"""
    return (
        type(array) is cnp.ndarray
        and cnp.PyArray_TYPE(<cnp.ndarray> array) == network.typenum
        and cnp.PyArray_NDIM(<cnp.ndarray> array) == ndim
        and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray> array)
    )


cdef inline bint is_input(Network network, cnp.ndarray x, int ndim, int by_time, int64_t batch, int64_t steps) noexcept:
    """Plain still, and of the sizes that it had?"""
    if not is_plain(network, x, ndim) or cnp.PyArray_DIMS(x)[ndim - 1] != network.input_width:
        return False
    if not network.one_step and cnp.PyArray_DIMS(x)[by_time] != steps:
        return False
    return ndim + network.one_step == 2 or cnp.PyArray_DIMS(x)[0 if network.one_step else 1 - by_time] == batch


cdef inline bint is_state(Network network, object array, cnp.npy_intp *shape, int ndim) noexcept:
    if not is_plain(network, array, ndim):
        return False
    cdef int axis
    for axis in range(ndim):
        if cnp.PyArray_DIMS(<cnp.ndarray> array)[axis] != shape[axis]:
            return False
    return True


cdef inline void shape_states(Network network, cnp.npy_intp *shape, int ndim, int64_t batch, int64_t width) noexcept:
    """(L * D, B, width), without the axes that calls of such a rank have not."""
    cdef int axis = 0
    if not network.one_step:
        shape[0] = network.net.n_layers * network.net.n_directions
        axis = 1
    if axis < ndim - 1:
        shape[axis] = batch
    shape[ndim - 1] = width


cdef inline void lay(Network network, packseq_rows *rows, cnp.ndarray array, int64_t width,
                     const packseq_job *job) noexcept:
    rows.base = array.data
    rows.step_stride = width if network.batch_first else job.batch * width
    rows.row_stride = job.steps * width if network.batch_first else width


cdef bint order_lengths(object lengths, int64_t batch, int64_t steps, int64_t *memory, Order *found):
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
