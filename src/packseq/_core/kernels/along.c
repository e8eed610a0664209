/* What is made of rows along their numbers where there are no kernels, whose baseline has the same otherwise. */
#include <stdint.h>

#include "exponential.h"
#include "kernels.h"

#ifdef PACKSEQ_NO_KERNELS

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define NAME(x) PASTE(x, WIDTH)

#define REAL float
#define NATURAL uint32_t
#define WIDTH f32
#include "along.h"
#undef REAL
#undef NATURAL
#undef WIDTH

#define REAL double
#define NATURAL uint64_t
#define WIDTH f64
#include "along.h"

packseq_along_rows *const *packseq_plain_along(enum packseq_format format) {
    return format == PACKSEQ_F32 ? along_f32 : along_f64;
}
#endif
