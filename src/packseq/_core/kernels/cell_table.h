/* Every cell that there is, one row each. All else that there is to know of a cell in C follows from its row: the enum,
 * the name that Python calls it by, what is reserved and counted for it, and which function of cells.h steps it.
 *
 * A gate row holds, block by block (U columns each):
 *   LSTM  i f g o | i f g o      GRU  r z n n | r z m m (m: recurrent part of n)      RNN  h h
 */
#ifndef PACKSEQ_CELL_TABLE_H
#define PACKSEQ_CELL_TABLE_H

#include <stdint.h>

/* clang-format off */
#define PACKSEQ_EACH_CELL(ROW)                                                       \
    /*  enum                      name, function    gates block bare  c  late */   \
    ROW(PACKSEQ_LSTM,             lstm,             4,    8,    0,    1, PACKSEQ_PROJECTION) \
    ROW(PACKSEQ_LSTM_PEEPHOLE,    lstm_peephole,    4,    8,    0,    1, PACKSEQ_PROJECTION) \
    ROW(PACKSEQ_GRU,              gru,              3,    8,    2,    0, PACKSEQ_NO_LATE)  \
    ROW(PACKSEQ_GRU_RESET_BEFORE, gru_reset_before, 3,    8,    0,    0, PACKSEQ_RESET)      \
    ROW(PACKSEQ_RNN_TANH,         rnn_tanh,         1,    2,    0,    0, PACKSEQ_NO_LATE)  \
    ROW(PACKSEQ_RNN_RELU,         rnn_relu,         1,    2,    0,    0, PACKSEQ_NO_LATE)
/* clang-format on */

/* What a direction's third matrix is, if it has one, which comes late: it multiplies what the other two have led to. */
enum packseq_late {
    PACKSEQ_NO_LATE,
    PACKSEQ_PROJECTION, /* h = W_hr (o tanh c); it may be missing */
    PACKSEQ_RESET /* n += U_n (r h) */
};

enum packseq_cell {
#define ROW(constant, name, gates, block, bare, c, late) constant,
    PACKSEQ_EACH_CELL(ROW)
#undef ROW
        PACKSEQ_N_CELLS
};

typedef struct {
    const char *name;
    int32_t gates;
    int32_t block_vectors; /* in a gate row, of a block of 2U hidden units */
    int32_t bare_vectors; /* the last so many of these get from the input nothing but a bias */
    int32_t has_c; /* a state beside h, for each hidden unit */
    int32_t late;
} packseq_cell_traits;

extern const packseq_cell_traits packseq_cells[PACKSEQ_N_CELLS];

#endif
