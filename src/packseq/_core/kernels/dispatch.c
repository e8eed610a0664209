/* Which instruction sets are compiled in, and which of them this machine has. The only place that asks. */
#include "kernels.h"
#include "targets.h"

#if PACKSEQ_HAVE_X86
#include <cpuid.h>

/* __builtin_cpu_supports knows it from GCC 11 on. */
static int has_avx_vnni(void) {
    unsigned a = 0, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 4 & 1;
}
#endif
#if PACKSEQ_HAVE_NEON
#ifdef __linux__
#include <sys/auxv.h>
#endif

static int has_dot_products(void) {
#ifdef __linux__
    return getauxval(AT_HWCAP) >> 20 & 1; /* HWCAP_ASIMDDP */
#elif defined(__APPLE__)
    return 1; /* all of Apple's for computers */
#else
    return 0;
#endif
}
#endif

#if PACKSEQ_HAVE_X86
extern const packseq_kernels packseq_avx512_bf16, packseq_avx512_vnni, packseq_avx512;
extern const packseq_kernels packseq_avx2_vnni, packseq_avx2;
#endif
#if PACKSEQ_HAVE_NEON
extern const packseq_kernels packseq_neon_dot, packseq_neon;
#endif
#if !defined(PACKSEQ_NO_KERNELS)
extern const packseq_kernels packseq_baseline;
#endif

/* An entry a line. */
/* clang-format off */
static const packseq_kernels *const compiled[] = {
#if PACKSEQ_HAVE_X86
    &packseq_avx512_bf16,
    &packseq_avx512_vnni,
    &packseq_avx512,
    &packseq_avx2_vnni,
    &packseq_avx2,
#endif
#if PACKSEQ_HAVE_NEON
    &packseq_neon_dot,
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
    if (kernels == &packseq_avx512_bf16)
        return packseq_supported(kernels->base) && __builtin_cpu_supports("avx512bf16");
    if (kernels == &packseq_avx512_vnni)
        return packseq_supported(kernels->base) && __builtin_cpu_supports("avx512vnni");
    if (kernels == &packseq_avx2_vnni) return packseq_supported(kernels->base) && has_avx_vnni();
    if (kernels == &packseq_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
#if PACKSEQ_HAVE_NEON
    if (kernels == &packseq_neon_dot) return has_dot_products();
#endif
    (void)kernels;
    return 1;
}

const packseq_engine *packseq_engine_of(const packseq_kernels *kernels, enum packseq_format format) {
    while (kernels && !kernels->engines[format]) kernels = kernels->base;
    return kernels ? kernels->engines[format] : NULL;
}

#if !defined(PACKSEQ_NO_KERNELS)
packseq_along_rows *const *packseq_plain_along(enum packseq_format format) {
    return packseq_baseline.engines[format]->along;
}
#endif
