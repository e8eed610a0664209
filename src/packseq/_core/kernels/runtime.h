/* What a thread of the kernels needs while it runs: the floating-point mode, and ways to wait for other threads. */
#ifndef PACKSEQ_RUNTIME_H
#define PACKSEQ_RUNTIME_H

#include <sched.h>
#include <stdint.h>

#include "kernels.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* Cell states decay into denormals through f < 1, where each operation costs a hundred cycles: inside a kernel they
 * are 0. All else is as by default, whatever the caller's mode, which other threads do not have and which is put back
 * before the kernel returns. */
static inline uint64_t enter_kernel_mode(void) {
#if defined(__x86_64__)
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(0x9fc0); /* flush to zero, denormals are zero; round to nearest, no traps */
    return mode;
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24));
    return mode;
#else
    return 0;
#endif
}

static inline void leave_kernel_mode(uint64_t mode) {
#if defined(__x86_64__)
    /* keep the exception flags raised meanwhile out of the caller's sight too */
    _mm_setcsr((unsigned)mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#else
    (void)mode;
#endif
}

static inline void relax(void) {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* For who waits for others: spins, since a step lasts microseconds; yields when the others have evidently lost
 * their processor. */
static inline void relax_or_yield(int spins) {
    if (spins < 4096)
        relax();
    else
        sched_yield();
}

/* All `members` arrive before any leaves. */
static inline void barrier_wait(packseq_barrier *barrier, int32_t members) {
    if (members == 1) return;
    const int32_t generation = __atomic_load_n(&barrier->generation, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == members) {
        __atomic_store_n(&barrier->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&barrier->generation, generation + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&barrier->generation, __ATOMIC_ACQUIRE) == generation; spins++)
        relax_or_yield(spins);
}

#endif
