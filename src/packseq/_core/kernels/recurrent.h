/* The time loop: a shard of sequences through all layers and directions.
 *
 * The output is the state: h of the step before is read where it was written. So the rows of a step are
 * pointers (h), which start at h0 and move on as their sequence does; the same pointers serve both
 * directions, packed and padded outputs, and end as the last state of every sequence.
 */

typedef struct {
    REAL *gates;    /* [block_rows][gate row] */
    REAL *cell;     /* [shard_sequences][blocks * 2U]: LSTM's c */
    REAL *hidden;   /* [shard_sequences][blocks * 2U]: what `second` multiplies */
    REAL *narrow;   /* [shard_sequences][panels * 2U]: what the projection gives */
    REAL *zeros;    /* [R]: a missing h0 */
    REAL *spill;    /* [shard_rows][D * R]: every other layer's output */
    int64_t *steps; /* [T]: where a step begins in spill */
    const REAL **x; /* [block_rows] */
    const REAL **h; /* [shard_sequences] */
} NAME(arena);

/* One direction of one layer over one shard, as one member of a team sees it. */
typedef struct {
    const packseq_job *job;
    const packseq_direction *weights;
    NAME(arena) arena;
    packseq_rows input, output;
    int64_t first, width, steps; /* sequences first .. first + width, the longest of `steps` */
    int64_t begun;               /* the first so many have a state; that of the others is 0 still */
    int64_t from, to;            /* this member's blocks of hidden units, */
    int64_t column, columns;     /* and its columns of the state */
    int64_t state_index;         /* layer * D + direction */
    int32_t reverse, backwards, member, members;
    packseq_barrier *barrier;
} NAME(walk);

static int64_t NAME(gate_row)(const packseq_network *net) { return gate_row_vectors(net, LANES) * LANES; }

static REAL *NAME(row)(const packseq_rows *rows, int64_t t, int64_t r) {
    const int64_t step = rows->offsets ? rows->offsets[t] * rows->row_stride : t * rows->step_stride;
    return (REAL *)rows->base + step + (rows->order ? rows->order[r] : r) * rows->row_stride;
}

/* Sequences of first .. first + width that have a step t. */
static int64_t NAME(alive)(const packseq_job *job, int64_t t, int64_t first, int64_t width) {
    if (!job->batch_sizes) return width;
    return greatest(0, least(job->batch_sizes[t] - first, width));
}

/* Lays one member's arena out over `memory` and returns the bytes that the whole team's takes. */
static int64_t NAME(arrange)(const packseq_job *job, char *memory, int32_t direction, int32_t member,
                             NAME(arena) * arena) {
    const packseq_network *net = job->network;
    const int64_t padded = blocks_of(net->hidden, LANES) * 2 * LANES;
    const int64_t gate_row = NAME(gate_row)(net);
    const int64_t narrow = round_up(net->state, 2 * LANES);
    const int64_t scratch = net->directions[0].second.n_panels ? job->shard_sequences : 0;
    const int64_t offsets = job->shard_rows ? job->steps : 0;
    int64_t at = 0;
#define TAKE(field, mine, count, type)                          \
    do {                                                        \
        if (mine) arena->field = (type *)(memory + at);         \
        at += round_up((count) * (int64_t)sizeof(type), 64);    \
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
    }
#undef TAKE
    return at;
}

static int64_t NAME(workspace)(const packseq_job *job) {
    NAME(arena) unused;
    return NAME(arrange)(job, NULL, 0, 0, &unused);
}

static inline void NAME(store)(REAL *to, V v, int64_t room) {
    if (room >= LANES) {
        *(VU *)to = v;
    } else {
        for (int64_t i = 0; i < room; i++) to[i] = v[i];
    }
}

static inline V NAME(load)(const REAL *from, int64_t room) {
    if (room >= LANES) return *(const VU *)from;
    V v = NAME(splat)(0);
    for (int64_t i = 0; i < room; i++) v[i] = from[i];
    return v;
}

