/* The contract between the bindings and the kernels: plain C, no Python.h.
 *
 * Letters: T steps, B sequences, I input width, H hidden units, R state width (H, or the projection's
 * size), D directions, L layers, U lanes of one vector, K inner length of a product.
 * Nothing here is checked; every pointer, size and index was checked by the caller.
 */
#ifndef PACKSEQ_KERNELS_H
#define PACKSEQ_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "cell_table.h"

/* What the gates i, f and o, or r and z, go through; candidates and c go through tanh. NaN stays NaN. */
enum packseq_activation {
    PACKSEQ_SIGMOID,
    PACKSEQ_HARD_SIGMOID,    /* min(max(x + 3, 0), 6) / 6: torch's, and Keras's from version 3 on */
    PACKSEQ_HARD_SIGMOID_02, /* max(0, min(1, 0.2 x + 0.5)): ONNX's by default, and Keras's before version 3 */
    PACKSEQ_N_GATE_ACTIVATIONS,
    PACKSEQ_TANH = PACKSEQ_N_GATE_ACTIVATIONS /* for packseq_engine.activate */
};

/* Python's names of those that gates may have. */
extern const char *const packseq_gate_activations[PACKSEQ_N_GATE_ACTIVATIONS];

/* What numbers and weights are. */
enum packseq_format { PACKSEQ_F32, PACKSEQ_F64, PACKSEQ_INT8, PACKSEQ_BFLOAT16, PACKSEQ_N_FORMATS };

typedef struct {
    const char *name;
    int32_t real_bytes;   /* of a number of the input, the states and the output, */
    int32_t weight_bytes; /* and of a weight */
    double speed; /* of a product of many rows, beside that of numbers as wide as the states */
} packseq_format_traits;

extern const packseq_format_traits packseq_formats[PACKSEQ_N_FORMATS];

/* A weight matrix in panels of two vectors: [panel][K][2][U], 64-byte aligned, kept for the module's life.
 * Panel p adds to 2U adjacent columns of a gate row, from column[p] on. Weights of fewer bits are as many together as
 * have 32 of them, [panel][K/n][2][U][n], with zeros where K ends, and U is that of float32. */
typedef struct {
    const void *panels;
    const int32_t *column;
    int64_t k;
    int64_t n_panels;
    int64_t panels_per_block; /* a block is 2U hidden units with all their gates */
    /* Of int8 alone, [panel][2U]: what each column's sum is multiplied by, and the sum of its weights. */
    const float *scales;
    const int32_t *sums;
} packseq_matrix;

/* One direction of one layer; cell_table.h has the order of a gate row. */
typedef struct {
    packseq_matrix ih;     /* K = I */
    packseq_matrix hh;     /* K = R; where there is a reset before the product, without n */
    packseq_matrix late; /* K = H; no panels where there is none: packseq_late says what it is */
    const void *bias;      /* one gate row */
    const void *peephole;  /* one too, by which c is multiplied for i, f and o; NULL where the cell has none */
    int32_t finite;        /* whether 0 times any of hh's weights is 0: then a missing h0 is not multiplied */
} packseq_direction;

/* What the calls of a network cost, as far as its sizes and the machine tell. */
typedef struct {
    int64_t vector_bytes;
    /* Of a step in one direction of one layer: */
    double row_flops;    /* of one sequence, as many as float32 would do in the same time; */
    double weight_bytes; /* of those weights that multiply h; */
    int64_t blocks;      /* of hidden units; */
    int64_t gate_bytes;  /* one sequence's gates, as the kernels lay them out, */
    int64_t work_bytes;  /* these and c, what `late` multiplies and what it gives; */
    int64_t spill_bytes; /* its output, where another layer follows, else 0; */
    int64_t l2_sequences; /* of how many a core's L2 keeps the states, about */
    /* Of a step in all layers and directions: */
    double row_microseconds;  /* of one sequence, about, beside enough others */
    int64_t least_rows;       /* what a step of fewer sequences counts as, in the midst of others, */
    int64_t least_rows_alone; /* and where it is the only one, so that all weights pass */
} packseq_costs;

