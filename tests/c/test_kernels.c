/* The kernels beside plain loops in double: every table this machine can run, and AVX-512's layout on any.
 *
 * No Python: this is what is cross-compiled, run by an emulator, and built with sanitizers. All arrays are
 * exactly as large as kernels.h says, so that these see every step over an end.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "workers.h"

extern const packseq_kernels packseq_wide;

enum { MOST_CELLS = 4, MOST_BATCH = 15, MOST_STEPS = 9 };

/* ---- a network, as its weights come: [gate * H + unit][K], in double ---- */

typedef struct {
    const char *name;
    int32_t cell, gates, activation;
    int projected;
} kind;

static const kind KINDS[] = {
    {"LSTM", PACKSEQ_LSTM, 4, PACKSEQ_SIGMOID, 0},
    {"LSTM, hard", PACKSEQ_LSTM, 4, PACKSEQ_HARD_SIGMOID, 0},
    {"LSTM, hard 0.2", PACKSEQ_LSTM, 4, PACKSEQ_HARD_SIGMOID_02, 0},
    {"LSTM with projection", PACKSEQ_LSTM, 4, PACKSEQ_SIGMOID, 1},
    {"LSTM with peepholes", PACKSEQ_LSTM_PEEPHOLE, 4, PACKSEQ_SIGMOID, 0},
    {"LSTM with peepholes, hard 0.2", PACKSEQ_LSTM_PEEPHOLE, 4, PACKSEQ_HARD_SIGMOID_02, 0},
    {"LSTM with peepholes and projection, hard", PACKSEQ_LSTM_PEEPHOLE, 4, PACKSEQ_HARD_SIGMOID, 1},
    {"GRU", PACKSEQ_GRU, 3, PACKSEQ_SIGMOID, 0},
    {"GRU, hard", PACKSEQ_GRU, 3, PACKSEQ_HARD_SIGMOID, 0},
    {"GRU, hard 0.2", PACKSEQ_GRU, 3, PACKSEQ_HARD_SIGMOID_02, 0},
    {"GRU, reset before", PACKSEQ_GRU_RESET_BEFORE, 3, PACKSEQ_SIGMOID, 0},
    {"GRU, reset before, hard", PACKSEQ_GRU_RESET_BEFORE, 3, PACKSEQ_HARD_SIGMOID, 0},
    {"RNN, tanh", PACKSEQ_RNN_TANH, 1, PACKSEQ_SIGMOID, 0},
    {"RNN, relu", PACKSEQ_RNN_RELU, 1, PACKSEQ_SIGMOID, 0},
};

typedef struct {
    double *ih, *hh, *hr, *bias_ih, *bias_hh;
    double *peephole; /* of gate i, f, g, o, as the biases; g has none */
    int64_t width;
} weights;

typedef struct {
    kind kind;
    int64_t input, hidden, state;
    int32_t layers, directions;
    weights cells[MOST_CELLS]; /* [L][D] */
} network;

static void *allocate(size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes ? bytes : 1)) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    return memory;
}

/* In (-size, size), and a float: both precisions are given the same numbers. */
static double random_number(double size) {
    static uint64_t seed = 1;
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(((double)(seed >> 40) / (double)(1 << 23) - 1) * size);
}

static double *random_numbers(int64_t count, double size) {
    double *numbers = allocate((size_t)count * sizeof(double));
    for (int64_t i = 0; i < count; i++) numbers[i] = random_number(size);
    return numbers;
}

static network make_network(kind kind, int64_t input, int64_t hidden, int32_t layers, int32_t directions) {
    network net = {kind, input, hidden, kind.projected ? hidden / 2 + 1 : hidden, layers, directions, {{0}}};
    const double size = 1 / sqrt((double)hidden);
    for (int32_t i = 0; i < layers * directions; i++) {
        weights *w = &net.cells[i];
        w->width = i < directions ? input : directions * net.state;
        w->ih = random_numbers(kind.gates * hidden * w->width, size);
        w->hh = random_numbers(kind.gates * hidden * net.state, size);
        w->hr = random_numbers(net.state * hidden, size);
        w->bias_ih = random_numbers(kind.gates * hidden, size);
        w->bias_hh = random_numbers(kind.gates * hidden, size);
        w->peephole = random_numbers(kind.gates * hidden, 1);
        if (kind.gates == 4) memset(w->peephole + 2 * hidden, 0, (size_t)hidden * sizeof(double));
    }
    return net;
}

