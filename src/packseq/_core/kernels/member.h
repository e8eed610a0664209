/* What one member of a team has of one direction of one layer of a shard: memory, rows, and its part of the products.
 *
 * The output is the state: h of the step before is read where it was written. So the rows of a step are
 * pointers (h), which start at h0 and move on as their sequence does; the same pointers serve both
 * directions, packed and padded outputs, and end as the last state of every sequence.
 */
#ifndef HAS_PRODUCT
#error "member.h comes after product.h: include isa.h"
#endif
#define HAS_MEMBER

typedef struct {
    REAL *gates;    /* [block_rows][gate row] */
    REAL *cell;     /* [shard_sequences][blocks * 2U]: c */
    REAL *hidden;   /* [shard_sequences][blocks * 2U]: what `late` multiplies */
    REAL *narrow;   /* [shard_sequences][panels * 2U]: what the projection gives */
    REAL *zeros;    /* [R]: a missing h0 */
    REAL *spill;    /* [shard_rows][D * R]: every other layer's output */
    int64_t *steps; /* [T]: where a step begins in spill */
    const REAL **x; /* [block_rows] */
    const REAL **h; /* [shard_sequences] */
    char *coded;    /* the rows of one product, where the format codes them */
} NAME(arena);

typedef struct {
    packseq_job *job;
    const packseq_direction *weights;
    NAME(arena) arena;
    packseq_rows input, output;
    int64_t gate_row, padded;    /* from one row to the next: of gates, and of c and `hidden` */
    int64_t first, width, steps; /* sequences first .. first + width, the longest of `steps` */
    int64_t begun;               /* the first so many have a state; that of the others is 0 still */
    int64_t from, to;            /* this member's blocks of hidden units, */
    int64_t column, columns;     /* and its columns of the state */
    int64_t state_index;         /* layer * D + direction */
    int32_t reverse, last_first;
    packseq_crew crew;                /* the whole team, */
    int32_t abreast;                  /* directions that it runs at the same time, */
    int32_t member, members;          /* and those of this one */
    packseq_barrier *barrier;
} NAME(walk);

/* ---- memory ---- */

static int64_t NAME(gate_row)(const packseq_network *net) { return gate_row_vectors(net, LANES) * LANES; }
static int64_t NAME(padded)(const packseq_network *net) { return blocks_of(net->hidden, LANES) * 2 * LANES; }

static REAL *NAME(row)(const packseq_rows *rows, int64_t t, int64_t r) {
    const int64_t step = rows->offsets ? rows->offsets[t] * rows->row_stride : t * rows->step_stride;
    return (REAL *)rows->base + step + (rows->order ? rows->order[r] : r) * rows->row_stride;
}

/* Rows of so many numbers that pass all panels together. */
static int64_t NAME(slice_rows)(int64_t k) {
    return greatest(MAX_ROWS * 4, (int64_t)(SLICE_BYTES / sizeof(REAL)) / k / MAX_ROWS * MAX_ROWS);
}

/* Of the coded rows of the largest product. */
static int64_t NAME(most_coded_bytes)(const packseq_job *job) {
    const packseq_network *net = job->network;
    int64_t most = 0;
    for (int32_t i = 0; i < net->n_layers * net->n_directions; i++) {
        const packseq_direction *weights = &net->directions[i];
        const int64_t projected = least(job->block_rows, NAME(slice_rows)(weights->ih.k));
        most = greatest(most, NAME(coded_bytes)(projected, weights->ih.k));
        most = greatest(most, NAME(coded_bytes)(job->shard_sequences, greatest(weights->hh.k, weights->late.k)));
    }
    return most;
}

/* Lays one member's arena out over `memory` and returns the bytes that the whole team's takes. */
static int64_t NAME(arrange)(const packseq_job *job, char *memory, int32_t direction, int32_t member,
                             NAME(arena) * arena) {
    const packseq_network *net = job->network;
    const int64_t padded = NAME(padded)(net), gate_row = NAME(gate_row)(net);
    const int64_t narrow = round_up(net->state, 2 * LANES);
    const int64_t scratch = net->directions[0].late.n_panels ? job->shard_sequences : 0;
    const int64_t offsets = job->shard_rows ? job->steps : 0;
    int64_t at = 0;
#define TAKE(field, mine, count, type) \
    do { \
        if (mine) arena->field = (type *)(memory + at); \
        at += round_up((count) * (int64_t)sizeof(type), 64); \
    } while (0)
    TAKE(spill, 1, job->shard_rows * net->n_directions * net->state, REAL);
    for (int32_t d = 0; d < job->abreast; d++) {
        TAKE(gates, d == direction, job->block_rows * gate_row, REAL);
        TAKE(cell, d == direction, job->shard_sequences * padded, REAL);
        TAKE(hidden, d == direction, scratch * padded, REAL);
        TAKE(narrow, d == direction, scratch * narrow, REAL);
    }
    for (int32_t i = 0; i < job->team; i++) {
        TAKE(zeros, i == member, net->state, REAL);
        TAKE(steps, i == member, offsets, int64_t);
        TAKE(x, i == member, job->block_rows, const REAL *);
        TAKE(h, i == member, job->shard_sequences, const REAL *);
        TAKE(coded, i == member, NAME(most_coded_bytes)(job), char);
    }
#undef TAKE
    return at;
}

