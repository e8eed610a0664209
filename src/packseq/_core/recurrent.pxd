"""A network as C sees it, for who fills in jobs: recurrent.pyx, and plain.pyx for plain calls."""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t

from packseq._core.pool cimport Pool

cdef extern from "tuning.h" nogil:
    enum: PATIENT_PART

cdef extern from "clock.h" nogil:
    int64_t packseq_nanoseconds() noexcept

cdef extern from "kernels.h" nogil:
    enum: PACKSEQ_N_CELLS
    enum: PACKSEQ_N_GATE_ACTIVATIONS

    ctypedef struct packseq_cell_traits:
        const char *name
        int32_t has_c

    const packseq_cell_traits *packseq_cells
    const char *const *packseq_gate_activations

    ctypedef struct packseq_format_traits:
        const char *name
        int32_t real_bytes

    const packseq_format_traits *packseq_formats

    enum packseq_format:
        PACKSEQ_F32
        PACKSEQ_F64
        PACKSEQ_N_FORMATS

    ctypedef void packseq_along_rows(int64_t, int64_t, const void *, void *) noexcept nogil

    packseq_along_rows *const *packseq_plain_along(packseq_format) noexcept nogil

    ctypedef struct packseq_matrix:
        const void *panels
        const int32_t *column
        int64_t k
        int64_t n_panels
        int64_t panels_per_block
        const float *scales
        const int32_t *sums

    ctypedef struct packseq_direction:
        packseq_matrix ih
        packseq_matrix hh
        packseq_matrix late
        const void *bias
        const void *peephole
        int32_t finite

    ctypedef struct packseq_network:
        int32_t cell
        int32_t gate_activation
        int32_t format
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
        void *const *before
        void *const *after
        int64_t n_shards
        const int64_t *bounds
        int32_t last_first
        int64_t block_rows
        int64_t shard_sequences
        int64_t shard_rows
        int32_t team
        int32_t abreast
        char *workspace
        int64_t workspace_stride
        packseq_barrier *barriers
        int64_t begun
        int64_t patience

    ctypedef struct packseq_linear:
        int32_t format
        const void *rows
        int64_t n_rows
        int64_t row_stride
        int64_t k
        const void *weight
        int64_t k_stride
        int64_t column_stride
        int64_t columns
        const void *start
        void *out
        char *workspace
        int64_t workspace_stride

    ctypedef struct packseq_engine:
        int64_t (*workspace)(const packseq_job *) noexcept nogil
        void (*run)(packseq_job *, int32_t) noexcept nogil
        void (*activate)(int, const void *, void *, int64_t) noexcept nogil
        int64_t (*linear_workspace)(const packseq_linear *) noexcept nogil
        void (*linear)(packseq_linear *, int32_t) noexcept nogil
        packseq_along_rows *const *along

    ctypedef struct packseq_kernels:
        const char *name
        int32_t vector_bytes

    const packseq_kernels *const *packseq_compiled() noexcept nogil
    int packseq_supported(const packseq_kernels *) noexcept nogil
    const packseq_engine *packseq_engine_of(const packseq_kernels *, packseq_format) noexcept nogil

    enum packseq_size:
        PACKSEQ_TINY
        PACKSEQ_SMALL
        PACKSEQ_LARGE

    void packseq_estimate(packseq_network *, int64_t) noexcept nogil
    double packseq_microseconds_of(const packseq_job *) noexcept nogil
    packseq_size packseq_size_for(double) noexcept nogil
    packseq_size packseq_most_size(const packseq_network *, int64_t, int64_t) noexcept nogil
    int32_t packseq_cut(packseq_job *, int64_t *, int32_t) noexcept nogil
    double packseq_cost_of(const packseq_job *, int64_t) noexcept nogil
    int32_t packseq_cut_linear(packseq_linear *, int64_t, int32_t) noexcept nogil
    double packseq_microseconds_of_linear(const packseq_linear *, int64_t) noexcept nogil


cdef class Network:
    cdef packseq_network net
    cdef packseq_direction *table
    cdef const packseq_engine *engine
    cdef object keep
    cdef int typenum
    cdef int64_t input_width
    cdef bint has_c
    cdef bint batch_first
    cdef bint one_step  # calls have no axis of time, states none of layers
    cdef int32_t last_first  # flips at each call; what a race leaves here is as good

    cdef void begin(self, packseq_job *job, int64_t batch, int64_t steps) noexcept
    cdef packseq_size most_size(self, int64_t batch, int64_t steps) noexcept
    cdef void lay(self, packseq_job *job, cnp.ndarray x, cnp.ndarray out, object batch_sizes, object offsets,
                  object order) noexcept
    cdef bint perform(self, packseq_job *job, Pool pool, int32_t threads) noexcept nogil
    cdef bint execute(self, packseq_job *job, Pool pool, int32_t threads) noexcept nogil
    cdef int32_t recruit(self, packseq_job *job, int64_t *bounds, Pool pool, int32_t threads) noexcept nogil
    cdef int64_t workspace(self, const packseq_job *job, int32_t workers) noexcept nogil

cdef inline void *data(object array) noexcept:
    return NULL if array is None else (<cnp.ndarray> array).data


cdef inline void view(packseq_rows *rows, cnp.ndarray array, const packseq_job *job, object offsets) noexcept:
    cdef int64_t itemsize = cnp.PyArray_ITEMSIZE(array)
    rows.base = array.data
    if cnp.PyArray_NDIM(array) == 2:
        rows.offsets = <const int64_t *> data(offsets)
        rows.row_stride = cnp.PyArray_STRIDES(array)[0] // itemsize
    else:
        rows.order = job.order
        rows.step_stride = cnp.PyArray_STRIDES(array)[0] // itemsize
        rows.row_stride = cnp.PyArray_STRIDES(array)[1] // itemsize
