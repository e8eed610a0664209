#include "targets.h"
#if PACKSEQ_HAVE_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include <immintrin.h>
#define MINIMUM_F32 _mm256_min_ps
#define MAXIMUM_F32 _mm256_max_ps
#define MINIMUM_F64 _mm256_min_pd
#define MAXIMUM_F64 _mm256_max_pd
#define LARGER(a, b) ((VI)_mm256_max_epi32((__m256i)(a), (__m256i)(b)))
#define ISA avx2
#define VECTOR_BYTES 32
#define REGISTERS 16
#define LOADED(v) __asm__("" : "+x"(v))
#define ROUNDED(v) LOADED(v)
/* maddubs of |w| and of x with w's sign, for DOT_BYTES, would do: it takes 1.15 times as long from 4 rows on, 1.05 to
 * 1.09 for one row of 256 and 512, and 0.9 for one of 1536, which comes from far (Zen 4, LSTM and GRU). */
#define PAIR_PRODUCTS(x, w) ((VI)_mm256_madd_epi16((__m256i)(x), (__m256i)(w)))
#define MAX_ROWS 6 /* 6 rows x 2 vectors = 12 of 16 registers; 2 hold weights, 1 a broadcast */
#include "isa.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