typedef struct {
    int32_t cell;            /* packseq_cell */
    int32_t gate_activation; /* packseq_activation */
    int32_t format;          /* packseq_format */
    int32_t n_layers;
    int32_t n_directions;
    int64_t hidden; /* H */
    int64_t state;  /* R */
    const packseq_direction *directions; /* [L][D] */
    packseq_costs costs; /* packseq_estimate fills it in when all else is there */
} packseq_network;

/* Row (t, r) lies at base + (offsets ? offsets[t] * row_stride : t * step_stride) + order(r) * row_stride,
 * strides counted in elements; r counts sequences, longest first. */
typedef struct {
    void *base;
    const int64_t *offsets;
    const int64_t *order;
    int64_t step_stride;
    int64_t row_stride;
} packseq_rows;

typedef struct packseq_barrier {
    _Alignas(64) int32_t arrived; /* barriers of two teams must not share a cache line */
    int64_t said;                 /* by the last who arrived; runtime.h has what, */
    int64_t waited;               /* and 1 more than that when a member last lost patience with who was missing */
} packseq_barrier;

/* One call: what to run, on what, and how it is cut up. Read-only to the kernels, but for `leaver` to `cleared`,
 * the barriers and what the pointers to results name. */
typedef struct {
    const packseq_network *network;
    int64_t batch, steps;
    const int64_t *batch_sizes; /* [T], or NULL: every sequence has T steps */
    const int64_t *order;       /* [B] caller's index of sorted sequence r, or NULL: r itself */
    packseq_rows input, output; /* widths I and D*R */
    int64_t padded_steps;       /* the output's, where it is padded: rows past each end become 0; else 0 */
    const void *h0, *c0;        /* [L*D][B][R], [L*D][B][H], caller's order, or NULL: zeros */
    void *hn, *cn;              /* the same shapes */
    void *const *before;        /* or, where not NULL, [B], caller's order: each sequence's [L*D][R], [L*D][H] */
    void *const *after;         /* the same, for the last states */

    int64_t n_shards;
    const int64_t *bounds; /* [n_shards + 1]: shard s is sequences bounds[s] .. bounds[s+1] */
    int32_t last_first;     /* whether to begin with the last weights: where the call before ended */
    int64_t block_rows;    /* rows projected at a time; at least shard_sequences */
    int64_t shard_sequences; /* of the widest shard */
    int64_t shard_rows;    /* of the fullest shard, in all steps; 0 if L == 1 */

    int32_t team;          /* members that share one shard; 1: each shard has one worker */
    int32_t abreast;       /* directions that run at the same time, each by its part of the team; divides both */
    char *workspace;       /* 64-byte aligned; as many bytes as the engine says for each worker or team */
    int64_t workspace_stride;
    packseq_barrier *barriers; /* [3], zeroed: the whole team, and one for each direction abreast */
    int64_t begun;             /* when the call has, in nanoseconds of the monotonic clock, */
    int64_t patience;          /* and how many of them a member may be late */
    int32_t leaver;            /* who was and leaves the team at the next barrier, by its rank; 0: nobody */
    int64_t next;              /* the next shard to be taken, from 0 */
    int64_t clearing, cleared; /* parts of the padding that are taken, and that are 0 by now, from 0 */
} packseq_job;

/* A linear layer, out = start + rows W, and how it is cut up; strides are counted in elements. Read-only to the
 * kernels, but for `next`. */
typedef struct {
    int32_t format;   /* PACKSEQ_F32 or PACKSEQ_F64 */
    const void *rows; /* [n_rows][K], whose K are adjacent */
    int64_t n_rows, row_stride, k;
    const void *weight; /* [K][columns] */
    int64_t k_stride, column_stride, columns;
    const void *start; /* [columns], or NULL: zeros */
    void *out;         /* [n_rows][columns], contiguous */

    int64_t part_rows, part_panels; /* what is computed at a time, by whoever is there */
    char *workspace;                /* 64-byte aligned; as many bytes as the engine says for each worker */
    int64_t workspace_stride;
    int64_t next; /* part to be taken, from 0 */
} packseq_linear;

