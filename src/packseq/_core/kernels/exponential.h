/* What exp is made of, here and in segments.h: exp(x) = 2^k (1 + r + r^2 q(r)), k = x / ln2 rounded, |r| <= ln2/2.
 * q is minimax, 0.22 ulp in float, 0.003 in double; its coefficients lowest power first. */
#ifndef PACKSEQ_EXPONENTIAL_H
#define PACKSEQ_EXPONENTIAL_H

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

static const float Q_f32[] = {0.4999999701976776f, 0.1666654348373413f, 4.166720062494278e-2f, 8.366580121219158e-3f,
                              1.3882509665563703e-3f};
static const double Q_f64[] = {
    0.5,                    1.6666666666666677e-1,  4.1666666666666505e-2,  8.333333333321608e-3,
    1.3888888888962904e-3,  1.9841269886207633e-4,  2.4801587171838093e-05, 2.7557244104473494e-06,
    2.755740294481004e-07,  2.510908130402609e-08,  2.0875326983244213e-09,
};

#endif
