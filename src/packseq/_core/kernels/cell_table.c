#include "kernels.h"

const packseq_cell_traits packseq_cells[PACKSEQ_N_CELLS] = {
#define ROW(constant, name, gates, block, bare, c, late) {#name, gates, block, bare, c, late},
    PACKSEQ_EACH_CELL(ROW)
#undef ROW
};

const char *const packseq_gate_activations[PACKSEQ_N_GATE_ACTIVATIONS] = {
    [PACKSEQ_SIGMOID] = "sigmoid",
    [PACKSEQ_HARD_SIGMOID] = "hard_sigmoid",
    [PACKSEQ_HARD_SIGMOID_02] = "hard_sigmoid_0.2",
};

const packseq_format_traits packseq_formats[PACKSEQ_N_FORMATS] = {
    [PACKSEQ_F32] = {"float32", 4, 4, 1},
    [PACKSEQ_F64] = {"float64", 8, 8, 1},
    [PACKSEQ_INT8] = {"int8", 4, 1, 3},
    [PACKSEQ_BFLOAT16] = {"bfloat16", 4, 2, 1.8},
};