/* What along.h makes of rows along their numbers, [rows][size] of the engine's reals, neither of which is 0. */
enum packseq_along {
    PACKSEQ_SUM,
    PACKSEQ_CUMSUM,
    PACKSEQ_MAX,
    PACKSEQ_MIN,
    PACKSEQ_TOTALS,
    PACKSEQ_SOFTMAX,
    PACKSEQ_N_ALONG
};

typedef void packseq_along_rows(int64_t rows, int64_t size, const void *data, void *out);

/* Those of float32 or of float64 for any machine, in builds without kernels too. */
packseq_along_rows *const *packseq_plain_along(enum packseq_format);

/* The kernels of one format. */
typedef struct {
    int64_t (*workspace)(const packseq_job *); /* bytes for each worker or team */
    void (*run)(packseq_job *, int32_t worker);
    void (*activate)(int activation, const void *x, void *y, int64_t n); /* n a multiple of the lanes */
    int64_t (*linear_workspace)(const packseq_linear *); /* of float32 and float64 alone: bytes for each worker */
    void (*linear)(packseq_linear *, int32_t worker);
    packseq_along_rows *const *along; /* [PACKSEQ_N_ALONG], of float32 and float64 alone */
} packseq_engine;

/* Those of one instruction set; what it has no engine for, it has from its base. */
typedef struct packseq_kernels {
    const char *name;
    int32_t vector_bytes;
    const struct packseq_kernels *base; /* or NULL */
    const packseq_engine *engines[PACKSEQ_N_FORMATS];
} packseq_kernels;

/* ---- cut.c: what a call costs, and who computes what of it ---- */

/* Fills in a network's costs, for vectors of so many bytes. */
void packseq_estimate(packseq_network *, int64_t vector_bytes);

/* How long a call takes on one thread, as far as it matters for who may help with it. */
enum packseq_size {
    PACKSEQ_TINY,  /* done before another thread, awake, has heard of it */
    PACKSEQ_SMALL, /* done before another has woken up: those that are awake may help */
    PACKSEQ_LARGE
};
/* Of a job of which the network, the batch, the steps and the batch sizes are set; */
double packseq_microseconds_of(const packseq_job *);
enum packseq_size packseq_size_for(double microseconds);
/* and the greatest of any with so many sequences and steps, whatever the batch sizes. */
enum packseq_size packseq_most_size(const packseq_network *, int64_t batch, int64_t steps);

/* Cuts a call into shards for at most `threads` workers: sets the job's fields from n_shards to abreast, but for
 * `last_first`, with bounds in the caller's array of batch + 1. Returns how many workers to start. */
int32_t packseq_cut(packseq_job *, int64_t *bounds, int32_t threads);
/* What a layer of one of its shards costs whoever computes it, a worker or a team, in operations of one thread. */
double packseq_cost_of(const packseq_job *, int64_t shard);

/* How long a linear layer takes on one thread, where all is set above part_rows; */
double packseq_microseconds_of_linear(const packseq_linear *, int64_t vector_bytes);
/* and its cut for at most `threads` workers: sets part_rows and part_panels. Returns how many workers to start. */
int32_t packseq_cut_linear(packseq_linear *, int64_t vector_bytes, int32_t threads);

/* ---- dispatch.c ---- */

/* The instruction sets compiled in, best first, NULL at the end; and whether this machine has one. */
const packseq_kernels *const *packseq_compiled(void);
int packseq_supported(const packseq_kernels *);
/* Its engine for a format, its own or its base's; NULL where neither has one. */
const packseq_engine *packseq_engine_of(const packseq_kernels *, enum packseq_format);

#endif
