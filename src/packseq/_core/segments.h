/* What segments.pyx does over the steps of each sequence: the walks, for each type that they are for. */
#ifndef PACKSEQ_SEGMENTS_H
#define PACKSEQ_SEGMENTS_H

#include <stdint.h>
#include <string.h>

#include "exponential.h"

enum { TILE = 1024 };

/* A tile, and the steps that it is taken through. */
typedef struct {
    const int64_t *offsets; /* [steps + 1] first row of each step */
    int64_t steps, width, start, size;
    int64_t group; /* elements of a row that share one weight */
} packseq_tile;

/* data [N * width], and out and other as each walk says: a number for every element of data, or for every one of the
 * first step, [B * width]. */
typedef void packseq_walk(packseq_tile tile, const void *data, void *out, const void *other);

/* Elements of the tile that live at step t: a prefix of it. */
static inline int64_t alive(const packseq_tile *tile, int64_t t) {
    const int64_t n = (tile->offsets[t + 1] - tile->offsets[t]) * tile->width - tile->start;
    return n < 0 ? 0 : n < tile->size ? n : tile->size;
}

static inline int64_t position(const packseq_tile *tile, int64_t t) {
    return tile->offsets[t] * tile->width + tile->start;
}

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)

#define REAL float
#define NATURAL uint32_t
#define NUMBER REAL
#define WIDE double
#define WIDTH f32
#include "walks.h"

#define REAL double
#define NATURAL uint64_t
#define NUMBER REAL
#define WIDE double
#define WIDTH f64
#include "walks.h"

#define NUMBER int64_t
#define WIDTH i64
#include "walks.h"

#define NUMBER uint64_t
#define WIDE uint64_t
#define WIDTH u64
#include "walks.h"

typedef struct {
    const char *name;
    packseq_walk *f32, *f64, *i64, *u64; /* NULL where there is none */
} packseq_walks;

/* Signed sums are unsigned ones: the same bits, and to wrap is no undefined behaviour. */
static const packseq_walks WALKS[] = {
    {"sum", sum_f32, sum_f64, sum_u64, sum_u64},
    {"cumsum", cumsum_f32, cumsum_f64, cumsum_u64, cumsum_u64},
    {"max", max_f32, max_f64, max_i64, max_u64},
    {"min", min_f32, min_f64, min_i64, min_u64},
    {"argmax", argmax_f32, argmax_f64, argmax_i64, argmax_u64},
    {"subtract", subtract_f32, subtract_f64, NULL, NULL},
    {"divide", divide_f32, divide_f64, NULL, NULL},
    {"exp_less", exp_less_f32, exp_less_f64, NULL, NULL},
    {"weighted_sum", weighted_sum_f32, weighted_sum_f64, NULL, NULL},
};
enum { N_WALKS = sizeof WALKS / sizeof *WALKS };

#endif
