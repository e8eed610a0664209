/* What a thread of the kernels needs while it runs: the floating-point mode, and ways to wait for other threads. */
#ifndef PACKSEQ_RUNTIME_H
#define PACKSEQ_RUNTIME_H

#include <sched.h>
#include <stdint.h>

#include "clock.h"
#include "kernels.h"
#include "mode.h"
#include "tuning.h"

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

/* ---- a team that meets at barriers ---- */

/* Who leaves a team: member 0, the caller, never does. */
enum { NOBODY = 0 };

/* What the last who comes to a barrier tells the others: how often all have come, and in these bits who is to leave. */
#define LEAVER_BITS 12

/* A member's place among those who are left, and whether the others have waited for it too long. */
typedef struct {
    int32_t rank, size, late;
} packseq_crew;

/* Returns another word than before. Who waits for long leaves word of it: for the patience and a part of the time that
 * the call has taken, since what is left of it will take the longer without the one who is missing. */
static inline int64_t wait_at(const packseq_job *job, packseq_barrier *barrier, int64_t before) {
    const int64_t patience = job->patience;
    int64_t begun = 0, said;
    for (int spins = 1; (said = __atomic_load_n(&barrier->said, __ATOMIC_ACQUIRE)) == before; spins++) {
        relax_or_yield(spins);
        if (patience > 0 && spins % 64) continue;
        const int64_t now = packseq_nanoseconds();
        if (!begun) begun = now;
        if (PATIENT_PART * (now - begun - patience) >= now - job->begun)
            __atomic_store_n(&barrier->waited, before + 1, __ATOMIC_RELAXED);
    }
    return said;
}

/* Whether all the others were there before. */
static inline int come_last(packseq_barrier *barrier, int64_t before, int32_t members, packseq_crew *crew) {
    if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) < members) return 0;
    __atomic_store_n(&barrier->arrived, 0, __ATOMIC_RELAXED);
    crew->late |= __atomic_load_n(&barrier->waited, __ATOMIC_RELAXED) == before + 1;
    return 1;
}

static inline void let_go(packseq_barrier *barrier, int64_t before, int32_t leaver) {
    const int64_t count = (before >> LEAVER_BITS) + 1;
    __atomic_store_n(&barrier->said, count << LEAVER_BITS | leaver, __ATOMIC_RELEASE);
}

/* All `members` arrive before any leaves. */
static inline void barrier_wait(const packseq_job *job, packseq_barrier *barrier, int32_t members, packseq_crew *crew) {
    if (members == 1) return;
    const int64_t before = __atomic_load_n(&barrier->said, __ATOMIC_RELAXED);
    if (come_last(barrier, before, members, crew))
        let_go(barrier, before, NOBODY);
    else
        wait_at(job, barrier, before);
}

/* Whether this member is the one who leaves at the next barrier. */
static inline int may_leave(packseq_job *job, const packseq_crew *crew) {
    int32_t nobody = NOBODY;
    return crew->late && crew->rank != NOBODY &&
           __atomic_compare_exchange_n(&job->leaver, &nobody, crew->rank, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* All of the crew arrive before any leaves, and one who has been late leaves for good: its processor is somebody else's
 * for now. Returns whether the crew is another than before; the leaver finds it to be of size 0. It cannot rely on what
 * the barrier says, since the others do not wait for it any more before they say more. */
static inline int regroup(packseq_job *job, packseq_barrier *barrier, packseq_crew *crew) {
    if (crew->size == 1) return 0;
    const int64_t before = __atomic_load_n(&barrier->said, __ATOMIC_RELAXED);
    int32_t leaver;
    int leaves = may_leave(job, crew);
    if (come_last(barrier, before, crew->size, crew)) {
        leaves = leaves || may_leave(job, crew);
        leaver = __atomic_load_n(&job->leaver, __ATOMIC_RELAXED);
        if (leaver != NOBODY) __atomic_store_n(&job->leaver, NOBODY, __ATOMIC_RELAXED);
        let_go(barrier, before, leaver);
    } else {
        leaver = (int32_t)(wait_at(job, barrier, before) & ((1 << LEAVER_BITS) - 1));
    }
    if (leaves) crew->size = 0;
    if (leaves || leaver == NOBODY) return leaves;
    crew->size--;
    crew->rank -= crew->rank > leaver;
    return 1;
}

#endif
