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
#define ISA avx512
#define VECTOR_BYTES 64
#define MAX_ROWS 12 /* 12 rows x 2 vectors = 24 of 32 registers */
#include "isa.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
