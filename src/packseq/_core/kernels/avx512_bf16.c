#include "targets.h"
#if PACKSEQ_HAVE_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512dq,avx512vl,avx512bw,avx512bf16,fma"))), apply_to = function)
#else
#pragma GCC target("avx512dq,avx512vl,avx512bw,avx512bf16,fma,prefer-vector-width=512")
#endif
#include <immintrin.h>
#define MINIMUM_F32 _mm512_min_ps
#define MAXIMUM_F32 _mm512_max_ps
#define ISA avx512_bf16
#define BASE avx512_vnni
#define VECTOR_BYTES 64
#define REGISTERS 32
#define LOADED(v) __asm__("" : "+v"(v))
#define ROUNDED(v) LOADED(v)
/* By its own name, as vpdpbusd in avx512_vnni.c. */
#define DOT_BFLOAT16(sum, x, w) __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w))
#define TO_BFLOAT16(v) _mm512_cvtneps_pbh((__m512)(v))
#define MAX_ROWS 12
#define TILE_ROWS 6 /* as int8 has it; 0.97 to 1 of the time */
#include "isa.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
