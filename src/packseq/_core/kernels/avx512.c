#include "targets.h"
#if PACKSEQ_HAVE_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,fma,prefer-vector-width=512")
#endif
#include <immintrin.h>
#define MINIMUM_F32 _mm512_min_ps
#define MAXIMUM_F32 _mm512_max_ps
#define MINIMUM_F64 _mm512_min_pd
#define MAXIMUM_F64 _mm512_max_pd
#define LARGER(a, b) ((VI)_mm512_max_epi32((__m512i)(a), (__m512i)(b)))
#define ISA avx512
#define VECTOR_BYTES 64
#define REGISTERS 32
#define LOADED(v) __asm__("" : "+v"(v))
#define ROUNDED(v) LOADED(v)
#define PAIR_PRODUCTS(x, w) ((VI)_mm512_madd_epi16((__m512i)(x), (__m512i)(w)))
#define MAX_ROWS 12 /* 12 rows x 2 vectors = 24 of 32 registers */
/* 4 to 6 rows take two panels, more than 12 go by tiles of 6 and two panels: fewest instructions for a multiply-add.
 * Gflop/s of 167 (Emerald Rapids, weights in L2): tiles of 12 rows 150, of 8 165; beside a tenant on the core's other
 * hardware thread 6 and two panels are 1.05 times as fast as 8, and 5 or 6 rows 1.1 times as on one panel. */
#define TILE_ROWS 6
#define MOST_ROWS_OF_TWO 6
/* 12 are more than the registers hold, and GCC keeps the rest in vector registers, to fetch them back through one of
 * the two ports that multiply: 10 to 12 rows lose 5 to 12 %. */
#define POINTERS_IN_REGISTERS 8
#include "isa.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
