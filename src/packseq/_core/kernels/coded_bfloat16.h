/* bfloat16: weights and rows rounded to the upper half of a float, ties to even; products are exact, sums float32.
 *
 * For instruction sets that have dots of two such products, DOT_BFLOAT16(sum, x, w), whose rounding is their own, and
 * TO_BFLOAT16(v), half as long as v. Others run float32 on the rounded weights, where rows keep all their bits.
 */
#ifndef HAS_VECTOR
#error "coded_bfloat16.h comes after vector.h: include isa.h"
#endif

#define GROUP 2 /* numbers of k at a time */
#define SUM V
#define X_BYTES 2
#define CODED_ROWS MAX_ROWS

static int64_t NAME(coded_row_bytes)(int64_t k) { return round_up(k * X_BYTES, 64) + 64; }

static void NAME(code_row)(const REAL *v, int64_t k, char *to, REAL *scale) {
    *scale = 1;
    for (int64_t i = 0; i < k; i += LANES) {
        const __auto_type coded = TO_BFLOAT16(NAME(load)(v + i, k - i));
        memcpy(to + i * X_BYTES, &coded, sizeof coded);
    }
}

typedef VI NAME(x_group);
typedef VI NAME(w_group);

static INLINE VI NAME(load_x)(const char *x) { return NAME(four_bytes)(x); }

static INLINE VI NAME(load_w)(const char *w) { return *(const VI *)w; }

static INLINE void NAME(add_dots)(V *sum, VI x, VI w) { DOT_BFLOAT16(*sum, x, w); }

static INLINE V NAME(first_sum)(const packseq_matrix *weights, int64_t at, const REAL *start) {
    (void)weights, (void)at;
    return *(const VU *)start;
}

static INLINE V NAME(scale_at)(const packseq_matrix *weights, int64_t vector) {
    (void)weights, (void)vector;
    return (V){0};
}

static INLINE V NAME(last_sum)(V sum, V scale, REAL row_scale, const REAL *start) {
    (void)scale, (void)row_scale, (void)start;
    return sum;
}
