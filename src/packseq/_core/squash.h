/* What the gates of blas.pyx go through, in place: loops without a branch or a call, on one array, which any compiler
 * makes vectors of.
 *
 * The arithmetic is that of kernels/activations.h, and as accurate: 3 ulp, saturation exact, NaN stays NaN, 0 keeps its
 * sign. */
#ifndef PACKSEQ_SQUASH_H
#define PACKSEQ_SQUASH_H

#include <stdint.h>

#include "exponential.h"
#include "kernels.h"

/* Before a function: made for wider vectors too than every x86-64 has, where GCC and the C library can choose among
 * them when the module is loaded. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define WIDER_TOO __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDER_TOO
#endif

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)

#define REAL float
#define NATURAL uint32_t
#define WIDTH f32
#include "squashes.h"

#define REAL double
#define NATURAL uint64_t
#define WIDTH f64
#include "squashes.h"

#undef PASTE
#undef PASTE_
#undef WIDER_TOO

#endif