/* The gates of this member's blocks, of m rows of step t, become h, and c. The last block may have no second half:
 * what lies in its place is computed with and not used.
 *
 * One loop, not two: constants that the registers do not hold are loaded anew wherever an inner loop begins. A team
 * may have more members than blocks. */
#define EACH_BLOCK(r, b) \
    for (int64_t r = 0, b = w->from; r < m && b < w->to; b + 1 < w->to ? b++ : (r++, b = w->from))

static void NAME(lstm_gates)(NAME(walk) * w, int64_t t, const REAL *gates, int64_t m) {
    const int64_t hidden = w->job->network->hidden, gate_row = NAME(gate_row)(w->job->network);
    const int64_t padded = blocks_of(hidden, LANES) * 2 * LANES;
    const int projected = w->weights->second.n_panels > 0;
    /* Two passes: tanh(c) waits for c, and in one pass everything behind it would too (2 to 5 % of a layer of 4
     * rows, H 128 and 256). */
    EACH_BLOCK(r, b) {
        const V *gate = (const V *)(gates + r * gate_row) + b * 8;
        V *c = (V *)(w->arena.cell + r * padded) + b * 2;
        V x[] = {gate[0], gate[1], gate[2], gate[4], gate[5], gate[6]};
        NAME(squash)(6, 0x24, x);
        c[0] = x[0] * x[2] + x[1] * c[0];
        c[1] = x[3] * x[5] + x[4] * c[1];
    }
    EACH_BLOCK(r, b) {
        const int64_t unit = b * 2 * LANES;
        const V *gate = (const V *)(gates + r * gate_row) + b * 8;
        const V *c = (const V *)(w->arena.cell + r * padded) + b * 2;
        REAL *h = projected ? w->arena.hidden + r * padded : NAME(row)(&w->output, t, w->first + r);
        V x[] = {gate[3], c[0], gate[7], c[1]};
        NAME(squash)(4, 0xa, x);
        NAME(store)(h + unit, x[0] * x[1], hidden - unit);
        NAME(store)(h + unit + LANES, x[2] * x[3], hidden - unit - LANES);
    }
}

/* A GRU's block is r z n n | r z m m, in vectors; two of each, for two vectors of units. */

static void NAME(gru_gates)(NAME(walk) * w, REAL *gates, int64_t m) {
    const int64_t gate_row = NAME(gate_row)(w->job->network);
    EACH_BLOCK(r, b) {
        V *gate = (V *)(gates + r * gate_row) + b * 8;
        V x[] = {gate[0], gate[1], gate[4], gate[5]};
        NAME(squash)(4, 0, x);
        gate[2] += x[0] * gate[6];
        gate[3] += x[2] * gate[7];
        gate[1] = x[1];
        gate[5] = x[3];
    }
}

/* First half of a GRU that resets before its product: r * h, and z kept in place of its gate. */
static void NAME(gru_reset)(NAME(walk) * w, REAL *gates, int64_t m) {
    const int64_t hidden = w->job->network->hidden, gate_row = NAME(gate_row)(w->job->network);
    const int64_t padded = blocks_of(hidden, LANES) * 2 * LANES;
    EACH_BLOCK(r, b) {
        const int64_t unit = b * 2 * LANES;
        const REAL *before = w->arena.h[r] + unit;
        V *gate = (V *)(gates + r * gate_row) + b * 8;
        V *reset = (V *)(w->arena.hidden + r * padded) + b * 2;
        V x[] = {gate[0], gate[1], gate[4], gate[5]};
        NAME(squash)(4, 0, x);
        reset[0] = x[0] * NAME(load)(before, hidden - unit);
        reset[1] = x[2] * NAME(load)(before + LANES, hidden - unit - LANES);
        gate[1] = x[1];
        gate[5] = x[3];
    }
}

