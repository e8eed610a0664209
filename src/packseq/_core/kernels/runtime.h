/* What every kernel needs: the floating-point mode, ways to wait for other threads, small arithmetic. */
#ifndef PACKSEQ_RUNTIME_H
#define PACKSEQ_RUNTIME_H

#include <sched.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* Cell states decay into denormals through f < 1, where each operation costs a hundred cycles: inside a kernel they are
 * 0. All else is as by default, whatever the caller's mode, which other threads do not have and which is put back before
 * the kernel returns. */
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

static inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t greatest(int64_t a, int64_t b) { return a > b ? a : b; }

/* Blocks of 2U hidden units. */
static inline int64_t blocks_of(int64_t hidden, int64_t lanes) { return (hidden + 2 * lanes - 1) / (2 * lanes); }

/* Vectors of a block, in a gate row. */
static inline int64_t block_vectors(int32_t cell) {
    return cell == PACKSEQ_RNN_TANH || cell == PACKSEQ_RNN_RELU ? 2 : 8;
}

/* Vectors from one gate row to the next. Without the gap, rows of a power of two would share a few sets of the cache,
 * and a block's gates of many rows would not stay there. */
static inline int64_t gate_row_vectors(const packseq_network *net, int64_t lanes) {
    return blocks_of(net->hidden, lanes) * block_vectors(net->cell) + 2;
}

/* Steps of sorted sequence r: batch_sizes never grows, so bisect. */
static inline int64_t length_of(const packseq_job *job, int64_t r) {
    if (!job->batch_sizes) return job->steps;
    int64_t low = 0, high = job->steps;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (job->batch_sizes[middle] > r)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

#endif
