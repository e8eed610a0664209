/* The pool: in each round the work of each is done once, whoever was asleep, awake, roused, late or never came; and
 * where work is taken in parts, each part is taken once. Ends with 0 if so. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "pool.h"

#define LOANS 5000
#define MOST_WORKERS 4
#define PARTS 7

typedef struct {
    int32_t calls[MOST_WORKERS], done[PARTS];
    packseq_parts parts;
} counts;

static void count(void *argument, int32_t worker) {
    counts *c = argument;
    c->calls[worker]++;
    for (int64_t part; (part = packseq_take_part(&c->parts)) < PARTS;) {
        c->done[part]++;
        for (volatile int32_t i = 0; i < worker * 50; i++) continue; /* they end in any order */
    }
}

static uint32_t draw(uint32_t *state) { return (*state = *state * 1103515245u + 12345u) >> 16; }

/* Workers of the round, or 0 where a small call is to do without. */
static int32_t recruit(void *pool, int32_t workers, uint32_t how) {
    if (how == 0) packseq_pool_rouse(pool);
    if (how < 3) return packseq_pool_reserve(pool, workers);
    return packseq_pool_ready(pool, workers) ? workers : 0;
}

/* Whether the work of each of so many is done once, and nobody else's. */
static int as_told(const counts *c, int32_t workers) {
    for (int32_t w = 0; w < MOST_WORKERS; w++)
        if (c->calls[w] != (w < workers)) return 0;
    for (int32_t part = 0; part < PARTS; part++)
        if (c->done[part] != (workers > 0)) return 0;
    return 1;
}

static int lend_and_run(void *pool, uint32_t *state, int hasty) {
    counts c = {0};
    packseq_pool_set_patience(pool, PACKSEQ_ENDLESS); /* as many as are asked for, on any machine */
    if (packseq_pool_lend(pool, 2) != 2 || packseq_pool_lend(pool, 2) != 1) return puts("lent to two, or to none"), 0;
    if (hasty) packseq_pool_set_patience(pool, draw(state) % 3 * 500);
    const int64_t before = packseq_pool_rounds(pool);
    int32_t workers = recruit(pool, 2 + (int32_t)(draw(state) % (MOST_WORKERS - 1)), draw(state) % 4);
    const int round = workers > 1, muster = round && draw(state) % 2;
    if (muster) {
        const int32_t come = packseq_pool_muster(pool, workers, hasty ? 0 : 1);
        if (come < 1 || come > workers || (come < workers && !hasty)) return puts("mustered wrong"), 0;
        workers = 1 + (int32_t)(draw(state) % (uint32_t)come); /* not all are needed */
    }
    if (workers) packseq_pool_run(pool, count, &c, workers);
    if (packseq_pool_rounds(pool) != before + round) return puts("rounds are counted wrong"), 0;
    packseq_pool_give_back(pool);
    return as_told(&c, workers) || !puts("work is not done as told");
}

/* Nobody has been started: the caller does it all. */
static int run_without_others(void *pool) {
    counts c = {0};
    packseq_pool_run(pool, count, &c, MOST_WORKERS);
    return as_told(&c, MOST_WORKERS) || !puts("work is left undone where nobody comes");
}

int main(void) {
    void *pool = packseq_pool_new();
    uint32_t state = 1;
    if (!run_without_others(pool)) return 1;
    for (int i = 0; i < LOANS; i++) {
        if (!lend_and_run(pool, &state, i >= LOANS / 2)) return printf("loan %d\n", i), 1;
        if (draw(&state) % 16 == 0) /* some fall asleep */
            nanosleep(&(struct timespec){0, (long)(draw(&state) % 300) * 1000}, NULL);
    }
    printf("pool: %d loans, all as told\n", LOANS);
}
