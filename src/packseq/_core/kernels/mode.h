/* The floating-point mode that a thread has while it computes. */
#ifndef PACKSEQ_MODE_H
#define PACKSEQ_MODE_H

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#define PACKSEQ_HAS_MXCSR 1
#include <xmmintrin.h>
#elif defined(__aarch64__) && defined(__GNUC__)
#define PACKSEQ_HAS_FPCR 1
#endif

/* Cell states decay into denormals through f < 1, where each operation costs a hundred cycles: inside a kernel they
 * are 0. All else is as by default, whatever the caller's mode, which other threads do not have and which is put back
 * before the kernel returns. */
static inline uint64_t enter_kernel_mode(void) {
#if defined(PACKSEQ_HAS_MXCSR)
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(0x9fc0); /* flush to zero, denormals are zero; round to nearest, no traps */
    return mode;
#elif defined(PACKSEQ_HAS_FPCR)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24));
    return mode;
#else
    return 0;
#endif
}

static inline void leave_kernel_mode(uint64_t mode) {
#if defined(PACKSEQ_HAS_MXCSR)
    /* keep the exception flags raised meanwhile out of the caller's sight too */
    _mm_setcsr((unsigned)mode);
#elif defined(PACKSEQ_HAS_FPCR)
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#else
    (void)mode;
#endif
}

#endif
