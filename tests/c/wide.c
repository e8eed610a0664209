/* AVX-512's layout on any machine: the compiler lowers the 64-byte vectors to those it has. */
#define ISA wide
#define VECTOR_BYTES 64
#define MAX_ROWS 12
#define TILE_ROWS 8
#define POINTERS_IN_REGISTERS 8
#include "isa.h"
