/* One step of each cell: gate rows that hold W x + U h + b become h, and c.
 *
 * A function takes m rows of step t, and of these the blocks of hidden units that are this member's. A block is two
 * vectors of units, j = 0 and 1, since the operations of one alone would wait for each other. The last block may have
 * no second half: what lies in its place is computed with and not used.
 */
#ifndef HAS_MEMBER
#error "cells.h comes after member.h: include isa.h"
#endif
#define HAS_CELLS

typedef struct {
    V *gate;            /* in the order of cell_table.h */
    V *c, *hidden;      /* [2] */
    const REAL *before; /* h of the step before, */
    REAL *h;            /* and of this one, */
    int64_t room;       /* which have so many units from here on */
} NAME(block);

/* Of row r of the step, whose blocks have so many vectors in a gate row. */
static INLINE NAME(block)
    NAME(block_at)(const NAME(walk) * w, int64_t t, REAL *gates, const int64_t vectors, int64_t r, int64_t b) {
    const int64_t unit = b * 2 * LANES;
    return (NAME(block)){
        .gate = (V *)(gates + r * w->gate_row) + b * vectors,
        .c = (V *)(w->arena.cell + r * w->padded) + b * 2,
        .hidden = (V *)(w->arena.hidden + r * w->padded) + b * 2,
        .before = w->arena.h[r] + unit,
        .h = NAME(row)(&w->output, t, w->first + r) + unit,
        .room = w->job->network->hidden - unit,
    };
}

/* One loop, not two: constants that the registers do not hold are loaded anew wherever an inner loop begins. A team
 * may have more members than blocks. */
#define EACH_BLOCK(r, b) for (int64_t r = 0, b = w->from; r < m && b < w->to; b + 1 < w->to ? b++ : (r++, b = w->from))

static INLINE V NAME(load_half)(const REAL *units, int64_t room, int j) {
    return NAME(load)(units + j * LANES, room - j * LANES);
}

static INLINE void NAME(store_half)(REAL *units, int64_t room, int j, V v) {
    NAME(store)(units + j * LANES, v, room - j * LANES);
}

/* ---- LSTM: i, f, o = s(.), g = tanh(.);  c' = i g + f c;  h' = o tanh(c'), or W_hr of it ----
 *
 * With peepholes: i = s(. + p_i c), f = s(. + p_f c), o = s(. + p_o c'). */

static INLINE void NAME(lstm_step)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m, const int s, const int peephole) {
    const int projected = w->weights->late.n_panels > 0;
    /* Two passes: tanh(c) waits for c, and in one pass everything behind it would too (2 to 5 % of a layer of 4
     * rows, H 128 and 256). */
    EACH_BLOCK(r, b) {
        const NAME(block) x = NAME(block_at)(w, t, gates, 8, r, b);
        V i_f_g[] = {x.gate[0], x.gate[4], x.gate[1], x.gate[5], x.gate[2], x.gate[6]};
        V *i = i_f_g, *f = i_f_g + 2, *g = i_f_g + 4;
        if (peephole) {
            const V *p = (const V *)w->weights->peephole + b * 8;
            FOR_EACH(j, 2) {
                i[j] += p[0 + 4 * j] * x.c[j];
                f[j] += p[1 + 4 * j] * x.c[j];
            }
        }
        NAME(activate_gates)(s, 4, 2, i_f_g);
        FOR_EACH(j, 2) x.c[j] = i[j] * g[j] + f[j] * x.c[j];
    }
    EACH_BLOCK(r, b) {
        const NAME(block) x = NAME(block_at)(w, t, gates, 8, r, b);
        V o_c[] = {x.gate[3], x.gate[7], x.c[0], x.c[1]};
        V *o = o_c, *c = o_c + 2;
        REAL *h = projected ? (REAL *)x.hidden : x.h;
        if (peephole) {
            const V *p = (const V *)w->weights->peephole + b * 8;
            FOR_EACH(j, 2) o[j] += p[3 + 4 * j] * c[j];
        }
        NAME(activate_gates)(s, 2, 2, o_c);
        FOR_EACH(j, 2) NAME(store_half)(h, x.room, j, o[j] * c[j]);
    }
    if (projected) NAME(narrow)(w, t, m);
}

static INLINE void NAME(lstm)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m, const int s) {
    NAME(lstm_step)(w, t, gates, m, s, 0);
}

