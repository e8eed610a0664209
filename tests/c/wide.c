/* AVX-512's layout and tiles on any machine: the compiler lowers the 64-byte vectors to those it has. */
#define ISA wide
#define VECTOR_BYTES 64
#define MAX_ROWS 12
#define TILE_ROWS 6
#define MOST_ROWS_OF_TWO 6
#define POINTERS_IN_REGISTERS 8
#define K_BLOCK 16 /* so that small tests sum in several blocks */
#include "isa.h"