static void free_network(network *net) {
    for (int32_t i = 0; i < net->layers * net->directions; i++) {
        weights *w = &net->cells[i];
        free(w->ih), free(w->hh), free(w->hr), free(w->bias_ih), free(w->bias_hh), free(w->peephole);
    }
}

/* ---- what it computes: one sequence at a time ---- */

static double gate(int32_t activation, double x) {
    if (activation == PACKSEQ_HARD_SIGMOID) return fmin(fmax(x + 3, 0), 6) / 6;
    if (activation == PACKSEQ_HARD_SIGMOID_02) return fmax(0, fmin(1, 0.2 * x + 0.5));
    return 1 / (1 + exp(-x));
}

/* What a number becomes in a row of this largest, in 8 bits. */
static float coded(double x, float most) { return most < 0x1p-100f ? 0 : rintf((float)x * (127 / most)); }

static float largest(const double *row, int64_t k) {
    float most = 0;
    for (int64_t i = 0; i < k; i++) most = fmaxf(most, fabsf((float)row[i]));
    return most;
}

static int in_int8; /* whether the products are */

static double dot(const double *w, int64_t row, const double *x, int64_t k) {
    double sum = 0;
    if (in_int8) {
        const float most_w = largest(w + row * k, k), most_x = largest(x, k);
        for (int64_t i = 0; i < k; i++) sum += coded(w[row * k + i], most_w) * coded(x[i], most_x);
        return sum * (most_w / 127) * (most_x / 127);
    }
    for (int64_t i = 0; i < k; i++) sum += w[row * k + i] * x[i];
    return sum;
}

/* One step: h and c become the next ones. */
static void cell_step(const network *net, const weights *w, const double *x, double *h, double *c) {
    const int64_t hidden = net->hidden, rows = net->kind.gates * hidden;
    double *from_input = allocate((size_t)rows * sizeof(double));
    double *from_state = allocate((size_t)rows * sizeof(double));
    double *next = allocate((size_t)hidden * sizeof(double));
    double *reset = allocate((size_t)hidden * sizeof(double));
    for (int64_t row = 0; row < rows; row++) {
        from_input[row] = dot(w->ih, row, x, w->width) + w->bias_ih[row];
        from_state[row] = dot(w->hh, row, h, net->state) + w->bias_hh[row];
    }
#define SUM(g) (from_input[(g) * hidden + u] + from_state[(g) * hidden + u])
#define GATE(g) gate(net->kind.activation, SUM(g))
#define PEEP(g, c) gate(net->kind.activation, SUM(g) + w->peephole[(g) * hidden + u] * (c))
    for (int64_t u = 0; u < hidden && net->kind.cell == PACKSEQ_GRU_RESET_BEFORE; u++) reset[u] = GATE(0) * h[u];
    for (int64_t u = 0; u < hidden; u++) {
        const int64_t n = 2 * hidden + u;
        double fresh;
        switch (net->kind.cell) {
        case PACKSEQ_LSTM:
            c[u] = GATE(1) * c[u] + GATE(0) * tanh(SUM(2));
            next[u] = GATE(3) * tanh(c[u]);
            break;
        case PACKSEQ_LSTM_PEEPHOLE:
            c[u] = PEEP(1, c[u]) * c[u] + PEEP(0, c[u]) * tanh(SUM(2));
            next[u] = PEEP(3, c[u]) * tanh(c[u]);
            break;
        case PACKSEQ_GRU:
            fresh = tanh(from_input[n] + GATE(0) * from_state[n]);
            next[u] = (1 - GATE(1)) * fresh + GATE(1) * h[u];
            break;
        case PACKSEQ_GRU_RESET_BEFORE:
            fresh = tanh(from_input[n] + dot(w->hh, n, reset, hidden) + w->bias_hh[n]);
            next[u] = (1 - GATE(1)) * fresh + GATE(1) * h[u];
            break;
        case PACKSEQ_RNN_TANH:
            next[u] = tanh(SUM(0));
            break;
        default:
            next[u] = fmax(SUM(0), 0);
        }
    }
#undef PEEP
#undef GATE
#undef SUM
    for (int64_t r = 0; r < net->state; r++) h[r] = net->kind.projected ? dot(w->hr, r, next, hidden) : next[r];
    free(from_input), free(from_state), free(next), free(reset);
}

