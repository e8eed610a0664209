/* Time, for who waits for other threads. */
#ifndef PACKSEQ_CLOCK_H
#define PACKSEQ_CLOCK_H

#include <stdint.h>
#include <time.h>

#ifdef _WIN32

/* Nobody waits, since there is but one thread (one_thread.c): C's own clock will do. */
static inline int64_t packseq_nanoseconds(void) { return (int64_t)clock() * (1000000000 / CLOCKS_PER_SEC); }

#else

static inline int64_t packseq_read_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t packseq_nanoseconds(void) { return packseq_read_clock(CLOCK_MONOTONIC); }

#endif

#endif
