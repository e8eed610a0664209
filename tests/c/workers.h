/* Threads for a job, all of them at work at once. They are made once, of the kernels' own pool: an emulator keeps some
 * hundred kB of each thread that there was, and tests start a hundred thousand. */
#include <stdlib.h>

#include "pool.h"

static inline void run_together(packseq_work work, void *argument, int32_t workers) {
    static void *pool;
    if (!pool) {
        pool = packseq_pool_new();
        packseq_pool_set_patience(pool, PACKSEQ_ENDLESS);
    }
    if (workers == 1) {
        work(argument, 0);
        return;
    }
    if (packseq_pool_lend(pool, workers) != workers || packseq_pool_reserve(pool, workers) != workers) exit(2);
    if (packseq_pool_muster(pool, workers, 0) != workers) exit(2);
    packseq_pool_run(pool, work, argument, workers);
    packseq_pool_give_back(pool);
}