/* x [steps][I] -> y [steps][D * R]; h [L * D][R] and c [L * D][H] become the last ones. */
static void run_sequence(const network *net, const double *x, int64_t steps, double *y, double *h, double *c) {
    const int64_t width = net->directions * net->state;
    double *below = allocate((size_t)(steps * width) * sizeof(double));
    for (int32_t i = 0; i < net->layers * net->directions; i++) {
        const int32_t direction = i % net->directions;
        if (i && !direction) {
            memcpy(below, y, (size_t)(steps * width) * sizeof(double));
            x = below;
        }
        for (int64_t s = 0; s < steps; s++) {
            const int64_t t = direction ? steps - 1 - s : s;
            cell_step(net, &net->cells[i], x + t * net->cells[i].width, h + i * net->state, c + i * net->hidden);
            memcpy(y + t * width + direction * net->state, h + i * net->state, (size_t)net->state * sizeof(double));
        }
    }
    free(below);
}

/* ---- the same network, as the kernels read it ---- */

/* Two vectors of a block, (gate, group of units) each, and the vector of the gate row they add to. */
typedef struct {
    int gate[2], group[2], to;
} panel;

typedef struct {
    int count, block_vectors;
    panel panels[4];
} order;

static const order LSTM_GATES = {
    4, 8, {{{0, 1}, {0, 0}, 0}, {{2, 3}, {0, 0}, 2}, {{0, 1}, {1, 1}, 4}, {{2, 3}, {1, 1}, 6}}};
static const order PROJECTION = {1, 2, {{{0, 0}, {0, 1}, 0}}};
static const order RNN_GATE = {1, 2, {{{0, 0}, {0, 1}, 0}}};
static const order GRU_INPUT = {3, 8, {{{0, 1}, {0, 0}, 0}, {{2, 2}, {0, 1}, 2}, {{0, 1}, {1, 1}, 4}}};
static const order GRU_STATE = {3, 8, {{{0, 1}, {0, 0}, 0}, {{2, 2}, {0, 1}, 6}, {{0, 1}, {1, 1}, 4}}};
static const order GRU_R_AND_Z = {2, 8, {{{0, 1}, {0, 0}, 0}, {{0, 1}, {1, 1}, 4}}};
static const order GRU_N = {1, 8, {{{2, 2}, {0, 1}, 2}}};

typedef struct {
    const packseq_kernels *table;
    enum packseq_format format;
    int64_t real_bytes, lanes;
} precision;

static const packseq_engine *engine_of(const precision *p) { return packseq_engine_of(p->table, p->format); }

static void put(const precision *p, void *array, int64_t i, double value) {
    if (p->real_bytes == 4)
        ((float *)array)[i] = (float)value;
    else
        ((double *)array)[i] = value;
}

static double get(const precision *p, const void *array, int64_t i) {
    return p->real_bytes == 4 ? (double)((const float *)array)[i] : ((const double *)array)[i];
}

static void *as_reals(const precision *p, const double *numbers, int64_t count) {
    void *reals = allocate((size_t)(count * p->real_bytes));
    for (int64_t i = 0; i < count; i++) put(p, reals, i, numbers[i]);
    return reals;
}

/* Lane `lane` of panel n: a row of int8, or zeros where there is none. */
static void pack_row(const precision *p, packseq_matrix *matrix, int64_t n, int64_t lane, const double *row) {
    const int64_t k = matrix->k, groups = (k + 3) / 4, at = n * 2 * p->lanes + lane;
    const float most = row ? largest(row, k) : 0;
    int32_t sum = 0;
    for (int64_t i = 0; i < 4 * groups; i++) {
        const int8_t q = (int8_t)(row && i < k ? coded(row[i], most) : 0);
        ((int8_t *)matrix->panels)[((n * groups + i / 4) * 2 * p->lanes + lane) * 4 + i % 4] = q;
        sum += q;
    }
    ((float *)matrix->scales)[at] = most < 0x1p-100f ? 0 : most / 127;
    ((int32_t *)matrix->sums)[at] = sum;
}

