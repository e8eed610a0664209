/* Walks over time, for one type of element: include with NUMBER, SUFFIX and IS_FLOAT set, and
   WIDE, the type of a running total, where sums are wanted.

   Row r of a step continues row r of the step before, and the rows of a step are contiguous, so a
   batch of rows of `width` elements is one of `width` times as many sequences of single numbers:
   element e of the first step continues as element e of every later step that has so many. A walk
   takes one tile of these elements through all steps; tiles are independent. */

#ifndef PACKSEQ_SEGMENTS_ONCE
#define PACKSEQ_SEGMENTS_ONCE

#include <stdint.h>
#include <string.h>

enum { TILE = 1024 };

/* A tile, and the steps that it is taken through. */
typedef struct {
    const int64_t *offsets; /* (steps + 1,) first row of each step */
    int64_t steps, width, start, size;
} packseq_tile;

/* data (N * width,) and the tile's part of one or two arrays in packed order, (B * width,). */
typedef void packseq_walk(packseq_tile tile, const void *data, void *out, void *per_sequence);

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
                                   void *per_sequence)
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
    (void)per_sequence;
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
    (void)per_sequence;
    WIDE total[TILE] = {0};
    for (int64_t t = 0; t < tile.steps && alive(&tile, t) > 0; t++) {
        const NUMBER *x = (const NUMBER *)data + position(&tile, t);
        NUMBER *y = (NUMBER *)out + position(&tile, t);
        const int64_t n = alive(&tile, t);
        for (int64_t j = 0; j < n; j++)
            y[j] = (NUMBER)(total[j] += x[j]);
    }
}

#undef WIDE
#endif

/* out[e] = the extreme over time; elements without a step are left as they are. A NaN, once met,
   stays: no comparison with it is true. */
#define EXTREME(name, BEATS)                                                                   \
    WALK(name)                                                                                 \
    {                                                                                          \
        (void)per_sequence;                                                                    \
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
    (void)per_sequence;
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

/* out, as long as data and possibly data itself: each step with its sequence's own number. */
#define COMBINE(name, OPERATOR)                                                                \
    WALK(name)                                                                                 \
    {                                                                                          \
        const NUMBER *y = (const NUMBER *)per_sequence + tile.start;                           \
        for (int64_t t = 0; t < tile.steps && alive(&tile, t) > 0; t++) {                      \
            const NUMBER *x = (const NUMBER *)data + position(&tile, t);                       \
            NUMBER *z = (NUMBER *)out + position(&tile, t);                                    \
            const int64_t n = alive(&tile, t);                                                 \
            for (int64_t j = 0; j < n; j++)                                                    \
                z[j] = x[j] OPERATOR y[j];                                                     \
        }                                                                                      \
    }

COMBINE(subtract, -)
COMBINE(divide, /)
#undef COMBINE
#endif

#undef EXTREME
#undef IS_NAN
#undef NUMBER
#undef SUFFIX
#undef IS_FLOAT
