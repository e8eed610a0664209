/* Native threads that wait for work, kept off the caller's processor.
 *
 * Linux may wake a thread on the processor of the one that wakes it, behind a caller that computes or spins,
 * and move it only at a later tick: a call of 1 ms then takes 7 (2 processors, LSTM 256, one sequence).
 */
#if defined(__linux__)
#define _GNU_SOURCE
#include <sched.h>
#endif
#include "pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "runtime.h"

#define MOST_THREADS 1024
/* How long a worker looks for the next round before it sleeps: being woken takes about as long. The caller looks
 * longer for the last worker's end, by a part of the time that it has worked itself: it is near. */
#define SPIN_NANOSECONDS 100000
#define SPIN_PART 4

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t wanted, finished;
    packseq_work work;
    void *argument;
    int32_t started;  /* threads that exist */
    int32_t workers;  /* of this round, the caller included */
    int32_t pending;  /* that have not finished it */
    int64_t begun, ended; /* rounds; written under the lock, read by who spins */
    int64_t roused;       /* how often threads have been told to look out for a round */
    int32_t lent;
    int avoided;          /* the processor that no thread may use, or -1 */
    int32_t room;         /* how many others there are: threads beyond them must not spin */
    pthread_t threads[MOST_THREADS];
} pool;

typedef struct {
    pool *pool;
    int32_t worker;
    int64_t seen, roused; /* rounds begun, and calls to look out, that it knows of */
} member;

static int64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Until *rounds is no longer `seen`, or for so long. */
static void spin(const int64_t *rounds, int64_t seen, int64_t time) {
    const int64_t end = nanoseconds() + time;
    for (int i = 0; __atomic_load_n(rounds, __ATOMIC_RELAXED) == seen; i++) {
        relax();
        if (i % 16 == 15 && nanoseconds() > end) return;
    }
}

static void *serve(void *argument) {
    member me = *(member *)argument;
    free(argument);
    pool *p = me.pool;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        if (p->begun == me.seen) {
            if (me.roused == p->roused || me.worker > p->room) {
                pthread_cond_wait(&p->wanted, &p->lock);
                continue;
            }
            me.roused = p->roused;
            pthread_mutex_unlock(&p->lock);
            spin(&p->begun, me.seen, SPIN_NANOSECONDS);
            pthread_mutex_lock(&p->lock);
            continue;
        }
        me.seen = p->begun;
        if (me.worker >= p->workers) continue;
        const packseq_work work = p->work;
        void *of = p->argument;
        pthread_mutex_unlock(&p->lock);
        work(of, me.worker);
        pthread_mutex_lock(&p->lock);
        me.roused = p->roused - 1; /* the next round may follow at once */
        if (--p->pending == 0) {
            __atomic_store_n(&p->ended, p->begun, __ATOMIC_RELAXED);
            pthread_cond_signal(&p->finished);
        }
    }
    return NULL;
}

/* Under the lock. */
static int start(pool *p) {
    member *made = malloc(sizeof *made);
    if (!made || p->started == MOST_THREADS) {
        free(made);
        return 0;
    }
    *made = (member){p, p->started + 1, p->begun, p->roused};
    if (pthread_create(&p->threads[p->started], NULL, serve, made)) {
        free(made);
        return 0;
    }
    pthread_detach(p->threads[p->started]);
    p->started++;
    p->avoided = -1;
    return 1;
}

/* Under the lock: leave the caller its processor, of those that it may use. */
static void make_room(pool *p) {
#if defined(__linux__)
    const int here = sched_getcpu();
    cpu_set_t usable;
    if (here < 0 || here == p->avoided || sched_getaffinity(0, sizeof usable, &usable)) return;
    CPU_CLR(here, &usable);
    p->room = CPU_COUNT(&usable);
    if (p->room == 0) return;
    for (int32_t i = 0; i < p->started; i++) pthread_setaffinity_np(p->threads[i], sizeof usable, &usable);
    p->avoided = here;
#else
    (void)p;
#endif
}

void *packseq_pool_new(void) {
    pool *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->avoided = -1;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wanted, NULL);
    pthread_cond_init(&p->finished, NULL);
    return p;
}

int packseq_pool_lend(void *handle) { return !__atomic_exchange_n(&((pool *)handle)->lent, 1, __ATOMIC_ACQUIRE); }

void packseq_pool_give_back(void *handle) { __atomic_store_n(&((pool *)handle)->lent, 0, __ATOMIC_RELEASE); }

void packseq_pool_rouse(void *handle) {
    pool *p = handle;
    pthread_mutex_lock(&p->lock);
    make_room(p);
    p->roused++;
    pthread_mutex_unlock(&p->lock);
    pthread_cond_broadcast(&p->wanted); /* unlocked, or they would wake up to wait for the lock */
}

int32_t packseq_pool_reserve(void *handle, int32_t workers) {
    pool *p = handle;
    pthread_mutex_lock(&p->lock);
    while (p->started + 1 < workers && start(p)) {
    }
    const int32_t have = p->started + 1;
    pthread_mutex_unlock(&p->lock);
    return have < workers ? have : workers;
}

void packseq_pool_run(void *handle, packseq_work work, void *argument, int32_t workers) {
    pool *p = handle;
    pthread_mutex_lock(&p->lock);
    make_room(p);
    p->work = work;
    p->argument = argument;
    p->workers = workers;
    p->pending = workers - 1;
    __atomic_store_n(&p->begun, p->begun + 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&p->lock);
    pthread_cond_broadcast(&p->wanted);
    const int64_t begun = nanoseconds();
    work(argument, 0);
    const int64_t patience = SPIN_NANOSECONDS + (nanoseconds() - begun) / SPIN_PART;
    if (workers - 1 <= p->room) spin(&p->ended, p->begun - 1, patience);
    pthread_mutex_lock(&p->lock);
    while (p->pending) pthread_cond_wait(&p->finished, &p->lock);
    pthread_mutex_unlock(&p->lock);
}
