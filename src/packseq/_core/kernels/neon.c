#include "targets.h"
#if PACKSEQ_HAVE_NEON
#define ISA neon
#define VECTOR_BYTES 16
#define MAX_ROWS 12 /* 12 rows x 2 vectors = 24 of 32 registers */
#define MOST_ROWS_OF_TWO 4
#include <arm_neon.h>
#define ROUNDED(v) __asm__("" : "+w"(v))
#define PAIR_PRODUCTS(x, w) \
    ((VI)vpaddq_s32(vmull_s16(vget_low_s16((int16x8_t)(x)), vget_low_s16((int16x8_t)(w))), \
                    vmull_high_s16((int16x8_t)(x), (int16x8_t)(w))))
#include "isa.h"
#endif
