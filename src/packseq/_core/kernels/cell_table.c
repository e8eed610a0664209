#include "cell_table.h"

const packseq_cell_traits packseq_cells[PACKSEQ_N_CELLS] = {
#define ROW(constant, name, gates, block, bare, c, second) {#name, gates, block, bare, c, second},
    PACKSEQ_EACH_CELL(ROW)
#undef ROW
};
