/* Time: one direction of one layer from its first step to its last, as one member of a team walks it. */
#ifndef HAS_CELLS
#error "walk.h comes after cells.h: include isa.h"
#endif
#define HAS_WALK

/* Sequences that begin here come last, in both directions: forward all begin at once, and in reverse a step's rows
 * are those of the step before and the newcomers. */
static void NAME(step)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m) {
    const packseq_network *net = w->job->network;
    NAME(add_product)(w, &w->weights->hh, w->arena.h, least(m, w->begun), gates);
    w->last_first ^= 1; /* begin with the weights that this step ended with, so that a cache keeps its part of them */
    NAME(cells)[net->cell][net->gate_activation](w, t, gates, m);
    for (int64_t r = 0; r < m; r++) w->arena.h[r] = NAME(row)(&w->output, t, w->first + r);
    w->begun = greatest(w->begun, m);
}

/* Gate rows of n input rows: bias plus W_ih x, in slices of rows that L2 keeps while all panels pass. */
static void NAME(project)(NAME(walk) * w, int64_t n) {
    const packseq_cell_traits *cell = &packseq_cells[w->job->network->cell];
    const packseq_matrix *ih = &w->weights->ih;
    const int64_t slice = NAME(slice_rows)(ih->k);
    const REAL *bias = (const REAL *)w->weights->bias;
    NAME(product) x = NAME(own_panels)(w, ih);
    x.start = bias;
    x.c_stride = w->gate_row;
    for (int64_t row = 0; row < n; row += slice) {
        x.a = w->arena.x + row;
        x.rows = least(slice, n - row);
        x.c = w->arena.gates + row * w->gate_row;
        NAME(multiply)(&x);
    }
    if (cell->bare_vectors == 0) return;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t block = w->from; block < w->to; block++) {
            const int64_t bare = ((block + 1) * cell->block_vectors - cell->bare_vectors) * LANES;
            memcpy(w->arena.gates + i * w->gate_row + bare, bias + bare, (size_t)cell->bare_vectors * VECTOR_BYTES);
        }
    }
}

static int64_t NAME(caller)(const NAME(walk) * w, int64_t r) {
    return w->job->order ? w->job->order[w->first + r] : w->first + r;
}

/* Where a caller's sequence has h of this layer and direction: among those of all, or in a place of its own. */
static REAL *NAME(h_of)(const NAME(walk) * w, const void *all, void *const *each, int64_t caller) {
    const int64_t state = w->job->network->state;
    if (each) return (REAL *)each[caller] + w->state_index * state;
    return (REAL *)all + (w->state_index * w->job->batch + caller) * state;
}

/* And c, which comes after all h there. */
static REAL *NAME(c_of)(const NAME(walk) * w, const void *all, void *const *each, int64_t caller) {
    const packseq_network *net = w->job->network;
    const int64_t all_h = (int64_t)net->n_layers * net->n_directions * net->state;
    if (each) return (REAL *)each[caller] + all_h + w->state_index * net->hidden;
    return (REAL *)all + (w->state_index * w->job->batch + caller) * net->hidden;
}

static void NAME(begin)(NAME(walk) * w) {
    const packseq_job *job = w->job;
    const int64_t hidden = job->network->hidden;
    const int64_t unit = w->from * 2 * LANES, units = (w->to - w->from) * 2 * LANES;
    memset(w->arena.zeros, 0, (size_t)job->network->state * sizeof(REAL));
    w->begun = job->h0 || job->before || !w->weights->finite ? w->width : 0;
    for (int64_t r = 0; r < w->width; r++) {
        const int64_t caller = NAME(caller)(w, r);
        w->arena.h[r] = job->h0 || job->before ? NAME(h_of)(w, job->h0, job->before, caller) : w->arena.zeros;
        if (!packseq_cells[job->network->cell].has_c) continue;
        REAL *c = w->arena.cell + r * w->padded + unit;
        memset(c, 0, (size_t)units * sizeof(REAL));
        if (job->c0 || job->before)
            memcpy(c, NAME(c_of)(w, job->c0, job->before, caller) + unit,
                   (size_t)least(units, hidden - unit) * sizeof(REAL));
    }
}

/* This member's columns of the last states. */
static void NAME(finish)(NAME(walk) * w) {
    const packseq_job *job = w->job;
    const int64_t unit = w->from * 2 * LANES, units = least(w->to * 2 * LANES, job->network->hidden) - unit;
    for (int64_t r = 0; r < w->width; r++) {
        const int64_t caller = NAME(caller)(w, r);
        memcpy(NAME(h_of)(w, job->hn, job->after, caller) + w->column, w->arena.h[r] + w->column,
               (size_t)w->columns * sizeof(REAL));
        if (packseq_cells[job->network->cell].has_c)
            memcpy(NAME(c_of)(w, job->cn, job->after, caller) + unit, w->arena.cell + r * w->padded + unit,
                   (size_t)units * sizeof(REAL));
    }
}

/* The step that comes after so many others. */
static int64_t NAME(time_of)(const NAME(walk) * w, int64_t done) { return w->reverse ? w->steps - 1 - done : done; }

/* Collects the input rows of the next steps, as many whole steps as a block of gate rows holds. Returns how many. */
static int64_t NAME(collect)(NAME(walk) * w, int64_t done, int64_t *rows) {
    int64_t count = 0;
    for (*rows = 0; done + count < w->steps; count++) {
        const int64_t t = NAME(time_of)(w, done + count), m = alive_at(w->job, t, w->first, w->width);
        if (*rows + m > w->job->block_rows) break;
        for (int64_t r = 0; r < m; r++) w->arena.x[(*rows)++] = NAME(row)(&w->input, t, w->first + r);
    }
    return count;
}

/* Returns whether this member is still part of the team. */
static int NAME(walk_steps)(NAME(walk) * w) {
    NAME(begin)(w);
    for (int64_t done = 0; done < w->steps;) {
        int64_t rows;
        const int64_t until = done + NAME(collect)(w, done, &rows);
        NAME(project)(w, rows);
        REAL *gates = w->arena.gates;
        for (; done < until; done++) {
            const int64_t t = NAME(time_of)(w, done), m = alive_at(w->job, t, w->first, w->width);
            if (done && !NAME(wait_before_step)(w)) return 0; /* for all columns of h of the step before */
            NAME(step)(w, t, gates, m);
            gates += m * w->gate_row;
        }
    }
    NAME(finish)(w);
    return 1;
}
