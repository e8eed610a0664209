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
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime.h"
#include "tuning.h"

/* What the caller tells one worker, in one line of the cache, which no one else looks at. */
typedef struct {
    _Alignas(64) packseq_work work;
    void *argument;
    int64_t round;  /* the last that this worker is to join */
    int32_t asleep; /* what it tells the caller, written under the lock */
} seat;

typedef struct {
    pthread_mutex_t lock; /* of those who sleep; rounds do without */
    pthread_cond_t wanted, finished;
    int64_t roused;  /* how often threads have been told to look out for a round */
    int32_t waiting; /* the caller sleeps */
    int32_t lent;

    /* Of the borrower. */
    int64_t round;
    int32_t started; /* threads that exist, */
    int32_t placed;  /* and those of them that are kept on the processors `usable` */
#if defined(__linux__)
    cpu_set_t usable;
#endif
    pthread_t host;  /* who had the pool then, */
    int32_t avoided; /* and on which processor, which they leave alone; -1: look anew */
    int32_t refused; /* whether the last small call found no one awake; */
    int32_t stream;  /* how many have, each soon after the one before, */
    int64_t left;    /* which ended then */
    pthread_t threads[PACKSEQ_MOST_THREADS];

    _Alignas(64) int64_t ended; /* the last round that is over */
    int32_t pending; /* workers that have not finished the round */
    int32_t room;    /* how many other processors there are: threads beyond them must not spin */
    seat seats[PACKSEQ_MOST_THREADS];
} pool;

typedef struct {
    pool *pool;
    int32_t index;
    int64_t round, roused; /* the last that it knows of */
} worker;

static int64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Until *round is no longer `seen`, or for so long. Returns whether it came. */
static int spin(const int64_t *round, int64_t seen, int64_t time) {
    int64_t end = 0;
    for (int i = 0; __atomic_load_n(round, __ATOMIC_ACQUIRE) == seen; i++) {
        relax();
        if (i % 16 != 15) continue;
        const int64_t now = nanoseconds();
        if (!end) end = now + time;
        if (now > end) return 0;
    }
    return 1;
}

/* Until there is a round for this worker. Either it sees the round, or the caller sees it asleep. */
static void await(worker *me) {
    pool *p = me->pool;
    seat *own = &p->seats[me->index];
    for (;;) {
        if (me->index < __atomic_load_n(&p->room, __ATOMIC_RELAXED) && spin(&own->round, me->round, SPIN_NANOSECONDS))
            return;
        pthread_mutex_lock(&p->lock);
        __atomic_store_n(&own->asleep, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&own->round, __ATOMIC_SEQ_CST) == me->round && p->roused == me->roused)
            pthread_cond_wait(&p->wanted, &p->lock);
        __atomic_store_n(&own->asleep, 0, __ATOMIC_RELAXED);
        me->roused = p->roused;
        pthread_mutex_unlock(&p->lock);
        if (__atomic_load_n(&own->round, __ATOMIC_ACQUIRE) != me->round) return;
    }
}

static void *serve(void *argument) {
    worker me = *(worker *)argument;
    free(argument);
    pool *p = me.pool;
    for (;;) {
        await(&me);
        me.round = __atomic_load_n(&p->seats[me.index].round, __ATOMIC_RELAXED);
        me.roused = __atomic_load_n(&p->roused, __ATOMIC_RELAXED);
        p->seats[me.index].work(p->seats[me.index].argument, me.index + 1);
        if (__atomic_sub_fetch(&p->pending, 1, __ATOMIC_ACQ_REL)) continue;
        __atomic_store_n(&p->ended, me.round, __ATOMIC_SEQ_CST);
        if (!__atomic_load_n(&p->waiting, __ATOMIC_SEQ_CST)) continue;
        pthread_mutex_lock(&p->lock);
        pthread_cond_signal(&p->finished);
        pthread_mutex_unlock(&p->lock);
    }
    return NULL;
}

static int start(pool *p) {
    worker *made = malloc(sizeof *made);
    if (!made || p->started == PACKSEQ_MOST_THREADS) {
        free(made);
        return 0;
    }
    *made = (worker){p, p->started, p->seats[p->started].round, p->roused};
    /* Signals are for the program's own threads, but for those of faults, which would end it without a word. */
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t others, before;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&others, faults[i]);
    pthread_sigmask(SIG_SETMASK, &others, &before);
    const int failed = pthread_create(&p->threads[p->started], NULL, serve, made);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        free(made);
        return 0;
    }
    pthread_detach(p->threads[p->started]);
    p->started++;
    p->avoided = -1;
    return 1;
}

/* Leave the caller its processor, and take the others that it may use. It is asked what these are when it has moved or
 * is another than before: at each call that would be a large part of a small one. A mask that changes meanwhile is seen
 * then. */
