/* What exp is made of: exp(x) = 2^k (1 + r + r^2 q(r)), k = x / ln2 rounded, r = x - k ln2, so that |r| <= ln2/2.
 *
 * The kernels share this arithmetic with squash.h and walks.h, the kernels on vectors, the others on numbers in loops
 * that the compiler makes vectors of: GNU C has the same operators for both, so a macro takes either. REAL is float or
 * double where a macro is used, and NATURAL an unsigned integer as wide. An argument may be read several times.
 */
#ifndef PACKSEQ_EXPONENTIAL_H
#define PACKSEQ_EXPONENTIAL_H

#include "inline.h"

#define PER_LN2 1.4426950408889634
/* ln2 in two parts, the first short enough that k times it is exact without FMA too */
#define LN2_HIGH_f32 0.693359375f
#define LN2_LOW_f32 -2.12194440e-4f
#define LN2_HIGH_f64 6.93145751953125e-1
#define LN2_LOW_f64 1.42860682030941723212e-6
/* 1.5 * 2^mantissa: adding it rounds to an integer, which then sits in the low bits */
#define ROUNDER_f32 12582912.0f
#define ROUNDER_f64 6755399441055744.0
#define MANTISSA_f32 23
#define MANTISSA_f64 52
/* the bits of 1 */
#define ONE_f32 ((uint32_t)127 << MANTISSA_f32)
#define ONE_f64 ((uint64_t)1023 << MANTISSA_f64)

/* q is minimax, 0.22 ulp in float, 0.003 in double; its coefficients lowest power first. */
static const float Q_f32[] = {0.4999999701976776f, 0.1666654348373413f, 4.166720062494278e-2f, 8.366580121219158e-3f,
                              1.3882509665563703e-3f};
static const double Q_f64[] = {0.5,
                               1.6666666666666677e-1,
                               4.1666666666666505e-2,
                               8.333333333321608e-3,
                               1.3888888888962904e-3,
                               1.9841269886207633e-4,
                               2.4801587171838093e-05,
                               2.7557244104473494e-06,
                               2.755740294481004e-07,
                               2.510908130402609e-08,
                               2.0875326983244213e-09};

#define EXP_OF_REAL(f32, f64) (sizeof(REAL) == 8 ? (REAL)(f64) : (REAL)(f32))
#define EXP_ROUNDER EXP_OF_REAL(ROUNDER_f32, ROUNDER_f64)

/* x / ln2, so far up that it is rounded to k, which sits in the low bits; and k itself. */
#define EXP_SHIFTED(x) ((x) * (REAL)PER_LN2 + EXP_ROUNDER)
#define EXP_POWER(shifted) ((shifted) - EXP_ROUNDER)

/* The bits of 2^k, from those of EXP_SHIFTED; they wrap where x is NaN. */
#define EXP_SCALE(bits) \
    (((bits) << (sizeof(REAL) == 8 ? MANTISSA_f64 : MANTISSA_f32)) + (NATURAL)(sizeof(REAL) == 8 ? ONE_f64 : ONE_f32))

/* r */
#define EXP_REST(x, k) \
    (((x) - (k) * EXP_OF_REAL(LN2_HIGH_f32, LN2_HIGH_f64)) - (k) * EXP_OF_REAL(LN2_LOW_f32, LN2_LOW_f64))

/* Makes the function q(r), of r and r^2, for a type of numbers or of vectors; expm1(r) = r^2 q(r) + r. It is summed in
 * pairs, since the time goes into waiting.
 *
 * In statements, since GCC 12 keeps their order: of one expression it makes another order, with which an LSTM of 32
 * units took 1.09 (float) and 1.17 times (double) as long with AVX2, one sequence on Zen 4. */
#define EXP_PAIR(Q, i, r) ((r) * (REAL)Q[(i) + 1] + (REAL)Q[i])
#define DEFINE_EXP_Q(name, TYPE) \
    static INLINE TYPE name(const TYPE r, const TYPE r2) { \
        if (sizeof(REAL) == 8) { \
            const TYPE r4 = r2 * r2; \
            const TYPE q0 = EXP_PAIR(Q_f64, 0, r), q2 = EXP_PAIR(Q_f64, 2, r), q4 = EXP_PAIR(Q_f64, 4, r); \
            const TYPE q6 = EXP_PAIR(Q_f64, 6, r), q8 = EXP_PAIR(Q_f64, 8, r), q10 = r2 * (REAL)Q_f64[10] + q8; \
            return (q10 * r4 + (q6 * r2 + q4)) * r4 + (q2 * r2 + q0); \
        } \
        const TYPE q0 = EXP_PAIR(Q_f32, 0, r), q2 = EXP_PAIR(Q_f32, 2, r); \
        return (r2 * (REAL)Q_f32[4] + q2) * r2 + q0; \
    }

/* Makes the function exp(x) of numbers, for x <= 0 or NaN: within 1 ulp, and 0 where it is below the smallest normal
 * number, of which the logarithm is written here; and the q that it needs. */
#define DEFINE_EXP(name, name_of_q) \
    DEFINE_EXP_Q(name_of_q, REAL) \
    static INLINE REAL name(const REAL x) { \
        const REAL shifted = EXP_SHIFTED(x), r = EXP_REST(x, EXP_POWER(shifted)), r2 = r * r; \
        union { \
            REAL number; \
            NATURAL bits; \
        } scale = {shifted}; \
        scale.bits = EXP_SCALE(scale.bits); \
        return x < EXP_OF_REAL(-87.33654f, -708.3964185322641) ? 0 : scale.number * (1 + (r2 * name_of_q(r, r2) + r)); \
    }

#endif
