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
#define LARGER(a, b) ((VI)_mm256_max_epi32((__m256i)(a), (__m256i)(b)))
#define ISA avx2_vnni
#define BASE avx2
#define VECTOR_BYTES 32
#define REGISTERS 16
#define LOADED(v) __asm__("" : "+x"(v))
#define ROUNDED(v) LOADED(v)
/* AVX-VNNI's encoding, and not AVX-512's, which these machines may lack. */
#define DOT_BYTES(sum, x, w) __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w))
#define ZERO_POINT 128 /* x is unsigned there */
#define MAX_ROWS 6
#include "isa.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