static void make_room(pool *p) {
#if defined(__linux__)
    const int here = sched_getcpu();
    cpu_set_t usable;
    if (here < 0 || (here == p->avoided && pthread_equal(p->host, pthread_self()))) return;
    if (sched_getaffinity(0, sizeof usable, &usable)) return;
    CPU_CLR(here, &usable);
    __atomic_store_n(&p->room, CPU_COUNT(&usable), __ATOMIC_RELAXED);
    p->avoided = p->room ? here : -1;
    p->host = pthread_self();
    if (p->room == 0) CPU_SET(here, &usable);
    if (p->placed == p->started && CPU_EQUAL(&usable, &p->usable)) return;
    for (int32_t i = 0; i < p->started; i++) pthread_setaffinity_np(p->threads[i], sizeof usable, &usable);
    p->usable = usable;
    p->placed = p->started;
#else
    __atomic_store_n(&p->room, (int32_t)sysconf(_SC_NPROCESSORS_ONLN) - 1, __ATOMIC_RELAXED);
#endif
}

void *packseq_pool_new(void) {
    void *memory = NULL;
    if (posix_memalign(&memory, _Alignof(pool), sizeof(pool))) return NULL;
    pool *p = memset(memory, 0, sizeof(pool));
    p->avoided = -1;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wanted, NULL);
    pthread_cond_init(&p->finished, NULL);
    return p;
}

int packseq_pool_lend(void *handle) { return !__atomic_exchange_n(&((pool *)handle)->lent, 1, __ATOMIC_ACQUIRE); }

void packseq_pool_give_back(void *handle) {
    pool *p = handle;
    if (p->refused) p->left = nanoseconds();
    __atomic_store_n(&p->lent, 0, __ATOMIC_RELEASE);
}

void packseq_pool_rouse(void *handle) {
    pool *p = handle;
    make_room(p);
    if (p->room == 0) return; /* they would sleep on at once */
    pthread_mutex_lock(&p->lock);
    __atomic_store_n(&p->roused, p->roused + 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&p->lock);
    pthread_cond_broadcast(&p->wanted); /* unlocked, or they would wake up to wait for the lock */
}

int32_t packseq_pool_reserve(void *handle, int32_t workers) {
    pool *p = handle;
    while (p->started + 1 < workers && start(p)) {
    }
    return p->started + 1 < workers ? p->started + 1 : workers;
}

/* Seen before the round is told, it spares the waking; after it, no one is missed. */
static int asleep(const pool *p, int32_t workers) {
    for (int32_t i = 0; i < workers - 1; i++)
        if (__atomic_load_n(&p->seats[i].asleep, __ATOMIC_SEQ_CST)) return 1;
    return 0;
}

int packseq_pool_ready(void *handle, int32_t workers) {
    pool *p = handle;
    p->refused = p->started + 1 < workers || p->room + 1 < workers || asleep(p, workers);
    if (!p->refused) return 1;
    p->stream = nanoseconds() - p->left < SPIN_NANOSECONDS ? p->stream + 1 : 0;
    if (p->stream < STREAM) return 0;
    p->stream = 0;
    packseq_pool_reserve(p, workers);
    packseq_pool_rouse(p);
    return 0;
}

int64_t packseq_pool_rounds(void *handle) { return ((pool *)handle)->round; }

/* Each in its seat, in the next round. Returns the round before. */
static int64_t tell(pool *p, packseq_work work, void *argument, int32_t workers) {
    const int64_t before = p->round++;
    __atomic_store_n(&p->pending, workers - 1, __ATOMIC_RELAXED);
    for (seat *s = p->seats; s < p->seats + workers - 1; s++) {
        s->work = work;
        s->argument = argument;
        __atomic_store_n(&s->round, p->round, __ATOMIC_SEQ_CST);
    }
    return before;
}

void packseq_pool_run(void *handle, packseq_work work, void *argument, int32_t workers) {
    pool *p = handle;
    make_room(p);
    const int64_t before = tell(p, work, argument, workers);
    if (asleep(p, workers)) {
        pthread_mutex_lock(&p->lock); /* who was about to sleep does by now, or has seen the round */
        pthread_mutex_unlock(&p->lock);
        pthread_cond_broadcast(&p->wanted);
    }
    const int64_t begun = nanoseconds();
    work(argument, 0);
    const int64_t patience = SPIN_NANOSECONDS + (nanoseconds() - begun) / SPIN_PART;
    if (workers - 1 <= p->room && spin(&p->ended, before, patience)) return;
    pthread_mutex_lock(&p->lock);
    __atomic_store_n(&p->waiting, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&p->ended, __ATOMIC_SEQ_CST) == before) pthread_cond_wait(&p->finished, &p->lock);
    __atomic_store_n(&p->waiting, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&p->lock);
}
