/* AVX-512's layout on any machine: the compiler lowers the 64-byte vectors to those it has. */
#define ISA wide
#define VECTOR_BYTES 64
#define MAX_ROWS 12
#include "isa.h"
