/* What a thread of the kernels needs while it runs: the floating-point mode, and ways to wait for other threads. */
#ifndef PACKSEQ_RUNTIME_H
#define PACKSEQ_RUNTIME_H

#include <sched.h>
#include <stdint.h>

#include "kernels.h"
#include "mode.h"

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
