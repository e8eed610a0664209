/* The template: one set of kernels, for one type of number and one format of weights. */
#if !defined(REAL) || !defined(INTEGER) || !defined(NATURAL) || !defined(WIDTH)
#error "include isa.h, which says what a REAL is and what the weights are"
#endif

#include "vector.h"
#include "activations.h"

/* Columns of panels from .. to of `rows` rows of C: what each begins with, plus A W^T. */
typedef struct {
    const packseq_matrix *weights;
    int64_t from, to;
    int32_t last_first; /* a hint: begin with the last panels, which a cache may hold from the time before */
    const REAL *const *a;
    int64_t rows;
    const REAL *start;
    int64_t start_stride; /* 0: one row for all */
    REAL *c;
    int64_t c_stride;
    char *coded; /* room for coded rows, coded_bytes(rows, k), where the format has such */
} NAME(product);

#ifdef FORMAT
#include FORMAT
#include "product_coded.h"
#else
#include "product.h"
#endif
#include "member.h"
#include "cells.h"
#include "walk.h"
#include "padding.h"
#include "shards.h"

#ifndef FORMAT
#include "transpose.h"
#include "along.h"
#include "dots.h"
#include "linear.h"
#endif

static const packseq_engine NAME(engine) = {
    .workspace = NAME(workspace),
    .run = NAME(run),
    .activate = NAME(activate),
#ifndef FORMAT
    .linear_workspace = NAME(linear_workspace),
    .linear = NAME(linear),
    .along = NAME(along),
#endif
};

#include "undefine.h"