static INLINE void NAME(lstm_peephole)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m, const int s) {
    NAME(lstm_step)(w, t, gates, m, s, 1);
}

/* ---- GRU: r, z = s(.);  n = tanh(. + r m), or tanh(. + U_n (r h));  h' = n + z (h - n) ---- */

/* r; and z in its gate's place, where it is needed later. */
static INLINE void NAME(gru_gates)(V *gate, V *r, const int s) {
    V r_z[] = {gate[0], gate[4], gate[1], gate[5]};
    NAME(activate_gates)(s, 4, 0, r_z);
    r[0] = r_z[0];
    r[1] = r_z[1];
    gate[1] = r_z[2];
    gate[5] = r_z[3];
}

/* The end of both, when n's gate is complete. */
static void NAME(gru_update)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m) {
    EACH_BLOCK(r, b) {
        const NAME(block) x = NAME(block_at)(w, t, gates, 8, r, b);
        V n[] = {x.gate[2], x.gate[3]};
        NAME(squash)(0, 2, n);
        FOR_EACH(j, 2) {
            const V z = x.gate[1 + 4 * j], h = NAME(load_half)(x.before, x.room, j);
            NAME(store_half)(x.h, x.room, j, n[j] + z * (h - n[j]));
        }
    }
}

static INLINE void NAME(gru)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m, const int s) {
    EACH_BLOCK(r, b) {
        const NAME(block) x = NAME(block_at)(w, t, gates, 8, r, b);
        V reset[2];
        NAME(gru_gates)(x.gate, reset, s);
        FOR_EACH(j, 2) x.gate[2 + j] += reset[j] * x.gate[6 + j];
    }
    NAME(gru_update)(w, t, gates, m);
}

static INLINE void NAME(gru_reset_before)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m, const int s) {
    EACH_BLOCK(r, b) {
        const NAME(block) x = NAME(block_at)(w, t, gates, 8, r, b);
        V reset[2];
        NAME(gru_gates)(x.gate, reset, s);
        FOR_EACH(j, 2) x.hidden[j] = reset[j] * NAME(load_half)(x.before, x.room, j);
    }
    NAME(add_reset_product)(w, gates, m);
    NAME(gru_update)(w, t, gates, m);
}

/* ---- RNN: h' = tanh or relu ---- */

static INLINE void NAME(rnn_tanh)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m, const int s) {
    (void)s; /* no gates */
    EACH_BLOCK(r, b) {
        const NAME(block) x = NAME(block_at)(w, t, gates, 2, r, b);
        V h[] = {x.gate[0], x.gate[1]};
        NAME(squash)(0, 2, h);
        FOR_EACH(j, 2) NAME(store_half)(x.h, x.room, j, h[j]);
    }
}

static INLINE void NAME(rnn_relu)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m, const int s) {
    (void)s; /* no gates */
    EACH_BLOCK(r, b) {
        const NAME(block) x = NAME(block_at)(w, t, gates, 2, r, b);
        FOR_EACH(j, 2) NAME(store_half)(x.h, x.room, j, NAME(relu)(x.gate[j]));
    }
}

/* ---- each cell with each activation of its gates, which is chosen here, outside the loops ---- */

#define VARIANT(name, suffix, s) \
    static void NAME(name##_##suffix)(NAME(walk) * w, int64_t t, REAL *gates, int64_t m) { \
        NAME(name)(w, t, gates, m, s); \
    }
#define ROW(constant, name, gates, block, bare, c, late) \
    VARIANT(name, smooth, PACKSEQ_SIGMOID) \
    VARIANT(name, hard, PACKSEQ_HARD_SIGMOID) \
    VARIANT(name, hard_02, PACKSEQ_HARD_SIGMOID_02)
PACKSEQ_EACH_CELL(ROW)
#undef ROW
#undef VARIANT

typedef void NAME(cell)(NAME(walk) *, int64_t t, REAL *gates, int64_t m);

static NAME(cell) *const NAME(cells)[PACKSEQ_N_CELLS][PACKSEQ_N_GATE_ACTIVATIONS] = {
#define ROW(constant, name, gates, block, bare, c, late) \
    [constant] = {NAME(name##_smooth), NAME(name##_hard), NAME(name##_hard_02)},
    PACKSEQ_EACH_CELL(ROW)
#undef ROW
};
#undef EACH_BLOCK
