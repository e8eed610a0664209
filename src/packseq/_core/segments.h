/* Walks over time, for one type of element: include with NUMBER, SUFFIX and IS_FLOAT set; WIDE, the
   type of a running total, where sums are wanted; and for floats BITS, an integer as wide.

   Row r of a step continues row r of the step before, and the rows of a step are contiguous, so a
   batch of rows of `width` elements is one of `width` times as many sequences of single numbers:
   element e of the first step continues as element e of every later step that has so many. A walk
   takes one tile of these elements through all steps; tiles are independent. */

#ifndef PACKSEQ_SEGMENTS_ONCE
#define PACKSEQ_SEGMENTS_ONCE

#include <stdint.h>
#include <string.h>

#include "exponential.h"

enum { TILE = 1024 };

/* ln of the smallest normal number. */
#define LEAST_f32 -87.33654f
#define LEAST_f64 -708.3964185322641

/* A tile, and the steps that it is taken through. */
typedef struct {
    const int64_t *offsets; /* (steps + 1,) first row of each step */
    int64_t steps, width, start, size;
    int64_t group; /* elements of a row that share one weight */
} packseq_tile;

/* data (N * width,), and out and other as each walk says: of a number for every element of data, or
   for every one of the first step, (B * width,). */
typedef void packseq_walk(packseq_tile tile, const void *data, void *out, const void *other);

/* Elements of the tile that live at step t: a prefix of it. */
static inline int64_t alive(const packseq_tile *tile, int64_t t)
{
    const int64_t n = (tile->offsets[t + 1] - tile->offsets[t]) * tile->width - tile->start;
    return n < 0 ? 0 : n < tile->size ? n : tile->size;
}

static inline int64_t position(const packseq_tile *tile, int64_t t)
{
    return tile->offsets[t] * tile->width + tile->start;
}

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define WALK(name)                                                                             \
    static void JOIN(name, SUFFIX)(packseq_tile tile, const void *data, void *out,             \
                                   const void *other)
#endif

#if !defined(NUMBER) || !defined(SUFFIX) || !defined(IS_FLOAT)
#error "segments.h is a template: set NUMBER, SUFFIX and IS_FLOAT"
#endif

#if IS_FLOAT
#define IS_NAN(x) ((x) != (x))
#else
#define IS_NAN(x) 0
#endif

#ifdef WIDE

/* out[e] = the sum over time. Eight steps are added as a tree before they reach the wide total,
   so the error does not grow with the length: three roundings of the element's own type. */
WALK(sum)
{
    (void)other;
    WIDE total[TILE] = {0};
    int64_t t = 0;
    for (; t + 8 <= tile.steps && alive(&tile, t) > 0; t += 8) {
        const NUMBER *x[8];
        for (int k = 0; k < 8; k++)
            x[k] = (const NUMBER *)data + position(&tile, t + k);
        const int64_t common = alive(&tile, t + 7);
        for (int64_t j = 0; j < common; j++)
            total[j] += ((x[0][j] + x[1][j]) + (x[2][j] + x[3][j])) +
                        ((x[4][j] + x[5][j]) + (x[6][j] + x[7][j]));
        for (int k = 0; k < 7; k++)
            for (int64_t j = common; j < alive(&tile, t + k); j++)
                total[j] += x[k][j];
    }
    for (; t < tile.steps && alive(&tile, t) > 0; t++) {
        const NUMBER *x = (const NUMBER *)data + position(&tile, t);
        for (int64_t j = 0; j < alive(&tile, t); j++)
            total[j] += x[j];
    }
    for (int64_t j = 0; j < tile.size; j++)
        ((NUMBER *)out)[tile.start + j] = (NUMBER)total[j];
}

/* out, as long as data: the sum of all steps up to each. */
WALK(cumsum)
{
    (void)other;
    WIDE total[TILE] = {0};
    for (int64_t t = 0; t < tile.steps && alive(&tile, t) > 0; t++) {
        const NUMBER *x = (const NUMBER *)data + position(&tile, t);
        NUMBER *y = (NUMBER *)out + position(&tile, t);
        const int64_t n = alive(&tile, t);
        for (int64_t j = 0; j < n; j++)
            y[j] = (NUMBER)(total[j] += x[j]);
    }
}

