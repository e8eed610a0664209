/* int8: weights of 8 bits for each output, and rows of 8 bits for each row and step, both symmetric.
 *
 * Of a row v, a = max|v|: q = rint(v (127 / a)), ties to even, and v is q (a / 127), about; where a < 2^-100 all is
 * 0, and where v has a NaN or infinity, so have its results, and no others. Sums are int32 and exact, so every
 * instruction set may add up as it likes; all that is float32 here is rounded after each operation, fused nowhere.
 * tests/reference.py has the same in NumPy.
 *
 * An instruction set adds up in one of two ways, from the same panels [panel][K/4][2][U][4]:
 *   bytes: DOT_BYTES(sum, x, w) adds four products of bytes to each sum, of w with x + ZERO_POINT, for which the sums
 *          begin at what that is too much;
 *   pairs: two products of 16-bit numbers, by PAIR_PRODUCTS(x, w), or without it by plain vectors.
 * LARGER(a, b), lane by lane, is one instruction where there is one.
 */
#ifndef HAS_VECTOR
#error "coded_int8.h comes after vector.h: include isa.h"
#endif

#define GROUP 4 /* numbers of k at a time */
#define SUM VI
#ifdef DOT_BYTES
#define X_BYTES 1
#define CODED_ROWS MAX_ROWS
#else
#define X_BYTES 2
#define ZERO_POINT 0
#define CODED_ROWS 4 /* weights are taken apart in registers */
#endif
#define LEAST_LARGEST 0x1p-100f
#define INFINITE_BITS 0x7f800000

typedef uint8_t NAME(bytes) __attribute__((vector_size(VECTOR_BYTES / 4), may_alias, aligned(1)));
typedef int16_t NAME(halves) __attribute__((vector_size(VECTOR_BYTES / 2), may_alias, aligned(2)));
typedef uint64_t NAME(fours) __attribute__((vector_size(VECTOR_BYTES / 2), may_alias, aligned(2)));
typedef int16_t NAME(pairs) __attribute__((vector_size(VECTOR_BYTES), may_alias));

/* ---- rows ---- */

/* The bits of max|v|, which are in the order of the numbers, NaN the greatest. With LARGER, and in halves, of which GCC
 * makes a few shuffles, layers of 64 units take 0.94 to 0.96 of the time, of 128 0.97 (Zen 4, AVX-512 with VNNI). */
static int32_t NAME(largest_bits)(const REAL *v, int64_t k) {
    VI most = {0};
    for (int64_t i = 0; i < k; i += LANES) {
        const VI bits = (VI)NAME(load)(v + i, k - i) & 0x7fffffff;
#ifdef LARGER
        most = LARGER(most, bits);
#else
        most = (VI)NAME(select)(bits > most, (V)bits, (V)most);
#endif
    }
    int32_t found[LANES];
    memcpy(found, &most, sizeof found);
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) found[j] = found[j] > found[j + half] ? found[j] : found[j + half];
    return found[0];
}

/* A vector of q, as the dots take it. In pairs, each four are in the order 0 2 1 3, since even and odd bytes of the
 * weights come out together. */
static INLINE void NAME(store_coded)(char *to, VI q) {
#ifdef DOT_BYTES
    *(NAME(bytes) *)to = __builtin_convertvector(q + ZERO_POINT, NAME(bytes));
#else
    const NAME(halves) halves = __builtin_convertvector(q, NAME(halves));
    const NAME(fours) in_order = (NAME(fours))halves;
    *(NAME(fours) *)to = (in_order & 0xffff00000000ffff) | ((in_order << 16) & 0x0000ffff00000000) |
                         ((in_order >> 16) & 0x00000000ffff0000);
#endif
}

static int64_t NAME(coded_row_bytes)(int64_t k) { return round_up(k * X_BYTES, 64) + 64; }

static void NAME(code_row)(const REAL *v, int64_t k, char *to, REAL *scale) {
    const int32_t bits = NAME(largest_bits)(v, k);
    REAL most;
    memcpy(&most, &bits, sizeof most);
    const int usable = bits < INFINITE_BITS && most >= LEAST_LARGEST;
    const V factor = NAME(splat)(usable ? 127 / most : 0);
    *scale = usable ? most / 127 : bits < INFINITE_BITS ? 0 : (REAL)NAN;
    for (int64_t i = 0; i < k; i += LANES, to += LANES * X_BYTES) {
        V scaled = NAME(load)(v + i, k - i) * factor;
        ROUNDED(scaled);
        const V shifted = scaled + EXP_ROUNDER; /* which rounds to an integer, in the low bits */
        NAME(store_coded)(to, ((VI)shifted - (VI)NAME(splat)(EXP_ROUNDER)) & -usable);
    }
}

/* ---- dots ---- */

#ifdef DOT_BYTES
typedef VI NAME(x_group);
typedef VI NAME(w_group);
#else
typedef struct {
    VI even, odd; /* pairs */
} NAME(x_group), NAME(w_group);
#endif

static INLINE NAME(x_group) NAME(load_x)(const char *x) {
#ifdef DOT_BYTES
    return NAME(four_bytes)(x);
#else
    return (NAME(x_group)){NAME(four_bytes)(x), NAME(four_bytes)(x + 4)};
#endif
}

static INLINE NAME(w_group) NAME(load_w)(const char *w) {
#ifdef DOT_BYTES
    return *(const VI *)w;
#else
    const NAME(pairs) bytes = *(const NAME(pairs) *)w;
    return (NAME(w_group)){(VI)(bytes << 8 >> 8), (VI)(bytes >> 8)};
#endif
}

#ifndef DOT_BYTES
static INLINE VI NAME(pair_products)(VI x, VI w) {
#ifdef PAIR_PRODUCTS
    return PAIR_PRODUCTS(x, w);
#else
    return (x << 16 >> 16) * (w << 16 >> 16) + (x >> 16) * (w >> 16);
#endif
}
#endif

static INLINE void NAME(add_dots)(VI *sum, NAME(x_group) x, NAME(w_group) w) {
#ifdef DOT_BYTES
    DOT_BYTES(*sum, x, w);
#else
    *sum += NAME(pair_products)(x.even, w.even) + NAME(pair_products)(x.odd, w.odd);
#endif
}

static INLINE VI NAME(first_sum)(const packseq_matrix *weights, int64_t at, const REAL *start) {
    (void)start;
    return *(const VI *)(weights->sums + at) * -ZERO_POINT;
}

/* The scales of a vector of outputs. */
static INLINE V NAME(scale_at)(const packseq_matrix *weights, int64_t vector) {
    return ((const V *)weights->scales)[vector];
}

static INLINE V NAME(last_sum)(VI sum, V scale, REAL row_scale, const REAL *start) {
    scale *= row_scale;
    ROUNDED(scale);
    V product = __builtin_convertvector(sum, V) * scale;
    ROUNDED(product);
    return *(const VU *)start + product;
}
