/* The pool of systems without POSIX threads: its borrower, alone. setup.py takes it there, and pool.c elsewhere. */
#include "pool.h"

#if defined(_WIN32)

static char anyone;

void *packseq_pool_new(void) { return &anyone; }

void packseq_pool_set_patience(void *pool, int64_t time) {
    (void)pool;
    (void)time;
}

int64_t packseq_pool_patience(void *pool) {
    (void)pool;
    return PACKSEQ_ENDLESS;
}

int32_t packseq_pool_lend(void *pool, int32_t threads) {
    (void)pool;
    (void)threads;
    return 1;
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

int32_t packseq_pool_muster(void *pool, int32_t workers, int64_t time) {
    (void)pool;
    (void)workers;
    (void)time;
    return 1;
}

void packseq_pool_run(void *pool, packseq_work work, void *argument, int32_t workers) {
    (void)pool;
    for (int32_t worker = 0; worker < workers; worker++) work(argument, worker);
}

#endif