static packseq_matrix pack(const precision *p, const order *order, const double *rows, int64_t units, int64_t k) {
    const int64_t blocks = (units + 2 * p->lanes - 1) / (2 * p->lanes), columns = blocks * order->count * 2 * p->lanes;
    const int64_t rounded_k = p->format == PACKSEQ_INT8 ? (k + 3) / 4 : k; /* four of 8 bits where a float is */
    void *panels = allocate((size_t)(columns * rounded_k * p->real_bytes));
    int32_t *column = allocate((size_t)(blocks * order->count) * sizeof(int32_t));
    packseq_matrix matrix = {panels, column, k, 0, order->count, NULL, NULL};
    if (p->format == PACKSEQ_INT8) {
        matrix.scales = allocate((size_t)columns * sizeof(float));
        matrix.sums = allocate((size_t)columns * sizeof(int32_t));
    }
    for (int64_t i = 0; i < blocks * order->count; i++) {
        const panel *from = &order->panels[i % order->count];
        const int64_t block = i / order->count, n = matrix.n_panels;
        if ((2 * block + from->group[0]) * p->lanes >= units) continue; /* no unit at all: left out */
        column[n] = (int32_t)((block * order->block_vectors + from->to) * p->lanes);
        for (int64_t j = 0; j < (p->format == PACKSEQ_INT8 ? 1 : k) * 2 * p->lanes; j++) {
            const int64_t half = j / p->lanes % 2, unit = (2 * block + from->group[half]) * p->lanes + j % p->lanes;
            const int64_t row = from->gate[half] * units + unit;
            if (p->format == PACKSEQ_INT8)
                pack_row(p, &matrix, n, j, unit < units ? rows + row * k : NULL);
            else
                put(p, panels, n * k * 2 * p->lanes + j, unit < units ? rows[row * k + j / (2 * p->lanes)] : 0);
        }
        matrix.n_panels++;
    }
    return matrix;
}

static void free_matrix(packseq_matrix matrix) {
    free((void *)matrix.panels), free((void *)matrix.column);
    free((void *)matrix.scales), free((void *)matrix.sums);
}

static void pack_bias(const precision *p, const order *order, const double *bias, int64_t units, void *row) {
    const precision real = {p->table, p->real_bytes == 4 ? PACKSEQ_F32 : PACKSEQ_F64, p->real_bytes, p->lanes};
    const packseq_matrix matrix = pack(&real, order, bias, units, 1);
    for (int64_t i = 0; i < matrix.n_panels * 2 * p->lanes; i++)
        put(p, row, matrix.column[i / (2 * p->lanes)] + i % (2 * p->lanes), get(p, matrix.panels, i));
    free_matrix(matrix);
}

static packseq_direction pack_cell(const precision *p, const network *net, const weights *w) {
    const int32_t cell = net->kind.cell;
    const int64_t hidden = net->hidden, rows = net->kind.gates * hidden;
    const order *input = net->kind.gates == 4 ? &LSTM_GATES : net->kind.gates == 3 ? &GRU_INPUT : &RNN_GATE;
    const order *state = cell == PACKSEQ_GRU ? &GRU_STATE : cell == PACKSEQ_GRU_RESET_BEFORE ? &GRU_R_AND_Z : input;
    packseq_direction packed = {
        .ih = pack(p, input, w->ih, hidden, w->width),
        .hh = pack(p, state, w->hh, hidden, net->state),
        .finite = 1,
    };
    if (net->kind.projected) packed.late = pack(p, &PROJECTION, w->hr, net->state, hidden);
    if (cell == PACKSEQ_GRU_RESET_BEFORE) packed.late = pack(p, &GRU_N, w->hh, hidden, hidden);

    const int64_t blocks = (hidden + 2 * p->lanes - 1) / (2 * p->lanes);
    const size_t row_bytes = (size_t)(blocks * input->block_vectors * p->lanes * p->real_bytes);
    void *bias = memset(allocate(row_bytes), 0, row_bytes), *peephole = memset(allocate(row_bytes), 0, row_bytes);
    double *both = allocate((size_t)rows * sizeof(double));
    for (int64_t i = 0; i < rows; i++) {
        const int apart = cell == PACKSEQ_GRU && i >= 2 * hidden;
        both[i] = w->bias_ih[i] + (apart ? 0 : w->bias_hh[i]);
    }
    if (cell == PACKSEQ_GRU) pack_bias(p, &GRU_STATE, w->bias_hh, hidden, bias); /* for m; r and z come next */
    pack_bias(p, input, both, hidden, bias);
    free(both);
    packed.bias = bias;
    if (cell == PACKSEQ_LSTM_PEEPHOLE) pack_bias(p, input, w->peephole, hidden, peephole);
    packed.peephole = peephole;
    return packed;
}

