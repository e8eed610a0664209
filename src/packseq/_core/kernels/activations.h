/* Sigmoid, tanh, and the straight lines that some models have in sigmoid's place (tests/test_activations.py).
 *
 * Sigmoid and tanh are within 3 ulp. Both come from p(r) = expm1(r) on |r| <= ln2/2, so that tanh keeps its relative
 * accuracy near 0. Results below the smallest normal number are 0, as everything in a kernel is (see runtime.h). NaN
 * stays NaN.
 */
#ifndef HAS_VECTOR
#error "activations.h comes after vector.h: include isa.h"
#endif
#define HAS_ACTIVATIONS

#define MOST_ABREAST 6
#define IS_DOUBLE (sizeof(REAL) == 8)
#define SIGN_BIT ((INTEGER)((uint64_t)1 << (8 * sizeof(REAL) - 1)))
/* exp of the least is 0, of the most a huge finite number, and 2^n can be made of all between */
#define LEAST_EXP (IS_DOUBLE ? (REAL)-709.0 : (REAL)-88.0f)
#define MOST_EXP (IS_DOUBLE ? (REAL)709.0 : (REAL)88.0f)

DEFINE_EXP_Q(NAME(exp_q), V)

/* LEAST_EXP <= x <= MOST_EXP: scale = 2^k and x = expm1(x - k ln2), k the nearest integer. */
static INLINE void NAME(split_exp)(const int n, V *x, V *scale) {
    V k[MOST_ABREAST], r2[MOST_ABREAST], q[MOST_ABREAST];
    FOR_EACH(j, n) {
        const V shifted = EXP_SHIFTED(x[j]);
        k[j] = EXP_POWER(shifted);
        scale[j] = (V)EXP_SCALE((VN)shifted);
    }
    FOR_EACH(j, n) x[j] = EXP_REST(x[j], k[j]);
    FOR_EACH(j, n) r2[j] = x[j] * x[j];
    FOR_EACH(j, n) q[j] = NAME(exp_q)(x[j], r2[j]); /* expm1(r) = r + r^2 q(r) */
    FOR_EACH(j, n) x[j] = r2[j] * q[j] + x[j];
}

/* Sigmoid of the first vectors side by side, tanh of those after them. */
static INLINE void NAME(squash)(const int sigmoids, const int tanhs, V *x) {
    const int n = sigmoids + tanhs;
    V scale[MOST_ABREAST];
    VI sign[MOST_ABREAST];
    FOR_EACH(j, n) {
        sign[j] = (VI)x[j] & SIGN_BIT;
        if (j < sigmoids)
            x[j] = NAME(at_most)(MOST_EXP, NAME(at_least)(LEAST_EXP, x[j]));
        else
            x[j] = NAME(at_least)(LEAST_EXP, (V)((VI)x[j] | SIGN_BIT) * 2);
    }
    NAME(split_exp)(n, x, scale);
    FOR_EACH(j, n) {
        if (j < sigmoids) {
            x[j] = scale[j] * (1 + x[j]); /* not scale + scale * x: without FMA the product underflows first */
            x[j] = x[j] / (1 + x[j]); /* e / (1 + e): rounding errors of e cancel where they would matter */
        } else {
            x[j] = scale[j] * x[j] + (scale[j] - 1); /* m = expm1(-2|x|) */
            x[j] = (V)(((VI)(x[j] / (x[j] + 2)) & ~SIGN_BIT) | sign[j]); /* 0 keeps its sign too */
        }
    }
}

/* With a division, as torch and Keras have it, and so to their bits. (To multiply by 1/6 gains nothing that can be
 * measured: Zen 4, layers of 64 units, 4 rows, where a layer takes 0.93 to 0.96 of its time with sigmoids.) */
static INLINE V NAME(hard_sigmoid)(V x) { return NAME(at_most)(6, NAME(at_least)(0, x + 3)) / 6; }

static INLINE V NAME(hard_sigmoid_02)(V x) { return NAME(at_most)(1, NAME(at_least)(0, x * (REAL)0.2 + (REAL)0.5)); }

/* The activation `s` of the first vectors, which are gates, and tanh of those after them. */
static INLINE void NAME(activate_gates)(const int s, const int gates, const int tanhs, V *x) {
    if (s == PACKSEQ_SIGMOID) {
        NAME(squash)(gates, tanhs, x);
        return;
    }
    FOR_EACH(j, gates) x[j] = s == PACKSEQ_HARD_SIGMOID ? NAME(hard_sigmoid)(x[j]) : NAME(hard_sigmoid_02)(x[j]);
    NAME(squash)(0, tanhs, x + gates);
}

static inline V NAME(relu)(V x) { return NAME(select)(x < 0, NAME(splat)(0), x); }

static void NAME(activate)(int activation, const void *from, void *to, int64_t n) {
    const REAL *x = from;
    REAL *y = to;
    const uint64_t mode = enter_kernel_mode();
    for (int64_t i = 0; i < n; i += LANES) {
        V v = *(const VU *)(x + i);
        if (activation == PACKSEQ_TANH)
            NAME(squash)(0, 1, &v);
        else if (activation == PACKSEQ_SIGMOID)
            NAME(squash)(1, 0, &v);
        else
            v = activation == PACKSEQ_HARD_SIGMOID ? NAME(hard_sigmoid)(v) : NAME(hard_sigmoid_02)(v);
        *(VU *)(y + i) = v;
    }
    leave_kernel_mode(mode);
}
