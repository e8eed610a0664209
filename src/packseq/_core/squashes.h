/* Sigmoid, tanh and the others, for one type of number. */
#if !defined(PACKSEQ_SQUASH_H) || !defined(REAL) || !defined(NATURAL) || !defined(WIDTH)
#error "squashes.h is a template of squash.h: REAL is the type, WIDTH its name, NATURAL an unsigned integer as wide"
#endif

#define NAME(x) PASTE(x, WIDTH)
#define SIGN_BIT ((NATURAL)1 << (8 * sizeof(REAL) - 1))
/* exp of the least is 0, of the most a huge finite number, and 2^k can be made of all between */
#define LEAST_EXP EXP_OF_REAL(-88.0f, -709.0)
#define MOST_EXP EXP_OF_REAL(88.0f, 709.0)
/* The bound where it is greater (less) than x, else x, NaN included. */
#define AT_LEAST(bound, x) ((x) < (bound) ? (bound) : (x))
#define AT_MOST(bound, x) ((x) > (bound) ? (bound) : (x))

DEFINE_EXP_Q(NAME(exp_q), REAL)

typedef union {
    REAL number;
    NATURAL bits;
} NAME(word);

typedef struct {
    REAL scale, rest; /* exp(x) = scale * (1 + rest) */
} NAME(parts);

/* LEAST_EXP <= x <= MOST_EXP */
static INLINE NAME(parts) NAME(split_exp)(REAL x) {
    const REAL shifted = EXP_SHIFTED(x), r = EXP_REST(x, EXP_POWER(shifted)), r2 = r * r;
    NAME(word) scale = {shifted};
    scale.bits = EXP_SCALE(scale.bits);
    const NAME(parts) parts = {scale.number, r2 * NAME(exp_q)(r, r2) + r};
    return parts;
}

static INLINE REAL NAME(sigmoid_of)(REAL x) {
    const REAL above = AT_LEAST(LEAST_EXP, x);
    const NAME(parts) e = NAME(split_exp)(AT_MOST(MOST_EXP, above));
    const REAL exp = e.scale * (1 + e.rest);
    return exp / (1 + exp); /* rounding errors of exp cancel where they would matter */
}

static INLINE REAL NAME(tanh_of)(REAL x) {
    NAME(word) minus = {x};
    minus.bits |= SIGN_BIT;
    const REAL twice = 2 * minus.number;
    const NAME(parts) e = NAME(split_exp)(AT_LEAST(LEAST_EXP, twice));
    const REAL m = e.scale * e.rest + (e.scale - 1); /* expm1(-2|x|) */
    NAME(word) y = {m / (m + 2)}, sign = {x};
    y.bits = (y.bits & ~SIGN_BIT) | (sign.bits & SIGN_BIT);
    return y.number;
}

static INLINE REAL NAME(hard_sigmoid_of)(REAL x) {
    const REAL above = AT_LEAST(0, x + 3);
    return AT_MOST(6, above) / 6;
}

static INLINE REAL NAME(hard_sigmoid_02_of)(REAL x) {
    const REAL line = x * (REAL)0.2 + (REAL)0.5, above = AT_LEAST(0, line);
    return AT_MOST(1, above);
}

/* x [n] = activation(x), one of packseq_activation. */
WIDER_TOO static void NAME(squash)(int activation, REAL *x, int64_t n) {
    switch (activation) {
    case PACKSEQ_SIGMOID:
        for (int64_t j = 0; j < n; j++) x[j] = NAME(sigmoid_of)(x[j]);
        break;
    case PACKSEQ_HARD_SIGMOID:
        for (int64_t j = 0; j < n; j++) x[j] = NAME(hard_sigmoid_of)(x[j]);
        break;
    case PACKSEQ_HARD_SIGMOID_02:
        for (int64_t j = 0; j < n; j++) x[j] = NAME(hard_sigmoid_02_of)(x[j]);
        break;
    default:
        for (int64_t j = 0; j < n; j++) x[j] = NAME(tanh_of)(x[j]);
    }
}

#undef NAME
#undef SIGN_BIT
#undef LEAST_EXP
#undef MOST_EXP
#undef AT_LEAST
#undef AT_MOST
#undef REAL
#undef NATURAL
#undef WIDTH
