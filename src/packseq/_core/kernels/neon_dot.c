#include "targets.h"
#if PACKSEQ_HAVE_NEON
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#include <arm_neon.h>
#define ISA neon_dot
#define BASE neon
#define VECTOR_BYTES 16
#define REGISTERS 32
#define LOADED(v) (void)(v)
#define ROUNDED(v) __asm__("" : "+w"(v))
#define DOT_BYTES(sum, x, w) __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(x), "w"(w))
#define ZERO_POINT 0
#define MAX_ROWS 12
#include "isa.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