/* Both GRUs' end: n is complete, z is in its gate's place. */
static void NAME(gru_update)(NAME(walk) * w, int64_t t, const REAL *gates, int64_t m) {
    const int64_t hidden = w->job->network->hidden, gate_row = NAME(gate_row)(w->job->network);
    EACH_BLOCK(r, b) {
        const V *gate = (const V *)(gates + r * gate_row) + b * 8;
        REAL *h = NAME(row)(&w->output, t, w->first + r);
        V fresh[] = {gate[2], gate[3]};
        NAME(squash)(2, 3, fresh);
        for (int j = 0; j < 2; j++) {
            const int64_t unit = (b * 2 + j) * LANES;
            const V before = NAME(load)(w->arena.h[r] + unit, hidden - unit);
            NAME(store)(h + unit, fresh[j] + gate[1 + 4 * j] * (before - fresh[j]), hidden - unit);
        }
    }
}

static void NAME(rnn_gates)(NAME(walk) * w, int64_t t, const REAL *gates, int64_t m) {
    const int64_t hidden = w->job->network->hidden, gate_row = NAME(gate_row)(w->job->network);
    const int rectified = w->job->network->cell == PACKSEQ_RNN_RELU;
    EACH_BLOCK(r, b) {
        const int64_t unit = b * 2 * LANES;
        const V *gate = (const V *)(gates + r * gate_row) + b * 2;
        REAL *h = NAME(row)(&w->output, t, w->first + r);
        V x[] = {gate[0], gate[1]};
        if (rectified) {
            x[0] = NAME(relu)(x[0]);
            x[1] = NAME(relu)(x[1]);
        } else {
            NAME(squash)(2, 3, x);
        }
        NAME(store)(h + unit, x[0], hidden - unit);
        NAME(store)(h + unit + LANES, x[1], hidden - unit - LANES);
    }
}

static void NAME(gates)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m) {
    switch (w->job->network->cell) {
    case PACKSEQ_LSTM:
        NAME(lstm_gates)(w, t, gates, m);
        break;
    case PACKSEQ_GRU:
        NAME(gru_gates)(w, gates, m);
        NAME(gru_update)(w, t, gates, m);
        break;
    case PACKSEQ_GRU_RESET_BEFORE:
        NAME(gru_reset)(w, gates, m);
        break;
    default:
        NAME(rnn_gates)(w, t, gates, m);
    }
}

/* The columns of this member's blocks; the last block may lack a panel. */
static NAME(product) NAME(own_panels)(const NAME(walk) * w, const packseq_matrix *matrix) {
    return (NAME(product)){
        .weights = matrix,
        .from = w->from * matrix->panels_per_block,
        .to = least(w->to * matrix->panels_per_block, matrix->n_panels),
        .backwards = w->backwards,
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
    x.start_stride = x.c_stride = NAME(gate_row)(w->job->network);
    NAME(multiply)(&x);
}

/* out = W_hr hidden, this member's columns. */
static void NAME(narrow)(NAME(walk) * w, int64_t t, int64_t m) {
    const packseq_matrix *matrix = &w->weights->second;
    const int64_t from = w->column / (2 * LANES), to = round_up(w->column + w->columns, 2 * LANES) / (2 * LANES);
    const int64_t stride = matrix->n_panels * 2 * LANES, padded = blocks_of(w->job->network->hidden, LANES) * 2 * LANES;
    for (int64_t r = 0; r < m; r++) {
        w->arena.h[r] = w->arena.hidden + r * padded; /* h of the step before is not needed any more */
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
    });
    for (int64_t r = 0; r < m; r++)
        memcpy(NAME(row)(&w->output, t, w->first + r) + w->column, w->arena.narrow + r * stride + w->column,
               (size_t)w->columns * sizeof(REAL));
}

/* n += U (r * h), then h. */
static void NAME(reset_product)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m) {
    const packseq_network *net = w->job->network;
    const int64_t padded = blocks_of(net->hidden, LANES) * 2 * LANES, gate_row = NAME(gate_row)(net);
    const REAL *rows[MAX_ROWS]; /* of newcomers too: r may be NaN, and NaN times 0 is not 0 */
    for (int64_t done = 0; done < m; done += MAX_ROWS) {
        const int64_t some = least(MAX_ROWS, m - done);
        for (int64_t r = 0; r < some; r++) rows[r] = w->arena.hidden + (done + r) * padded;
        NAME(add_product)(w, &w->weights->second, rows, some, gates + done * gate_row);
    }
    NAME(gru_update)(w, t, gates, m);
}

