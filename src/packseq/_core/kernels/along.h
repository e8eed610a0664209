/* Rows that lie one after the other, [rows][size], each taken along its numbers: sums, extremes, exponentials.
 *
 * Plain C in loops that compilers make vectors of, for each instruction set and, in along.c, for what every machine
 * has. A row's numbers are dealt out to STRANDS, the i-th to strand i % STRANDS, and the strands are joined in halves:
 * so the order of a sum depends on the row's size alone. Other than the exponentials' own rounding, where there is FMA,
 * results are the same on every instruction set; tests/reference_along.py has the same in plain Python.
 *
 * NAME(x) is x for a REAL, float or double, and NATURAL an unsigned integer as wide.
 */
#if !defined(NAME) || !defined(REAL) || !defined(NATURAL)
#error "along.h is a template: NAME names its functions, REAL is their number and NATURAL an integer as wide"
#endif

#ifndef PACKSEQ_ALONG_H
#define PACKSEQ_ALONG_H
enum {
    STRANDS = 16,
    EXPONENTIALS = 1024, /* at a time, where they are not kept */
    ABREAST = 4          /* rows whose running sums are kept at a time: each waits for its own addition */
};

/* Not unrolled, since GCC 12 unrolls a loop of 16 turns before it would make vectors of it: 10,000 maxima of 256
 * float32 take 5.4 ms then, and 0.7 without (Zen 4, SSE2). */
#ifdef __GNUC__
#define FOR_STRANDS(k) _Pragma("GCC unroll 1") for (int k = 0; k < STRANDS; k++)
#else
#define FOR_STRANDS(k) for (int k = 0; k < STRANDS; k++)
#endif
#endif

/* ---- sums, in double: eight numbers of a strand are added as a tree before ---- */

static INLINE void NAME(add_to)(double *sum, const REAL *x, int64_t n) {
    int64_t i = 0;
    for (; i + 8 * STRANDS <= n; i += 8 * STRANDS) FOR_STRANDS(k) {
            const REAL *a = x + i + k, *b = a + 4 * STRANDS;
            sum[k] += ((a[0] + a[STRANDS]) + (a[2 * STRANDS] + a[3 * STRANDS])) +
                      ((b[0] + b[STRANDS]) + (b[2 * STRANDS] + b[3 * STRANDS]));
        }
    for (; i + STRANDS <= n; i += STRANDS) FOR_STRANDS(k) sum[k] += x[i + k];
    for (int k = 0; k < n - i; k++) sum[k] += x[i + k];
}

static INLINE REAL NAME(joined)(double *sum) {
    for (int half = STRANDS / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++) sum[k] += sum[k + half];
    return (REAL)sum[0];
}

/* out [rows] */
static void NAME(sum_along)(int64_t rows, int64_t size, const void *data, void *out) {
    for (int64_t i = 0; i < rows; i++) {
        double sum[STRANDS] = {0};
        NAME(add_to)(sum, (const REAL *)data + i * size, size);
        ((REAL *)out)[i] = NAME(joined)(sum);
    }
}

/* out [rows][size]: the sum of all numbers up to each, one after the other, in double */
static void NAME(cumsum_along)(int64_t rows, int64_t size, const void *data, void *out) {
    const REAL *x = (const REAL *)data;
    REAL *y = (REAL *)out;
    for (int64_t i = 0; i < rows; i += ABREAST, x += ABREAST * size, y += ABREAST * size) {
        double total[ABREAST] = {0};
        if (i + ABREAST <= rows) {
            for (int64_t c = 0; c < size; c++)
                for (int r = 0; r < ABREAST; r++) y[r * size + c] = (REAL)(total[r] += x[r * size + c]);
        } else {
            for (int64_t r = 0; r < rows - i; r++)
                for (int64_t c = 0; c < size; c++) y[r * size + c] = (REAL)(total[r] += x[r * size + c]);
        }
    }
}

