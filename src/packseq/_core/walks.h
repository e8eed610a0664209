/* Walks over time, for one type of element.
 *
 * Row r of a step continues row r of the step before, and the rows of a step are contiguous, so a batch of rows of
 * `width` elements is one of `width` times as many sequences of single numbers: element e of the first step continues
 * as element e of every later step that has so many. A walk takes one tile of these elements through all steps; tiles
 * are independent.
 */
#if !defined(PACKSEQ_SEGMENTS_H) || !defined(NUMBER) || !defined(WIDTH)
#error "walks.h is a template of segments.h: NUMBER is the type, WIDTH its name; WIDE that of a running total, if any"
#endif
#if defined(REAL) && (!defined(NATURAL) || !defined(WIDE))
#error "REAL, which is NUMBER where that is a float, needs NATURAL, an unsigned integer as wide, and WIDE"
#endif

#define NAME(x) PASTE(x, WIDTH)
#define WALK(name) static void NAME(name)(packseq_tile tile, const void *data, void *out, const void *other)
#ifdef REAL
#define IS_NAN(x) ((x) != (x))
#else
#define IS_NAN(x) 0
#endif

#ifdef WIDE

/* out[e] = the sum over time. Eight steps are added as a tree before they reach the wide total, so the error does not
 * grow with the length: three roundings of the element's own type. */
WALK(sum) {
    (void)other;
    WIDE total[TILE] = {0};
    int64_t t = 0;
    for (; t + 8 <= tile.steps && alive(&tile, t) > 0; t += 8) {
        const NUMBER *x[8];
        for (int k = 0; k < 8; k++) x[k] = (const NUMBER *)data + position(&tile, t + k);
        const int64_t common = alive(&tile, t + 7);
        for (int64_t j = 0; j < common; j++)
            total[j] += ((x[0][j] + x[1][j]) + (x[2][j] + x[3][j])) + ((x[4][j] + x[5][j]) + (x[6][j] + x[7][j]));
        for (int k = 0; k < 7; k++)
            for (int64_t j = common; j < alive(&tile, t + k); j++) total[j] += x[k][j];
    }
    for (; t < tile.steps && alive(&tile, t) > 0; t++) {
        const NUMBER *x = (const NUMBER *)data + position(&tile, t);
        for (int64_t j = 0; j < alive(&tile, t); j++) total[j] += x[j];
    }
    for (int64_t j = 0; j < tile.size; j++) ((NUMBER *)out)[tile.start + j] = (NUMBER)total[j];
}

/* out, as long as data: the sum of all steps up to each. */
WALK(cumsum) {
    (void)other;
    WIDE total[TILE] = {0};
    for (int64_t t = 0; t < tile.steps && alive(&tile, t) > 0; t++) {
        const NUMBER *x = (const NUMBER *)data + position(&tile, t);
        NUMBER *y = (NUMBER *)out + position(&tile, t);
        const int64_t n = alive(&tile, t);
        for (int64_t j = 0; j < n; j++) y[j] = (NUMBER)(total[j] += x[j]);
    }
}

#endif

/* out[e] = the extreme over time; elements without a step are left as they are. A NaN, once met, stays: no comparison
 * with it is true. */
#define EXTREME(name, BEATS) \
    WALK(name) { \
        (void)other; \
        NUMBER *best = (NUMBER *)out + tile.start; \
        memcpy(best, (const NUMBER *)data + position(&tile, 0), alive(&tile, 0) * sizeof(NUMBER)); \
        for (int64_t t = 1; t < tile.steps && alive(&tile, t) > 0; t++) { \
            const NUMBER *restrict x = (const NUMBER *)data + position(&tile, t); \
            const int64_t n = alive(&tile, t); \
            for (int64_t j = 0; j < n; j++) best[j] = ((x[j] BEATS best[j]) | IS_NAN(x[j])) ? x[j] : best[j]; \
        } \
    }

EXTREME(max, >)
EXTREME(min, <)

/* out[e], int64: the first step at which the maximum, or a NaN, is met; as it was without a step. */
WALK(argmax) {
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

#ifdef REAL

DEFINE_EXP(NAME(exp_of), NAME(exp_q))

/* out, as long as data and possibly data itself: each step with its sequence's own number of other. */
#define COMBINE(name, RESULT) \
    WALK(name) { \
        for (int64_t t = 0; t < tile.steps && alive(&tile, t) > 0; t++) { \
            const NUMBER *x = (const NUMBER *)data + position(&tile, t); \
            const NUMBER *y = (const NUMBER *)other + tile.start; \
            NUMBER *z = (NUMBER *)out + position(&tile, t); \
            const int64_t n = alive(&tile, t); \
            for (int64_t j = 0; j < n; j++) z[j] = RESULT; \
        } \
    }

COMBINE(subtract, x[j] - y[j])
COMBINE(divide, x[j] / y[j])
COMBINE(exp_less, NAME(exp_of)(x[j] - y[j]))
#undef COMBINE

/* The products of eight steps: element i of the tile, weight g. */
#define PRODUCTS(g, i) \
    (((w[0][g] * x[0][i] + w[1][g] * x[1][i]) + (w[2][g] * x[2][i] + w[3][g] * x[3][i])) + \
     ((w[4][g] * x[4][i] + w[5][g] * x[5][i]) + (w[6][g] * x[6][i] + w[7][g] * x[7][i])))

/* out[e] = the sum over time of data times other, [N * width / group]. As in sum, eight steps meet before the
 * total. */
WALK(weighted_sum) {
    const NUMBER *w[8], *x[8];
    WIDE total[TILE] = {0};
    for (int64_t t = 0; t < tile.steps && alive(&tile, t) > 0;) {
        const int64_t n = alive(&tile, t);
        const int count = t + 8 <= tile.steps && alive(&tile, t + 7) == n ? 8 : 1;
        for (int k = 0; k < count; k++) {
            x[k] = (const NUMBER *)data + position(&tile, t + k);
            w[k] = (const NUMBER *)other + tile.offsets[t + k] * (tile.width / tile.group);
        }
        /* Weights of single elements are told apart, since those of a group take a division to find. */
        if (tile.group == 1 && count == 8)
            for (int64_t i = 0; i < n; i++) total[i] += PRODUCTS(tile.start + i, i);
        else if (tile.group == 1)
            for (int64_t i = 0; i < n; i++) total[i] += w[0][tile.start + i] * x[0][i];
        else
            for (int64_t j = 0, end; j < n; j = end) {
                const int64_t g = (tile.start + j) / tile.group;
                end = (g + 1) * tile.group - tile.start;
                end = end < n ? end : n;
                if (count == 8)
                    for (int64_t i = j; i < end; i++) total[i] += PRODUCTS(g, i);
                else
                    for (int64_t i = j; i < end; i++) total[i] += w[0][g] * x[0][i];
            }
        t += count;
    }
    for (int64_t j = 0; j < tile.size; j++) ((NUMBER *)out)[tile.start + j] = (NUMBER)total[j];
}
#undef PRODUCTS

#undef REAL
#undef NATURAL
#endif

#undef EXTREME
#undef IS_NAN
#undef WALK
#undef NAME
#undef NUMBER
#undef WIDE
#undef WIDTH