static void free_cell(packseq_direction cell) {
    free_matrix(cell.ih), free_matrix(cell.hh), free_matrix(cell.late);
    free((void *)cell.bias), free((void *)cell.peephole);
}

/* ---- batches ---- */

/* Longest first; caller's index of sequence r is order[r]. States are in the caller's order. */
typedef struct {
    int plain; /* equal lengths, the caller's order, no first states: all of which may then be left out */
    int64_t batch, steps, rows;
    int64_t lengths[MOST_BATCH], order[MOST_BATCH];
    int64_t batch_sizes[MOST_STEPS], offsets[MOST_STEPS + 1];
    double *x; /* [B][T][I] */
    double *h0, *c0;
    double *y, *hn, *cn; /* y [B][T][D * R] */
} batch;

/* Lengths fall from MOST_STEPS by `fall` for each sequence; without a fall the batch is plain. */
static batch make_batch(const network *net, int64_t size, double fall) {
    const int64_t cells = net->layers * net->directions, width = net->directions * net->state;
    batch b = {.plain = fall == 0, .batch = size, .steps = MOST_STEPS};
    const double state_size = b.plain ? 0 : 1;
    b.x = random_numbers(size * b.steps * net->input, 2);
    b.h0 = random_numbers(cells * size * net->state, state_size);
    b.c0 = random_numbers(cells * size * net->hidden, state_size);
    b.y = allocate((size_t)(size * b.steps * width) * sizeof(double));
    b.hn = allocate((size_t)(cells * size * net->state) * sizeof(double));
    b.cn = allocate((size_t)(cells * size * net->hidden) * sizeof(double));
    memset(b.y, 0, (size_t)(size * b.steps * width) * sizeof(double));
    for (int64_t r = 0; r < size; r++) {
        b.lengths[r] = (int64_t)fmax(0, MOST_STEPS - floor(fall * (double)r));
        b.order[r] = b.plain ? r : (r * 2 + 1) % size; /* a permutation where size is odd */
        for (int64_t t = 0; t < b.lengths[r]; t++) b.batch_sizes[t] = r + 1;
    }
    for (int64_t t = 0; t < b.steps; t++) b.offsets[t + 1] = b.offsets[t] + b.batch_sizes[t];
    b.rows = b.offsets[b.steps];

    double *h = allocate((size_t)(cells * net->state) * sizeof(double));
    double *c = allocate((size_t)(cells * net->hidden) * sizeof(double));
    for (int64_t r = 0; r < size; r++) {
        const int64_t caller = b.order[r];
#define EACH_CELL(to, to_index, from, from_index, width) \
    for (int64_t i = 0; i < cells; i++) \
    memcpy((to) + (to_index) * (width), (from) + (from_index) * (width), (size_t)(width) * sizeof(double))
        EACH_CELL(h, i, b.h0, i * size + caller, net->state);
        EACH_CELL(c, i, b.c0, i * size + caller, net->hidden);
        run_sequence(net, b.x + r * b.steps * net->input, b.lengths[r], b.y + r * b.steps * width, h, c);
        EACH_CELL(b.hn, i * size + caller, h, i, net->state);
        EACH_CELL(b.cn, i * size + caller, c, i, net->hidden);
#undef EACH_CELL
    }
    free(h), free(c);
    return b;
}

static void free_batch(batch *b) { free(b->x), free(b->h0), free(b->c0), free(b->y), free(b->hn), free(b->cn); }

/* ---- one call ---- */

enum layout { PACKED, TIME_FIRST, BATCH_FIRST };

typedef struct {
    const char *name;
    enum layout layout;
    int64_t shards; /* 0: packseq_cut decides, for two threads */
    int32_t team, abreast;
    int32_t hasty; /* whoever comes last to a step leaves the team */
    int apart; /* each sequence's states in a place of its own */
} way;

