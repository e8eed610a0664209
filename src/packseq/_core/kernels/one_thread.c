/* The pool of systems without POSIX threads: its borrower, alone. setup.py takes it there, and pool.c elsewhere. */
#include "pool.h"

#if defined(_WIN32)

static char anyone;

void *packseq_pool_new(void) { return &anyone; }

int packseq_pool_lend(void *pool) {
    (void)pool;
    return 0;
}

void packseq_pool_give_back(void *pool) { (void)pool; }

void packseq_pool_rouse(void *pool) { (void)pool; }

int32_t packseq_pool_reserve(void *pool, int32_t workers) {
    (void)pool;
    (void)workers;
    return 1;
}

int packseq_pool_ready(void *pool, int32_t workers) {
    (void)pool;
    return workers == 1;
}

int64_t packseq_pool_rounds(void *pool) {
    (void)pool;
    return 0;
}

void packseq_pool_run(void *pool, packseq_work work, void *argument, int32_t workers) {
    (void)pool;
    for (int32_t worker = 0; worker < workers; worker++) work(argument, worker);
}

#endif
