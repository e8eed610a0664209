/* Threads that wait for work, for one borrower at a time. A forked child makes a new pool. */
#ifndef PACKSEQ_POOL_H
#define PACKSEQ_POOL_H

#include <stdint.h>

/* No machine that runs one process on more cores than this is known. */
#define PACKSEQ_MOST_THREADS 1024

typedef void (*packseq_work)(void *argument, int32_t worker);

void *packseq_pool_new(void);
/* Whether the caller has the pool from now on, until it gives it back; else another has it. */
int packseq_pool_lend(void *pool);
void packseq_pool_give_back(void *pool);
/* For the borrower: work will come within microseconds; threads that sleep wake up, which takes some tens, and look
 * out for it. */
void packseq_pool_rouse(void *pool);
/* For the borrower: starts threads for so many workers, itself included; returns how many there can be. */
int32_t packseq_pool_reserve(void *pool, int32_t workers);
/* For small work: whether so many workers look out for a round right now. Who asks often, each time soon after the
 * last, has them woken for the next. */
int packseq_pool_ready(void *pool, int32_t workers);
/* How many rounds there have been, each a call of the next function. */
int64_t packseq_pool_rounds(void *pool);
/* work(argument, 0) here and work(argument, 1 ..) on reserved threads; returns when all are done. */
void packseq_pool_run(void *pool, packseq_work work, void *argument, int32_t workers);

#endif