static int64_t NAME(workspace)(const packseq_job *job) {
    NAME(arena) unused;
    return NAME(arrange)(job, NULL, 0, 0, &unused);
}

/* ---- the team ---- */

/* A projection's columns are cut by themselves. */
static void NAME(set_columns)(NAME(walk) * w) {
    const packseq_network *net = w->job->network;
    int64_t from = w->from, to = w->to;
    if (packseq_cells[net->cell].late == PACKSEQ_PROJECTION && net->directions[0].late.n_panels) {
        from = net->directions[0].late.n_panels * w->member / w->members;
        to = net->directions[0].late.n_panels * (w->member + 1) / w->members;
    }
    w->column = from * 2 * LANES;
    w->columns = least(to * 2 * LANES, net->state) - w->column;
}

/* What falls to this member of the crew. */
static void NAME(take_part)(NAME(walk) * w) {
    const int64_t blocks = blocks_of(w->job->network->hidden, LANES);
    w->abreast = w->crew.size < w->job->abreast ? 1 : w->job->abreast;
    const int32_t lane = w->crew.rank % w->abreast;
    w->member = w->crew.rank / w->abreast;
    w->members = (w->crew.size - lane + w->abreast - 1) / w->abreast;
    w->from = blocks * w->member / w->members;
    w->to = blocks * (w->member + 1) / w->members;
    w->barrier = &w->job->barriers[w->abreast > 1 ? 1 + lane : 0];
    NAME(set_columns)(w);
}

/* For what the other members of a direction give. */
static void NAME(wait)(NAME(walk) * w) { barrier_wait(w->job, w->barrier, w->members, &w->crew); }

/* The same, before a step, where a member who was late may leave: all that a step needs is in memory that all share, so
 * the others can share its part. Directions abreast wait until their layer's end. Returns whether this one stays. */
static int NAME(wait_before_step)(NAME(walk) * w) {
    if (w->abreast > 1)
        NAME(wait)(w);
    else if (regroup(w->job, w->barrier, &w->crew) && w->crew.size)
        NAME(take_part)(w);
    return w->crew.size > 0;
}

/* ---- products ---- */

/* The columns of this member's blocks; the last block may lack a panel. */
static NAME(product) NAME(own_panels)(const NAME(walk) * w, const packseq_matrix *matrix) {
    return (NAME(product)){
        .weights = matrix,
        .from = w->from * matrix->panels_per_block,
        .to = least(w->to * matrix->panels_per_block, matrix->n_panels),
        .last_first = w->last_first,
        .coded = w->arena.coded,
    };
}

/* gates += W h, for m rows of h. */
static void NAME(add_product)(const NAME(walk) * w, const packseq_matrix *matrix, const REAL *const *h, int64_t m,
                              REAL *gates) {
    if (m == 0) return;
    NAME(product) x = NAME(own_panels)(w, matrix);
    x.a = h;
    x.rows = m;
    x.start = x.c = gates;
    x.start_stride = x.c_stride = w->gate_row;
    NAME(multiply)(&x);
}

/* n += U_n (r h), when all members have their part of r h in `hidden`. */
static void NAME(add_reset_product)(NAME(walk) * w, REAL *gates, int64_t m) {
    const REAL *rows[MAX_ROWS]; /* of newcomers too: r may be NaN, and NaN times 0 is not 0 */
    NAME(wait)(w);
    for (int64_t done = 0; done < m; done += MAX_ROWS) {
        const int64_t some = least(MAX_ROWS, m - done);
        for (int64_t r = 0; r < some; r++) rows[r] = w->arena.hidden + (done + r) * w->padded;
        NAME(add_product)(w, &w->weights->late, rows, some, gates + done * w->gate_row);
    }
}

/* h = W_hr hidden, this member's columns, when all members have their part of `hidden`. */
static void NAME(narrow)(NAME(walk) * w, int64_t t, int64_t m) {
    const packseq_matrix *matrix = &w->weights->late;
    const int64_t from = w->column / (2 * LANES), to = round_up(w->column + w->columns, 2 * LANES) / (2 * LANES);
    const int64_t stride = matrix->n_panels * 2 * LANES;
    NAME(wait)(w);
    for (int64_t r = 0; r < m; r++) {
        w->arena.h[r] = w->arena.hidden + r * w->padded; /* h of the step before is not needed any more */
        memset(w->arena.narrow + r * stride + w->column, 0, (size_t)(to - from) * 2 * VECTOR_BYTES);
    }
    NAME(multiply)(&(NAME(product)){
        .weights = matrix,
        .from = from,
        .to = to,
        .a = w->arena.h,
        .rows = m,
        .start = w->arena.narrow,
        .start_stride = stride,
        .c = w->arena.narrow,
        .c_stride = stride,
        .coded = w->arena.coded,
    });
    for (int64_t r = 0; r < m; r++)
        memcpy(NAME(row)(&w->output, t, w->first + r) + w->column, w->arena.narrow + r * stride + w->column,
               (size_t)w->columns * sizeof(REAL));
}
