/* The pool: each worker of a round works once, whoever was asleep, awake or roused. Ends with 0 if so. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "pool.h"

#define ROUNDS 5000
#define MOST_WORKERS 4

static void count(void *argument, int32_t worker) {
    ((int32_t *)argument)[worker]++;
    for (volatile int32_t i = 0; i < worker * 50; i++) continue; /* they end in any order */
}

static uint32_t draw(uint32_t *state) { return (*state = *state * 1103515245u + 12345u) >> 16; }

/* Workers of the round, or 0 where a small call is to do without. */
static int32_t recruit(void *pool, int32_t workers, uint32_t how) {
    if (how == 0) packseq_pool_rouse(pool);
    if (how < 3) return packseq_pool_reserve(pool, workers);
    return packseq_pool_ready(pool, workers) ? workers : 0;
}

int main(void) {
    void *pool = packseq_pool_new();
    uint32_t state = 1;
    for (int i = 0; i < ROUNDS; i++) {
        int32_t counts[MOST_WORKERS] = {0};
        if (!packseq_pool_lend(pool) || packseq_pool_lend(pool)) return puts("lent to two, or to none"), 1;
        const int64_t before = packseq_pool_rounds(pool);
        const int32_t workers = recruit(pool, 2 + (int32_t)(draw(&state) % (MOST_WORKERS - 1)), draw(&state) % 4);
        if (workers > 1) packseq_pool_run(pool, count, counts, workers);
        if (packseq_pool_rounds(pool) != before + (workers > 1)) return puts("rounds are counted wrong"), 1;
        for (int32_t w = 0; w < MOST_WORKERS; w++)
            if (counts[w] != (workers > 1 && w < workers)) return printf("round %d: worker %d\n", i, w), 1;
        packseq_pool_give_back(pool);
        if (draw(&state) % 16 == 0) /* some fall asleep */
            nanosleep(&(struct timespec){0, (long)(draw(&state) % 300) * 1000}, NULL);
    }
    printf("pool: %d loans, all as told\n", ROUNDS);
}