/* Sequences that begin here come last, in both directions: forward all begin at once, and in reverse a step's rows
 * are those of the step before and the newcomers. */
static void NAME(step)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m) {
    const int32_t cell = w->job->network->cell;
    NAME(add_product)(w, &w->weights->hh, w->arena.h, least(m, w->begun), gates);
    NAME(gates)(w, t, gates, m);
    w->backwards ^= 1; /* begin with the weights that this step ended with, so that a cache keeps its part of them */
    if (w->weights->second.n_panels) {
        barrier_wait(w->barrier, w->members);
        if (cell == PACKSEQ_LSTM)
            NAME(narrow)(w, t, m);
        else
            NAME(reset_product)(w, t, gates, m);
    }
    for (int64_t r = 0; r < m; r++) w->arena.h[r] = NAME(row)(&w->output, t, w->first + r);
    w->begun = greatest(w->begun, m);
}

/* Gate rows of n input rows: bias plus W_ih x, in slices of rows that L2 keeps while all panels pass. */
static void NAME(project)(NAME(walk) * w, int64_t n) {
    const int32_t cell = w->job->network->cell;
    const packseq_matrix *ih = &w->weights->ih;
    const int64_t gate_row = NAME(gate_row)(w->job->network);
    const int64_t slice = greatest(MAX_ROWS * 4, (int64_t)(262144 / sizeof(REAL)) / ih->k / MAX_ROWS * MAX_ROWS);
    const REAL *bias = (const REAL *)w->weights->bias;
    NAME(product) x = NAME(own_panels)(w, ih);
    x.start = bias;
    x.c_stride = gate_row;
    for (int64_t row = 0; row < n; row += slice) {
        x.a = w->arena.x + row;
        x.rows = least(slice, n - row);
        x.c = w->arena.gates + row * gate_row;
        NAME(multiply)(&x);
    }
    if (cell != PACKSEQ_GRU) return;
    for (int64_t i = 0; i < n; i++) { /* m has no input part */
        for (int64_t block = w->from; block < w->to; block++) {
            V *gate = (V *)(w->arena.gates + i * gate_row) + block * 8;
            gate[6] = ((const V *)bias)[block * 8 + 6];
            gate[7] = ((const V *)bias)[block * 8 + 7];
        }
    }
}

static void NAME(begin)(NAME(walk) * w) {
    const packseq_job *job = w->job;
    const int64_t hidden = job->network->hidden, state = job->network->state;
    const int64_t padded = blocks_of(hidden, LANES) * 2 * LANES;
    const int64_t unit = w->from * 2 * LANES, units = (w->to - w->from) * 2 * LANES;
    memset(w->arena.zeros, 0, (size_t)state * sizeof(REAL));
    w->begun = job->h0 || !w->weights->finite ? w->width : 0;
    for (int64_t r = 0; r < w->width; r++) {
        const int64_t caller = job->order ? job->order[w->first + r] : w->first + r;
        const int64_t index = w->state_index * job->batch + caller;
        w->arena.h[r] = job->h0 ? (const REAL *)job->h0 + index * state : w->arena.zeros;
        if (job->network->cell != PACKSEQ_LSTM) continue;
        REAL *c = w->arena.cell + r * padded + unit;
        memset(c, 0, (size_t)units * sizeof(REAL));
        if (job->c0)
            memcpy(c, (const REAL *)job->c0 + index * hidden + unit,
                   (size_t)least(units, hidden - unit) * sizeof(REAL));
    }
}