#endif

/* out[e] = the extreme over time; elements without a step are left as they are. A NaN, once met,
   stays: no comparison with it is true. */
#define EXTREME(name, BEATS)                                                                   \
    WALK(name)                                                                                 \
    {                                                                                          \
        (void)other;                                                                           \
        NUMBER *best = (NUMBER *)out + tile.start;                                             \
        memcpy(best, (const NUMBER *)data + position(&tile, 0),                                \
               alive(&tile, 0) * sizeof(NUMBER));                                              \
        for (int64_t t = 1; t < tile.steps && alive(&tile, t) > 0; t++) {                      \
            const NUMBER *restrict x = (const NUMBER *)data + position(&tile, t);              \
            const int64_t n = alive(&tile, t);                                                 \
            for (int64_t j = 0; j < n; j++)                                                    \
                best[j] = (x[j] BEATS best[j]) | IS_NAN(x[j]) ? x[j] : best[j];                \
        }                                                                                      \
    }

EXTREME(max, >)
EXTREME(min, <)

/* out[e], int64: the first step at which the maximum, or a NaN, is met; as it was without a step. */
WALK(argmax)
{
    (void)other;
    NUMBER best[TILE] = {0};
    int64_t *where = (int64_t *)out + tile.start;
    for (int64_t t = 0; t < tile.steps && alive(&tile, t) > 0; t++) {
        const NUMBER *x = (const NUMBER *)data + position(&tile, t);
        const int64_t n = alive(&tile, t);
        for (int64_t j = 0; j < n; j++) {
            const int nan = IS_NAN(x[j]) & !IS_NAN(best[j]);
            const int better = t == 0 ? 1 : (x[j] > best[j]) | nan;
            best[j] = better ? x[j] : best[j];
            where[j] = better ? t : where[j];
        }
    }
}

#if IS_FLOAT

/* exp(x) for x <= 0 or NaN, within 1 ulp; 0 where it is below the smallest normal number. As in
   kernels/activations.h, in a form that compilers vectorize. */
static inline NUMBER JOIN(exp_of, SUFFIX)(NUMBER x)
{
    const int last = sizeof JOIN(Q, SUFFIX) / sizeof *JOIN(Q, SUFFIX) - 1;
    const NUMBER shifted = x * (NUMBER)PER_LN2 + JOIN(ROUNDER, SUFFIX);
    const NUMBER n = shifted - JOIN(ROUNDER, SUFFIX);
    const NUMBER r = (x - n * JOIN(LN2_HIGH, SUFFIX)) - n * JOIN(LN2_LOW, SUFFIX);
    union {
        NUMBER number;
        BITS bits;
    } scale = {shifted}, one = {1};
    scale.bits = (scale.bits << JOIN(MANTISSA, SUFFIX)) + one.bits;
    NUMBER q = JOIN(Q, SUFFIX)[last];
#pragma GCC unroll 16
    for (int i = last - 1; i >= 0; i--)
        q = q * r + JOIN(Q, SUFFIX)[i];
    return x < JOIN(LEAST, SUFFIX) ? 0 : scale.number * (1 + (r + r * r * q));
}

/* out, as long as data and possibly data itself: each step with its sequence's own number of other. */
#define COMBINE(name, RESULT)                                                                  \
    WALK(name)                                                                                 \
    {                                                                                          \
        for (int64_t t = 0; t < tile.steps && alive(&tile, t) > 0; t++) {                      \
            const NUMBER *x = (const NUMBER *)data + position(&tile, t);                       \
            const NUMBER *y = (const NUMBER *)other + tile.start;                              \
            NUMBER *z = (NUMBER *)out + position(&tile, t);                                    \
            const int64_t n = alive(&tile, t);                                                 \
            for (int64_t j = 0; j < n; j++)                                                    \
                z[j] = RESULT;                                                                 \
        }                                                                                      \
    }

COMBINE(subtract, x[j] - y[j])
COMBINE(divide, x[j] / y[j])
COMBINE(exp_less, JOIN(exp_of, SUFFIX)(x[j] - y[j]))
#undef COMBINE

