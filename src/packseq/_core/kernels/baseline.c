/* Whatever the compiler's default target is: SSE2 on x86-64. */
#include "targets.h"
#define ISA baseline
#define VECTOR_BYTES 16
#define MAX_ROWS 6
#include "isa.h"