/* This member's columns of the last states. */
static void NAME(finish)(NAME(walk) * w) {
    const packseq_job *job = w->job;
    const int64_t hidden = job->network->hidden, state = job->network->state;
    const int64_t padded = blocks_of(hidden, LANES) * 2 * LANES;
    const int64_t unit = w->from * 2 * LANES, units = least(w->to * 2 * LANES, hidden) - unit;
    for (int64_t r = 0; r < w->width; r++) {
        const int64_t caller = job->order ? job->order[w->first + r] : w->first + r;
        const int64_t index = w->state_index * job->batch + caller;
        memcpy((REAL *)job->hn + index * state + w->column, w->arena.h[r] + w->column,
               (size_t)w->columns * sizeof(REAL));
        if (job->network->cell == PACKSEQ_LSTM)
            memcpy((REAL *)job->cn + index * hidden + unit, w->arena.cell + r * padded + unit,
                   (size_t)units * sizeof(REAL));
    }
}

static void NAME(walk_steps)(NAME(walk) * w) {
    const int64_t gate_row = NAME(gate_row)(w->job->network);
    NAME(begin)(w);
    for (int64_t done = 0, count; done < w->steps; done += count) {
        int64_t rows = 0;
        for (count = 0; done + count < w->steps; count++) {
            const int64_t t = w->reverse ? w->steps - 1 - done - count : done + count;
            const int64_t m = NAME(alive)(w->job, t, w->first, w->width);
            if (rows + m > w->job->block_rows) break;
            for (int64_t r = 0; r < m; r++) w->arena.x[rows++] = NAME(row)(&w->input, t, w->first + r);
        }
        NAME(project)(w, rows);
        REAL *gates = w->arena.gates;
        for (int64_t i = 0; i < count; i++) {
            const int64_t t = w->reverse ? w->steps - 1 - done - i : done + i;
            const int64_t m = NAME(alive)(w->job, t, w->first, w->width);
            if (done + i) barrier_wait(w->barrier, w->members); /* for all columns of h of the step before */
            NAME(step)(w, t, gates, m);
            gates += m * gate_row;
        }
    }
    NAME(finish)(w);
}

/* The spilled layers are packed by the shard's own steps. Returns how many steps the shard has. */
static int64_t NAME(plan_spill)(const packseq_job *job, NAME(arena) * arena, int64_t first, int64_t width,
                                packseq_rows *spill) {
    const int64_t row = job->network->n_directions * job->network->state;
    int64_t t = 0;
    for (int64_t at = -first; t < job->steps; t++) {
        const int64_t m = NAME(alive)(job, t, first, width);
        if (m == 0) break;
        if (job->shard_rows) arena->steps[t] = at;
        at += m;
    }
    *spill = (packseq_rows){.base = arena->spill, .offsets = arena->steps, .row_stride = row};
    return t;
}

/* ---- padding ----
 *
 * It becomes 0 before all else, so that parts of it are taken by whoever is there already, and so that a step that is
 * padding for the most part can be cleared as one (Zipf, B 256: 0.8 ms for 16 MB, row by row 1.2). */

#define CLEAR_BYTES (1 << 17)

static int64_t NAME(output_width)(const packseq_network *net) { return net->n_directions * net->state; }

static void NAME(clear_step)(const packseq_job *job, int64_t t) {
    const int64_t width = NAME(output_width)(job->network);
    const size_t bytes = (size_t)width * sizeof(REAL);
    const int64_t alive = t < job->steps ? NAME(alive)(job, t, 0, job->batch) : 0;
    if (2 * alive < job->batch && job->output.row_stride == width) {
        memset((REAL *)job->output.base + t * job->output.step_stride, 0, (size_t)job->batch * bytes);
    } else {
        for (int64_t r = alive; r < job->batch; r++) memset(NAME(row)(&job->output, t, r), 0, bytes);
    }
}

/* Rows of one sequence that lie one after the other. */
static void NAME(clear_sequence)(const packseq_job *job, int64_t r) {
    const int64_t length = length_of(job, r), width = NAME(output_width)(job->network);
    if (length < job->padded_steps)
        memset(NAME(row)(&job->output, length, r), 0, (size_t)((job->padded_steps - length) * width) * sizeof(REAL));
}

