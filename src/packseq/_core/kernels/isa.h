/* One instruction set: the template at both widths, and the table that names them. */
#if !defined(ISA) || !defined(VECTOR_BYTES) || !defined(MAX_ROWS)
#error "include isa.h from an instruction set's file, which names it and its sizes"
#endif
/* What follows may be left to these defaults. */
#ifndef LOADED
/* Load it once, since x86 could multiply it from memory, by each row anew; where there are REGISTERS for it. */
#define LOADED(v) (void)(v)
#define REGISTERS 32
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

#define REAL float
#define INTEGER int32_t
#define NATURAL uint32_t
#define WIDTH f32
#ifdef MINIMUM_F32
#define MINIMUM MINIMUM_F32
#define MAXIMUM MAXIMUM_F32
#endif
#include "vector.h"
#include "activations.h"
#include "product.h"
#include "member.h"
#include "cells.h"
#include "walk.h"
#include "padding.h"
#include "shards.h"
#include "undefine.h"

#define REAL double
#define INTEGER int64_t
#define NATURAL uint64_t
#define WIDTH f64
#ifdef MINIMUM_F64
#define MINIMUM MINIMUM_F64
#define MAXIMUM MAXIMUM_F64
#endif
#include "vector.h"
#include "activations.h"
#include "product.h"
#include "member.h"
#include "cells.h"
#include "walk.h"
#include "padding.h"
#include "shards.h"
#include "undefine.h"

#define TABLE_(isa) packseq_##isa
#define TABLE(isa) TABLE_(isa)
extern const packseq_kernels TABLE(ISA);
const packseq_kernels TABLE(ISA) = {
    .name = TEXT(ISA),
    .vector_bytes = VECTOR_BYTES,
    .workspace_f32 = PASTE(workspace, ISA, f32),
    .workspace_f64 = PASTE(workspace, ISA, f64),
    .run_f32 = PASTE(run, ISA, f32),
    .run_f64 = PASTE(run, ISA, f64),
    .activate_f32 = PASTE(activate, ISA, f32),
    .activate_f64 = PASTE(activate, ISA, f64),
};