static const way WAYS[] = {
    {"packed, one shard", PACKED, 1, 1, 1, 0, 0},
    {"packed, four shards", PACKED, 4, 1, 1, 0, 0},
    {"packed, team of 2", PACKED, 1, 2, 1, 0, 0},
    {"packed, four shards, states apart", PACKED, 4, 1, 1, 0, 1},
    {"packed, team of 2, states apart", PACKED, 1, 2, 1, 0, 1},
    {"packed, hasty team of 2, states apart", PACKED, 1, 2, 1, 1, 1},
    {"packed, team of 2, directions abreast", PACKED, 1, 2, 2, 0, 0},
    {"packed, 2 shards, team of 4", PACKED, 2, 4, 1, 0, 0},
    {"packed, 2 shards, team of 4, directions abreast", PACKED, 2, 4, 2, 0, 0},
    {"packed, hasty team of 2", PACKED, 1, 2, 1, 1, 0},
    {"packed, 2 shards, hasty team of 4", PACKED, 2, 4, 1, 1, 0},
    {"packed, 2 shards, hasty team of 4, directions abreast", PACKED, 2, 4, 2, 1, 0},
    {"padded, hasty team of 3", TIME_FIRST, 1, 3, 1, 1, 0},
    {"padded, three shards", TIME_FIRST, 3, 1, 1, 0, 0},
    {"padded, team of 2", TIME_FIRST, 1, 2, 1, 0, 0},
    {"padded, cut for two threads", TIME_FIRST, 0, 1, 1, 0, 0},
    {"batch first, three shards", BATCH_FIRST, 3, 1, 1, 0, 0},
    {"batch first, cut for two threads", BATCH_FIRST, 0, 1, 1, 0, 0},
};

typedef struct {
    const precision *precision;
    packseq_job *job;
} task;

static void run_task(void *argument, int32_t worker) {
    const task *t = argument;
    engine_of(t->precision)->run(t->job, worker);
}

/* Fills the job's fields from n_shards to abreast; returns how many workers to start. */
static int32_t cut(packseq_job *job, const network *net, const batch *b, const way *way, int64_t *bounds) {
    if (!way->shards) return packseq_cut(job, bounds, 2);
    job->bounds = bounds;
    job->n_shards = way->shards;
    job->team = way->team;
    job->abreast = way->abreast;
    job->shard_sequences = (b->batch + way->shards - 1) / way->shards;
    job->shard_rows = net->layers > 1 ? job->shard_sequences * b->steps : 0;
    job->block_rows = job->shard_sequences * 2 + 1; /* several blocks, some of them not full */
    for (int64_t s = 0; s <= way->shards; s++) bounds[s] = s * b->batch / way->shards;
    return way->team > 1 ? way->team : 2;
}

/* Steps of the padding too, which are more than the longest sequence has. */
static int64_t padded_steps(const batch *b) { return b->steps + (b->plain ? 0 : 2); }

static int64_t row_of(const batch *b, enum layout layout, int64_t t, int64_t r) {
    if (layout == PACKED) return b->offsets[t] + r;
    return layout == TIME_FIRST ? t * b->batch + b->order[r] : b->order[r] * padded_steps(b) + t;
}

static packseq_rows rows_of(const batch *b, enum layout layout, void *base, int64_t width) {
    packseq_rows rows = {.base = base, .row_stride = width};
    if (layout == PACKED) {
        rows.offsets = b->offsets;
        return rows;
    }
    rows.order = b->plain ? NULL : b->order;
    rows.step_stride = layout == TIME_FIRST ? b->batch * width : width;
    if (layout == BATCH_FIRST) rows.row_stride = padded_steps(b) * width;
    return rows;
}

/* The greatest error, in units of the largest number compared or 1. */
static double error(const precision *p, const void *actual, int64_t at, const double *expected, int64_t count) {
    double most = 0;
    for (int64_t i = 0; i < count; i++) {
        const double off = fabs(get(p, actual, at + i) - expected[i]) / fmax(1, fabs(expected[i]));
        if (!(off <= most)) most = off; /* a NaN is the greatest of all */
    }
    return most;
}

