/* Vectors of one REAL, and sigmoid and tanh on them, within 3 ulp (tests/test_activations.py).
 *
 * Both come from p(r) = expm1(r) on |r| <= ln2/2, so that tanh keeps its relative accuracy near 0. Results
 * below the smallest normal number are 0, as everything in a kernel is (see runtime.h). NaN stays NaN.
 */
#define LANES ((int64_t)(VECTOR_BYTES / sizeof(REAL)))
#define NAME(x) PASTE(x, ISA, WIDTH)
#define MOST_ABREAST 6
#define V NAME(vec)
#define VU NAME(vec_unaligned)
#define VI NAME(vec_integer)
#define VN NAME(vec_natural)

typedef REAL V __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef REAL VU __attribute__((vector_size(VECTOR_BYTES), may_alias, aligned(sizeof(REAL))));
typedef INTEGER VI __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef NATURAL VN __attribute__((vector_size(VECTOR_BYTES), may_alias));

static inline V NAME(splat)(REAL x) { return x - (V){0}; }

static inline V NAME(select)(VI mask, V yes, V no) {
    return (V)((mask & (VI)yes) | (~mask & (VI)no));
}

#define IS_DOUBLE (sizeof(REAL) == 8)
#define SIGN_BIT ((INTEGER)((uint64_t)1 << (8 * sizeof(REAL) - 1)))
/* 1.5 * 2^mantissa: adding it rounds to an integer, which then sits in the low bits */
#define ROUNDER (IS_DOUBLE ? (REAL)6755399441055744.0 : (REAL)12582912.0f)
#define MANTISSA (IS_DOUBLE ? 52 : 23)
/* exp of the least is 0, of the most a huge finite number, and 2^n can be made of all between */
#define LEAST_EXP (IS_DOUBLE ? (REAL)-709.0 : (REAL)-88.0f)
#define MOST_EXP (IS_DOUBLE ? (REAL)709.0 : (REAL)88.0f)
/* ln2 in two parts, the first short enough that n * LN2_HIGH is exact without FMA too */
#define LN2_HIGH (IS_DOUBLE ? (REAL)6.93145751953125e-1 : (REAL)0.693359375f)
#define LN2_LOW (IS_DOUBLE ? (REAL)1.42860682030941723212e-6 : (REAL)-2.12194440e-4f)

/* The bound where it is greater (less) than x, else x, NaN included; one instruction where there is one. */
static inline V NAME(at_least)(REAL bound, V x) {
#ifdef MAXIMUM
    return MAXIMUM(NAME(splat)(bound), x);
#else
    return NAME(select)(x < bound, NAME(splat)(bound), x);
#endif
}

static inline V NAME(at_most)(REAL bound, V x) {
#ifdef MINIMUM
    return MINIMUM(NAME(splat)(bound), x);
#else
    return NAME(select)(x > bound, NAME(splat)(bound), x);
#endif
}

#define FOR_EACH(j, n) _Pragma("GCC unroll 8") for (int j = 0; j < n; j++)

/* LEAST_EXP <= x <= MOST_EXP: scale = 2^k and x = expm1(x - k ln2), k the nearest integer. */
static INLINE void NAME(split_exp)(const int n, V *x, V *scale) {
    V k[MOST_ABREAST], r2[MOST_ABREAST], q[MOST_ABREAST];
    FOR_EACH(j, n) {
        const V shifted = x[j] * (REAL)1.4426950408889634 + ROUNDER;
        k[j] = shifted - ROUNDER;
        scale[j] = (V)(((VN)shifted << MANTISSA) + (VN)NAME(splat)(1)); /* wraps where x is NaN */
    }
    FOR_EACH(j, n) x[j] = (x[j] - k[j] * LN2_HIGH) - k[j] * LN2_LOW;
    FOR_EACH(j, n) r2[j] = x[j] * x[j];
    /* expm1(r) = r + r^2 q(r); q is minimax, 0.22 ulp in float, 0.003 in double, and summed in pairs, since the
     * time goes into waiting */
    FOR_EACH(j, n) {
        const V r = x[j];
        if (IS_DOUBLE) {
            const V r4 = r2[j] * r2[j];
            const V q0 = r * (REAL)1.6666666666666677e-1 + (REAL)0.5;
            const V q2 = r * (REAL)8.333333333321608e-3 + (REAL)4.1666666666666505e-2;
            const V q4 = r * (REAL)1.9841269886207633e-4 + (REAL)1.3888888888962904e-3;
            const V q6 = r * (REAL)2.7557244104473494e-06 + (REAL)2.4801587171838093e-05;
            const V q8 = r * (REAL)2.510908130402609e-08 + (REAL)2.755740294481004e-07;
            const V q10 = r2[j] * (REAL)2.0875326983244213e-09 + q8;
            q[j] = (q10 * r4 + (q6 * r2[j] + q4)) * r4 + (q2 * r2[j] + q0);
        } else {
            const V q0 = r * (REAL)0.1666654348373413 + (REAL)0.4999999701976776;
            const V q2 = r * (REAL)8.366580121219158e-3 + (REAL)4.166720062494278e-2;
            q[j] = (r2[j] * (REAL)1.3882509665563703e-3 + q2) * r2[j] + q0;
        }
    }
    FOR_EACH(j, n) x[j] = r2[j] * q[j] + x[j];
}

/* Of n vectors side by side, tanh of those whose bit is set in `tanhs`, sigmoid of the others. */
static INLINE void NAME(squash)(const int n, const unsigned tanhs, V *x) {
    V scale[MOST_ABREAST];
    VI sign[MOST_ABREAST];
    FOR_EACH(j, n) {
        sign[j] = (VI)x[j] & SIGN_BIT;
        if (tanhs >> j & 1)
            x[j] = NAME(at_least)(LEAST_EXP, (V)((VI)x[j] | SIGN_BIT) * 2);
        else
            x[j] = NAME(at_most)(MOST_EXP, NAME(at_least)(LEAST_EXP, x[j]));
    }
    NAME(split_exp)(n, x, scale);
    FOR_EACH(j, n) {
        if (tanhs >> j & 1) {
            x[j] = scale[j] * x[j] + (scale[j] - 1); /* m = expm1(-2|x|) */
            x[j] = (V)(((VI)(x[j] / (x[j] + 2)) & ~SIGN_BIT) | sign[j]); /* 0 keeps its sign too */
        } else {
            x[j] = scale[j] * (1 + x[j]); /* not scale + scale * x: without FMA the product underflows first */
            x[j] = x[j] / (1 + x[j]); /* e / (1 + e): rounding errors of e cancel where they would matter */
        }
    }
}

static inline V NAME(relu)(V x) { return NAME(select)(x < 0, NAME(splat)(0), x); }

static void NAME(activate)(int activation, const REAL *x, REAL *y, int64_t n) {
    const uint64_t mode = flush_denormals();
    for (int64_t i = 0; i < n; i += LANES) {
        V v = *(const VU *)(x + i);
        if (activation)
            NAME(squash)(1, 1, &v);
        else
            NAME(squash)(1, 0, &v);
        *(VU *)(y + i) = v;
    }
    restore_denormals(mode);
}