static void NAME(clear_padding)(packseq_job *job) {
    const int64_t width = NAME(output_width)(job->network);
    const int by_sequence = job->output.step_stride == width;
    const int64_t lines = by_sequence ? job->batch : job->padded_steps, across = by_sequence ? job->padded_steps : job->batch;
    const int64_t part = greatest(1, CLEAR_BYTES / (int64_t)sizeof(REAL) / width / across);
    const int64_t parts = (lines + part - 1) / part;
    int64_t taken;
    while ((taken = __atomic_fetch_add(&job->clearing, 1, __ATOMIC_RELAXED)) < parts) {
        for (int64_t i = taken * part; i < least(lines, (taken + 1) * part); i++)
            by_sequence ? NAME(clear_sequence)(job, i) : NAME(clear_step)(job, i);
        __atomic_add_fetch(&job->cleared, 1, __ATOMIC_RELEASE);
    }
    for (int spins = 0; __atomic_load_n(&job->cleared, __ATOMIC_ACQUIRE) < parts; spins++) relax_or_yield(spins);
}
#undef CLEAR_BYTES

/* A projection's columns are cut by themselves. */
static void NAME(set_columns)(NAME(walk) * w) {
    const packseq_network *net = w->job->network;
    int64_t from = w->from, to = w->to;
    if (net->cell == PACKSEQ_LSTM && net->directions[0].second.n_panels) {
        from = net->directions[0].second.n_panels * w->member / w->members;
        to = net->directions[0].second.n_panels * (w->member + 1) / w->members;
    }
    w->column = from * 2 * LANES;
    w->columns = least(to * 2 * LANES, net->state) - w->column;
}

/* All layers and directions of one shard; member 0 of 1, or one of a team that shares it. */
static void NAME(run_shard)(packseq_job *job, int64_t shard, char *memory, int32_t member) {
    const packseq_network *net = job->network;
    const int32_t directions = net->n_directions, abreast = job->abreast;
    const int64_t blocks = blocks_of(net->hidden, LANES);
    NAME(walk) w = {.job = job, .first = job->bounds[shard], .backwards = job->backwards};
    packseq_rows spill;
    w.width = job->bounds[shard + 1] - w.first;
    w.members = job->team / abreast;
    w.member = member / abreast;
    w.from = blocks * w.member / w.members;
    w.to = blocks * (w.member + 1) / w.members;
    w.barrier = &job->barriers[1 + member % abreast];
    NAME(arrange)(job, memory, member % abreast, member, &w.arena);
    w.steps = NAME(plan_spill)(job, &w.arena, w.first, w.width, &spill);
    w.output = job->input;
    NAME(set_columns)(&w);
    for (int32_t layer = 0; layer < net->n_layers; layer++) {
        if (shard || layer) barrier_wait(&job->barriers[0], job->team); /* for what the layer before gave */
        w.input = w.output;
        w.output = (net->n_layers - 1 - layer) % 2 ? spill : job->output;
        const packseq_rows both = w.output;
        for (int32_t d = member % abreast; d < directions; d += abreast) {
            w.state_index = (int64_t)layer * directions + d;
            w.weights = &net->directions[w.state_index];
            if (d >= abreast && w.weights->second.n_panels)
                barrier_wait(w.barrier, w.members); /* for who still reads `hidden` of the direction before */
            w.reverse = d;
            w.output.base = (REAL *)both.base + d * net->state;
            NAME(walk_steps)(&w);
        }
        w.output = both;
    }
}

static void NAME(run)(packseq_job *job, int32_t worker) {
    const uint64_t mode = enter_kernel_mode();
    for (size_t at = 0; at < sizeof *job; at += 64) __builtin_prefetch((const char *)job + at); /* another core has it */
    if (job->padded_steps) NAME(clear_padding)(job);
    if (job->team > 1) {
        for (int64_t s = 0; s < job->n_shards; s++) NAME(run_shard)(job, s, job->workspace, worker);
    } else {
        char *memory = job->workspace + worker * job->workspace_stride;
        int64_t s;
        while ((s = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->n_shards)
            NAME(run_shard)(job, s, memory, 0);
    }
    leave_kernel_mode(mode);
}
