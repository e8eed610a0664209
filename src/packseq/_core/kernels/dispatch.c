/* Which instruction sets are compiled in, and which of them this machine has. The only place that asks. */
#include "kernels.h"
#include "targets.h"

#if PACKSEQ_HAVE_X86
extern const packseq_kernels packseq_avx512, packseq_avx2;
#endif
#if PACKSEQ_HAVE_NEON
extern const packseq_kernels packseq_neon;
#endif
#if !defined(PACKSEQ_NO_KERNELS)
extern const packseq_kernels packseq_baseline;
#endif

/* An entry a line. */
/* clang-format off */
static const packseq_kernels *const compiled[] = {
#if PACKSEQ_HAVE_X86
    &packseq_avx512,
    &packseq_avx2,
#endif
#if PACKSEQ_HAVE_NEON
    &packseq_neon,
#endif
#if !defined(PACKSEQ_NO_KERNELS)
    &packseq_baseline,
#endif
    NULL,
};
/* clang-format on */

const packseq_kernels *const *packseq_compiled(void) { return compiled; }

int packseq_supported(const packseq_kernels *kernels) {
#if PACKSEQ_HAVE_X86
    /* libgcc's answer covers the operating system's part (XCR0) too. */
    __builtin_cpu_init();
    if (kernels == &packseq_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("fma");
    if (kernels == &packseq_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    (void)kernels;
    return 1;
}
