/* One instruction set: the template for each format of numbers, and the table that names them.
 *
 * An instruction set that is another one and some more, its BASE, has but the formats that it does better. */
#if !defined(ISA) || !defined(VECTOR_BYTES) || !defined(MAX_ROWS)
#error "include isa.h from an instruction set's file, which names it and its sizes"
#endif
/* What follows may be left to these defaults. */
#ifndef LOADED
/* Load it once, since x86 could multiply it from memory, by each row anew; where there are REGISTERS for it. */
#define LOADED(v) (void)(v)
#define REGISTERS 32
#endif
/* An instruction set with DOT_BFLOAT16 has bfloat16 in place of int8: see coded_bfloat16.h, and coded_int8.h for
 * DOT_BYTES, PAIR_PRODUCTS and LARGER. */
#ifndef ROUNDED
/* Round it here, and fuse it with nothing; x86 without FMA does so by itself. */
#ifdef __x86_64__
#define ROUNDED(v) (void)(v)
#else
#define ROUNDED(v) __asm__("" : "+m"(v))
#endif
#endif
#ifndef TILE_ROWS
#define TILE_ROWS MAX_ROWS /* rows at a time where there are more than MAX_ROWS */
#endif
#ifndef MOST_ROWS_OF_TWO
#define MOST_ROWS_OF_TWO 3 /* up to so many rows, from 3 on, go over two panels at once */
#endif
#ifndef POINTERS_IN_REGISTERS
#define POINTERS_IN_REGISTERS MAX_ROWS /* pointers to more rows are read anew at each k */
#endif
#ifndef K_BLOCK
#define K_BLOCK (PANEL_BYTES / (2 * VECTOR_BYTES)) /* rows of k at a time */
#endif
#include <math.h>
#include <string.h>

#include "exponential.h"
#include "inline.h"
#include "kernels.h"
#include "runtime.h"
#include "sizes.h"
#include "tuning.h"

#define PASTE_(a, b, c) a##_##b##_##c
#define PASTE(a, b, c) PASTE_(a, b, c)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

#ifndef BASE
#define REAL float
#define REAL_BYTES 4
#define INTEGER int32_t
#define NATURAL uint32_t
#define WIDTH f32
#ifdef MINIMUM_F32
#define MINIMUM MINIMUM_F32
#define MAXIMUM MAXIMUM_F32
#endif
#include "template.h"

#define REAL double
#define REAL_BYTES 8
#define INTEGER int64_t
#define NATURAL uint64_t
#define WIDTH f64
#ifdef MINIMUM_F64
#define MINIMUM MINIMUM_F64
#define MAXIMUM MAXIMUM_F64
#endif
#include "template.h"
#endif

#define REAL float
#define REAL_BYTES 4
#define INTEGER int32_t
#define NATURAL uint32_t
#ifdef DOT_BFLOAT16
#define WIDTH bf16
#define FORMAT "coded_bfloat16.h"
#else
#define WIDTH i8
#define FORMAT "coded_int8.h"
#endif
#ifdef MINIMUM_F32
#define MINIMUM MINIMUM_F32
#define MAXIMUM MAXIMUM_F32
#endif
#include "template.h"

#define TABLE_(isa) packseq_##isa
#define TABLE(isa) TABLE_(isa)
#ifdef BASE
extern const packseq_kernels TABLE(BASE);
#endif
extern const packseq_kernels TABLE(ISA);
const packseq_kernels TABLE(ISA) = {
    .name = TEXT(ISA),
    .vector_bytes = VECTOR_BYTES,
#ifdef BASE
    .base = &TABLE(BASE),
#else
    .engines[PACKSEQ_F32] = &PASTE(engine, ISA, f32),
    .engines[PACKSEQ_F64] = &PASTE(engine, ISA, f64),
#endif
#ifdef DOT_BFLOAT16
    .engines[PACKSEQ_BFLOAT16] = &PASTE(engine, ISA, bf16),
#else
    .engines[PACKSEQ_INT8] = &PASTE(engine, ISA, i8),
#endif
};
