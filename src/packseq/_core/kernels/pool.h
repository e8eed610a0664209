/* Threads that wait for work, for one borrower at a time. A forked child makes a new pool.
 *
 * Other work of the machine may take a processor from a thread for milliseconds at any time. Nobody waits longer than
 * some patience for a worker who has not come, and while workers have lately lost their processors, calls do with fewer
 * of them.
 */
#ifndef PACKSEQ_POOL_H
#define PACKSEQ_POOL_H

#include <stdatomic.h>
#include <stdint.h>

/* No machine that runs one process on more cores than this is known. */
#define PACKSEQ_MOST_THREADS 1024
/* The patience that never ends: all workers are waited for, and there are as many as asked for. */
#define PACKSEQ_ENDLESS (INT64_MAX / 16)

typedef void (*packseq_work)(void *argument, int32_t worker);

void *packseq_pool_new(void);
/* In nanoseconds, for a worker who is late. */
void packseq_pool_set_patience(void *pool, int64_t time);
int64_t packseq_pool_patience(void *pool);
/* Of so many threads, how many the caller may use from now on; the pool is its own until it gives it back, unless it is
 * 1: then another has the pool, or there are no others that could work. */
int32_t packseq_pool_lend(void *pool, int32_t threads);
void packseq_pool_give_back(void *pool);
/* For the borrower: work will come within microseconds; threads that sleep wake up, which takes some tens, and look
 * out for it. */
void packseq_pool_rouse(void *pool);
/* For the borrower: starts threads for so many workers, itself included; returns how many there can be. */
int32_t packseq_pool_reserve(void *pool, int32_t workers);
/* For small work: whether so many workers look out for a round right now. Who asks often, each time soon after the
 * last, has them woken for the next. */
int packseq_pool_ready(void *pool, int32_t workers);
/* How many rounds there have been, each a call of packseq_pool_run for more than one. */
int64_t packseq_pool_rounds(void *pool);
/* For work that waits for all its workers: calls so many reserved ones to the next round, and returns how many have
 * come, the caller included, if need be after so many nanoseconds and its patience. That round must be run. */
int32_t packseq_pool_muster(void *pool, int32_t workers, int64_t time);
/* work(argument, 0) here and work(argument, 1 ..) on others, so many in all, of those who have been mustered or else of
 * those who are reserved; returns when all are done. The caller, when it is done, does the work of who has not come. */
void packseq_pool_run(void *pool, packseq_work work, void *argument, int32_t workers);

/* For work that each takes a part of when it comes: parts are 0, 1, ... */
typedef struct {
    _Atomic int64_t next;
} packseq_parts;

static inline int64_t packseq_take_part(packseq_parts *parts) {
    return atomic_fetch_add_explicit(&parts->next, 1, memory_order_relaxed);
}

#endif