/* The products of eight steps: element i of the tile, weight g. */
#define PRODUCTS(g, i)                                                                         \
    (((w[0][g] * x[0][i] + w[1][g] * x[1][i]) + (w[2][g] * x[2][i] + w[3][g] * x[3][i])) +     \
     ((w[4][g] * x[4][i] + w[5][g] * x[5][i]) + (w[6][g] * x[6][i] + w[7][g] * x[7][i])))

/* out[e] = the sum over time of data times other, (N * width / group,). As in sum, eight steps
   meet before the total. */
WALK(weighted_sum)
{
    const NUMBER *w[8], *x[8];
    WIDE total[TILE] = {0};
    for (int64_t t = 0; t < tile.steps && alive(&tile, t) > 0;) {
        const int64_t n = alive(&tile, t);
        const int count = t + 8 <= tile.steps && alive(&tile, t + 7) == n ? 8 : 1;
        for (int k = 0; k < count; k++) {
            x[k] = (const NUMBER *)data + position(&tile, t + k);
            w[k] = (const NUMBER *)other + tile.offsets[t + k] * (tile.width / tile.group);
        }
        /* Without this, a division for every element. */
        if (tile.group == 1 && count == 8)
            for (int64_t i = 0; i < n; i++)
                total[i] += PRODUCTS(tile.start + i, i);
        else if (tile.group == 1)
            for (int64_t i = 0; i < n; i++)
                total[i] += w[0][tile.start + i] * x[0][i];
        else
            for (int64_t j = 0, end; j < n; j = end) {
                const int64_t g = (tile.start + j) / tile.group;
                end = (g + 1) * tile.group - tile.start;
                end = end < n ? end : n;
                if (count == 8)
                    for (int64_t i = j; i < end; i++)
                        total[i] += PRODUCTS(g, i);
                else
                    for (int64_t i = j; i < end; i++)
                        total[i] += w[0][g] * x[0][i];
            }
        t += count;
    }
    for (int64_t j = 0; j < tile.size; j++)
        ((NUMBER *)out)[tile.start + j] = (NUMBER)total[j];
}
#undef PRODUCTS

/* top[i] and total[i] = the maximum of row i of x, (rows, size), and the sum of exp(x - top). In
   lanes of their own, since a chain of one maximum or sum cannot be vectorized. */
#define GREATER(x, best) (((x) > (best)) | IS_NAN(x) ? (x) : (best))
static void JOIN(row_totals, SUFFIX)(int64_t rows, int64_t size, const void *data, void *tops,
                                     void *totals)
{
    /* Zen 3, ns for a row of 64 with 16, 32 and 64 lanes: 134, 174, 216. */
    enum { LANES = 16 };
    const int64_t lanes = size < LANES ? size : LANES;
    for (int64_t i = 0; i < rows; i++) {
        const NUMBER *x = (const NUMBER *)data + i * size;
        NUMBER best[LANES], sum[LANES] = {0};
        memcpy(best, x, lanes * sizeof(NUMBER));
        for (int64_t c = lanes; c < size; c += LANES) {
            const int64_t n = size - c < LANES ? size - c : LANES;
            for (int64_t k = 0; k < n; k++)
                best[k] = GREATER(x[c + k], best[k]);
        }
        NUMBER top = best[0];
        for (int64_t k = 1; k < lanes; k++)
            top = GREATER(best[k], top);
        for (int64_t c = 0; c < size; c += LANES) {
            const int64_t n = size - c < LANES ? size - c : LANES;
            for (int64_t k = 0; k < n; k++)
                sum[k] += JOIN(exp_of, SUFFIX)(x[c + k] - top);
        }
        WIDE total = 0;
        for (int64_t k = 0; k < lanes; k++)
            total += sum[k];
        ((NUMBER *)tops)[i] = top;
        ((NUMBER *)totals)[i] = (NUMBER)total;
    }
}
#undef GREATER
#endif

#undef EXTREME
#undef IS_NAN
#undef NUMBER
#undef WIDE
#undef BITS
#undef SUFFIX
#undef IS_FLOAT