/* ---- extremes: a NaN is that of what it is in ---- */

#define EXTREME_ALONG(name, BEATS) \
    static OUTLINE REAL NAME(name##_of)(const REAL *x, int64_t n) { \
        REAL best[STRANDS], nan[STRANDS] = {0}; /* apart, since no comparison with a NaN is true */ \
        int64_t i = 0; \
        for (int k = 0; k < STRANDS; k++) best[k] = x[k < n ? k : 0]; \
        for (; i + STRANDS <= n; i += STRANDS) FOR_STRANDS(k) { \
                best[k] = x[i + k] BEATS best[k] ? x[i + k] : best[k]; \
                nan[k] = x[i + k] != x[i + k] ? x[i + k] : nan[k]; \
            } \
        for (int k = 0; k < n - i; k++) { \
            best[k] = x[i + k] BEATS best[k] ? x[i + k] : best[k]; \
            nan[k] = x[i + k] != x[i + k] ? x[i + k] : nan[k]; \
        } \
        for (int half = STRANDS / 2; half > 0; half /= 2) \
            for (int k = 0; k < half; k++) { \
                best[k] = best[k + half] BEATS best[k] ? best[k + half] : best[k]; \
                nan[k] += nan[k + half]; \
            } \
        return nan[0] != nan[0] ? nan[0] : best[0]; \
    } \
    static void NAME(name##_along)(int64_t rows, int64_t size, const void *data, void *out) { \
        for (int64_t i = 0; i < rows; i++) ((REAL *)out)[i] = NAME(name##_of)((const REAL *)data + i * size, size); \
    }

EXTREME_ALONG(max, >)
EXTREME_ALONG(min, <)
#undef EXTREME_ALONG

/* ---- exponentials ---- */

DEFINE_EXP(NAME(exp_of_number), NAME(exp_q_of_number))

/* powers [n] = the exponentials of x without `top`, which are added to `sum`. */
static OUTLINE void NAME(add_powers)(double *sum, const REAL *restrict x, REAL top, REAL *restrict powers, int64_t n) {
    for (int64_t j = 0; j < n; j++) powers[j] = NAME(exp_of_number)(x[j] - top);
    NAME(add_to)(sum, powers, n);
}

/* out [2][rows]: the maximum of each row, and the sum of the exponentials of what is left without it */
static void NAME(totals_along)(int64_t rows, int64_t size, const void *data, void *out) {
    REAL powers[EXPONENTIALS];
    for (int64_t i = 0; i < rows; i++) {
        const REAL *x = (const REAL *)data + i * size, top = NAME(max_of)(x, size);
        double sum[STRANDS] = {0};
        for (int64_t c = 0; c < size; c += EXPONENTIALS) {
            const int64_t n = size - c < EXPONENTIALS ? size - c : EXPONENTIALS;
            NAME(add_powers)(sum, x + c, top, powers, n);
        }
        ((REAL *)out)[i] = top;
        ((REAL *)out)[rows + i] = NAME(joined)(sum);
    }
}

/* out [rows][size]: these exponentials, divided by their sum */
static void NAME(softmax_along)(int64_t rows, int64_t size, const void *data, void *out) {
    for (int64_t i = 0; i < rows; i++) {
        const REAL *x = (const REAL *)data + i * size, top = NAME(max_of)(x, size);
        REAL *y = (REAL *)out + i * size;
        double sum[STRANDS] = {0};
        NAME(add_powers)(sum, x, top, y, size);
        const REAL total = NAME(joined)(sum);
        for (int64_t j = 0; j < size; j++) y[j] /= total;
    }
}

/* By packseq_along. */
static packseq_along_rows *const NAME(along)[PACKSEQ_N_ALONG] = {
    NAME(sum_along), NAME(cumsum_along), NAME(max_along), NAME(min_along), NAME(totals_along), NAME(softmax_along),
};
