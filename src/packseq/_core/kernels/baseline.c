/* Whatever the compiler's default target is: SSE2 on x86-64. */
#include "targets.h"
#define ISA baseline
#define VECTOR_BYTES 16
#define MAX_ROWS 6
#ifdef __SSE2__
#include <emmintrin.h>
#define PAIR_PRODUCTS(x, w) ((VI)_mm_madd_epi16((__m128i)(x), (__m128i)(w)))
#endif
#include "isa.h"
