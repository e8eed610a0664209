#include "targets.h"
#if PACKSEQ_HAVE_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define ISA avx2
#define VECTOR_BYTES 32
#define MAX_ROWS 6 /* 6 rows x 2 vectors = 12 of 16 registers; 2 hold weights, 1 a broadcast */
#include "isa.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
