/* Threads that wait for work. One caller at a time; a forked child makes a new pool. */
#ifndef PACKSEQ_POOL_H
#define PACKSEQ_POOL_H

#include <stdint.h>

typedef void (*packseq_work)(void *argument, int32_t worker);

void *packseq_pool_new(void);
/* Starts threads for so many workers, the caller included; returns how many there can be. */
int32_t packseq_pool_reserve(void *pool, int32_t workers);
/* work(argument, 0) here and work(argument, 1 ..) on reserved threads; returns when all are done. */
void packseq_pool_run(void *pool, packseq_work work, void *argument, int32_t workers);

#endif