/* Between states of all sequences, h [cells][B][R] and c [cells][B][H], and those of each, which come after another. */
static void move_state(const precision *p, const network *net, const batch *b, int64_t r, char *one, char *h, char *c,
                       int out) {
    const int64_t cells = net->layers * net->directions;
    for (int64_t i = 0; i < 2 * cells; i++) {
        const int64_t width = i < cells ? net->state : net->hidden;
        char *all = (i < cells ? h : c) + ((i % cells) * b->batch + r) * width * p->real_bytes;
        memcpy(out ? one : all, out ? all : one, (size_t)(width * p->real_bytes));
        one += width * p->real_bytes;
    }
}

/* Runs the batch one way and returns the greatest error. */
static double run_way(const precision *p, const packseq_network *packed, const network *net, const batch *b,
                      const way *way) {
    const int64_t width = net->directions * net->state, cells = net->layers * net->directions;
    const int64_t rows = way->layout == PACKED ? b->rows : padded_steps(b) * b->batch;
    double *zeros = random_numbers(width, 0); /* what the padding becomes */
    void *x = allocate((size_t)(rows * net->input * p->real_bytes));
    void *y = allocate((size_t)(rows * width * p->real_bytes));
    void *h0 = as_reals(p, b->h0, cells * b->batch * net->state);
    void *c0 = as_reals(p, b->c0, cells * b->batch * net->hidden);
    void *hn = allocate((size_t)(cells * b->batch * net->state * p->real_bytes));
    void *cn = allocate((size_t)(cells * b->batch * net->hidden * p->real_bytes));
    for (int64_t i = 0; i < rows * net->input; i++) put(p, x, i, NAN); /* padding is never read */
    for (int64_t i = 0; i < rows * width; i++) put(p, y, i, NAN);
    for (int64_t r = 0; r < b->batch; r++)
        for (int64_t t = 0; t < b->lengths[r]; t++)
            for (int64_t i = 0; i < net->input; i++)
                put(p, x, row_of(b, way->layout, t, r) * net->input + i, b->x[(r * b->steps + t) * net->input + i]);

    int64_t bounds[MOST_BATCH + 1];
    packseq_barrier barriers[3] = {{0}};
    packseq_job job = {.network = packed, .batch = b->batch, .steps = b->steps, .hn = hn, .cn = cn};
    if (!b->plain) job.batch_sizes = b->batch_sizes, job.order = b->order, job.h0 = h0, job.c0 = c0;
    job.padded_steps = way->layout == PACKED || b->plain ? 0 : padded_steps(b);
    job.input = rows_of(b, way->layout, x, net->input);
    job.output = rows_of(b, way->layout, y, width);
    job.barriers = barriers;
    job.patience = way->hasty ? INT64_MIN / 16 : INT64_MAX / 16;
    const int32_t workers = cut(&job, net, b, way, bounds);
    job.workspace_stride = engine_of(p)->workspace(&job);
    job.workspace = allocate((size_t)(job.workspace_stride * (job.team > 1 ? 1 : workers)));
    void *before[MOST_BATCH], *after[MOST_BATCH];
    for (int64_t r = 0; way->apart && r < b->batch; r++) {
        const size_t bytes = (size_t)(cells * (net->state + net->hidden) * p->real_bytes);
        before[r] = allocate(bytes), after[r] = allocate(bytes);
        move_state(p, net, b, r, before[r], h0, c0, 1);
        job.before = before, job.after = after;
        job.h0 = job.c0 = job.hn = job.cn = NULL;
    }
    run_together(run_task, &(task){p, &job}, workers);
    for (int64_t r = 0; way->apart && r < b->batch; r++) {
        move_state(p, net, b, r, after[r], hn, cn, 0);
        free(before[r]), free(after[r]);
    }

    double most = error(p, hn, 0, b->hn, cells * b->batch * net->state);
    if (packseq_cells[net->kind.cell].has_c) most = fmax(most, error(p, cn, 0, b->cn, cells * b->batch * net->hidden));
    for (int64_t r = 0; r < b->batch; r++)
        for (int64_t t = 0; t < (way->layout == PACKED ? b->lengths[r] : padded_steps(b)); t++) {
            const double *expected = t < b->steps ? b->y + (r * b->steps + t) * width : zeros;
            const double off = error(p, y, row_of(b, way->layout, t, r) * width, expected, width);
            if (!(off <= most)) most = off;
        }
    free(zeros), free(x), free(y), free(h0), free(c0), free(hn), free(cn), free(job.workspace);
    return most;
}

