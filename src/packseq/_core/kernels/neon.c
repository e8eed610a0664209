#include "targets.h"
#if PACKSEQ_HAVE_NEON
#define ISA neon
#define VECTOR_BYTES 16
#define MAX_ROWS 12 /* 12 rows x 2 vectors = 24 of 32 registers */
#define MOST_ROWS_OF_TWO 4
#include "isa.h"
#endif