static int failures, runs, inexact;

static void check_precision(const precision *p, const network *net, const batch *b) {
    /* As tests/strategies.py derives it: 33 half ulps in float; in double what packseq promises. */
    const double exact = p->real_bytes == 4 ? 2e-6 : 1e-12;
    /* In 8 bits, where a value near a tie is rounded the other way: two quanta of 1/127 through a weight of at most
     * 1/sqrt(3), and all that follows from them. check_table looks that this is rare. */
    const double tolerance = p->format == PACKSEQ_INT8 ? 2e-2 : exact;
    packseq_direction cells[MOST_CELLS];
    for (int32_t i = 0; i < net->layers * net->directions; i++) cells[i] = pack_cell(p, net, &net->cells[i]);
    packseq_network packed = {
        .cell = net->kind.cell,
        .gate_activation = net->kind.activation,
        .format = (int32_t)p->format,
        .n_layers = net->layers,
        .n_directions = net->directions,
        .hidden = net->hidden,
        .state = net->state,
        .directions = cells,
    };
    packseq_estimate(&packed, p->table->vector_bytes);
    for (size_t i = 0; i < sizeof(WAYS) / sizeof(*WAYS); i++) {
        if (WAYS[i].abreast > net->directions) continue;
        const double off = run_way(p, &packed, net, b, &WAYS[i]);
        runs++;
        inexact += p->format == PACKSEQ_INT8 && !(off <= 10 * exact);
        if (off <= tolerance) continue;
        failures++;
        const char *format = packseq_formats[p->format].name;
        printf("%s, %s, %s, H %d, %d layers, %d directions, %d sequences, %s: off by %g\n", p->table->name,
               net->kind.name, format, (int)net->hidden, net->layers, net->directions, (int)b->batch, WAYS[i].name,
               off);
    }
    for (int32_t i = 0; i < net->layers * net->directions; i++) free_cell(cells[i]);
}

static void check_network(const packseq_kernels *table, enum packseq_format format, const network *net) {
    const int64_t real_bytes = packseq_formats[format].real_bytes;
    const precision p = {table, format, real_bytes, table->vector_bytes / real_bytes};
    in_int8 = format == PACKSEQ_INT8;
    batch batches[] = {make_batch(net, 3, 2), make_batch(net, MOST_BATCH, 0.7), make_batch(net, 5, 0)};
    for (int i = 0; i < 3; i++) {
        check_precision(&p, net, &batches[i]);
        free_batch(&batches[i]);
    }
}

static void check_table(const packseq_kernels *table) {
    /* Less than a vector; a block that is not full; more blocks, the last of them half empty. */
    static const struct {
        int64_t hidden;
        int32_t layers, directions;
    } shapes[] = {{3, 2, 1}, {21, 1, 2}, {71, 1, 1}, {71, 2, 2}};
    const int before = runs;
    inexact = 0;
    for (size_t k = 0; k < sizeof(KINDS) / sizeof(*KINDS); k++)
        for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
            network net = make_network(KINDS[k], 5, shapes[i].hidden, shapes[i].layers, shapes[i].directions);
            for (int i = PACKSEQ_F32; i <= PACKSEQ_INT8; i++) {
                const enum packseq_format format = (enum packseq_format)i;
                /* What it has from its base is run there. */
                if (packseq_engine_of(table, format) != packseq_engine_of(table->base, format))
                    check_network(table, format, &net);
            }
            free_network(&net);
        }
    const int done = runs - before;
    printf("%s: %d runs, %d of those in int8 more than rounding off\n", table->name, done, inexact);
    failures += inexact > (table->base ? done : done / 3) / 10; /* of those in int8 */
}

int main(void) {
    for (const packseq_kernels *const *table = packseq_compiled(); *table; table++) {
        if (packseq_supported(*table))
            check_table(*table);
        else
            printf("%s: this machine lacks it\n", (*table)->name);
    }
    check_table(&packseq_wide);
    printf("%d of %d runs failed\n", failures, runs);
    return failures > 0;
}
