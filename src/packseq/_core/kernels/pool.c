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
#include <unistd.h>

#include "clock.h"
#include "runtime.h"
#include "tuning.h"

/* What the caller and one worker tell each other, in one line of the cache, which no one else looks at. */
typedef struct {
    _Alignas(64) int64_t round; /* the last that this worker is invited to, */
    int64_t taken;              /* the last that it, or the caller in its place, has taken up, */
    int64_t missed;             /* the last that the caller did without it, */
    int64_t begun;              /* and the last that has begun: the next three are its */
    packseq_work work;
    void *argument;
    int32_t index;  /* its number among those who work, or NOT_NEEDED */
    int32_t asleep; /* what it tells the caller, written under the lock */
} seat;

enum { NOT_NEEDED = -1 };

typedef struct {
    pthread_mutex_t lock; /* of those who sleep; rounds do without */
    pthread_cond_t wanted, finished;
    int64_t roused;  /* how often threads have been told to look out for a round */
    int32_t waiting; /* the caller sleeps */
    int32_t lent;
    int64_t patience;

    /* Of the borrower. */
    int64_t round;
    int32_t invited; /* workers of the round, the caller one of them; */
    int32_t mustered; /* whether it has not begun yet */
    int32_t started; /* threads that exist, */
    int32_t placed;  /* and those of them that are kept on the processors `usable` */
#if defined(__linux__)
    cpu_set_t usable;
#endif
    pthread_t host;  /* who had the pool then, */
    int32_t avoided; /* on which processor, which they leave alone; -1: look anew; */
    int64_t looked;  /* and when */
    int32_t refused; /* whether the last small call found no one awake; */
    int32_t stream;  /* how many have, each soon after the one before, */
    int64_t left;    /* which ended then */
    int64_t worked;  /* for how long workers have worked together, lately, */
    int64_t waited;  /* and for how long they were off their processors; */
    int64_t until;   /* if for too long, there are at most `most` workers until then, */
    int64_t apart;   /* which is for so long */
    int32_t most;
    pthread_t threads[PACKSEQ_MOST_THREADS];

    _Alignas(64) int64_t ended; /* the last round that is over */
    int32_t pending; /* workers that have not finished the round */
    int32_t room;    /* how many other processors there are: threads beyond them must not spin */
    int32_t late;    /* how often workers have been off their processors since the caller last asked, */
    int64_t lost;    /* and for how long in all */
    seat seats[PACKSEQ_MOST_THREADS];
} pool;

typedef struct {
    pool *pool;
    int32_t index;
    int64_t round, roused;  /* the last that it knows of */
    int64_t awake, running; /* when it last compared the time with that of its processor, and what the latter was */
} worker;

/* Stores what another thread must see if this one, afterwards, does not see what that has told: then neither sleeps
 * while the other waits. An exchange, since qemu 7, which runs Arm's containers on x86, lets a later load pass a mere
 * store, sequentially consistent as it may be. x86 has one instruction for both. */
#define TELL(to, value) ((void)__atomic_exchange_n(to, value, __ATOMIC_SEQ_CST))

/* Until *round is no longer `seen`, or for so long. Returns whether it came. */
static int spin(const int64_t *round, int64_t seen, int64_t time) {
    int64_t end = 0;
    for (int i = 0; __atomic_load_n(round, __ATOMIC_ACQUIRE) == seen; i++) {
        relax();
        if (i % 16 != 15) continue;
        const int64_t now = packseq_nanoseconds();
        if (!end) end = now + time;
        if (now > end) return 0;
    }
    return 1;
}

/* ---- workers ---- */

static void report(pool *p, int32_t late, int64_t lost) {
    __atomic_add_fetch(&p->lost, lost, __ATOMIC_RELAXED);
    __atomic_add_fetch(&p->late, late, __ATOMIC_RELAXED);
}

static void compare_clocks_from(worker *me, int64_t now) {
    me->awake = now;
    me->running = packseq_read_clock(CLOCK_THREAD_CPUTIME_ID);
}

/* Who has been awake and not running had no processor meanwhile, and whoever waited for it lost that time. The clock of
 * the processor costs up to a microsecond, so it is asked between rounds and now and then. */
static void compare_clocks(worker *me) {
    const int64_t now = packseq_nanoseconds(), awake = now - me->awake, before = me->running;
    if (awake < LATE_NANOSECONDS) return;
    compare_clocks_from(me, now);
    const int64_t lost = awake - (me->running - before);
    if (lost > LATE_NANOSECONDS) report(me->pool, 1, lost);
}

/* Until there is a round for this worker. Either it sees the round, or the caller sees it asleep. */
static void await(worker *me) {
    pool *p = me->pool;
    seat *own = &p->seats[me->index];
    for (;;) {
        if (me->index < __atomic_load_n(&p->room, __ATOMIC_RELAXED) && spin(&own->round, me->round, SPIN_NANOSECONDS))
            return;
        pthread_mutex_lock(&p->lock);
        TELL(&own->asleep, 1);
        while (__atomic_load_n(&own->round, __ATOMIC_SEQ_CST) == me->round && p->roused == me->roused)
            pthread_cond_wait(&p->wanted, &p->lock);
        __atomic_store_n(&own->asleep, 0, __ATOMIC_RELAXED);
        me->roused = p->roused;
        pthread_mutex_unlock(&p->lock);
        compare_clocks_from(me, packseq_nanoseconds());
        if (__atomic_load_n(&own->round, __ATOMIC_ACQUIRE) != me->round) return;
    }
}

/* Whoever is first has the place in the round: the worker, or the caller, who then does without it. */
static int take_place(seat *s, int64_t round) {
    int64_t before = __atomic_load_n(&s->taken, __ATOMIC_RELAXED);
    return before < round &&
           __atomic_compare_exchange_n(&s->taken, &before, round, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* So many fewer are to finish the round. Returns whether it is over. */
static int count_off(pool *p, int32_t workers, int64_t round) {
    if (__atomic_sub_fetch(&p->pending, workers, __ATOMIC_ACQ_REL)) return 0;
    TELL(&p->ended, round);
    return 1;
}

static void *serve(void *argument) {
    worker me = *(worker *)argument;
    free(argument);
    pool *p = me.pool;
    seat *own = &p->seats[me.index];
    compare_clocks_from(&me, packseq_nanoseconds());
    for (;;) {
        await(&me);
        me.round = __atomic_load_n(&own->round, __ATOMIC_RELAXED);
        me.roused = __atomic_load_n(&p->roused, __ATOMIC_RELAXED);
        if (!take_place(own, me.round)) continue;
        for (int spins = 0; __atomic_load_n(&own->begun, __ATOMIC_ACQUIRE) != me.round; spins++) relax_or_yield(spins);
        if (own->index != NOT_NEEDED) own->work(own->argument, own->index);
        if (count_off(p, 1, me.round) && __atomic_load_n(&p->waiting, __ATOMIC_SEQ_CST)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->finished);
            pthread_mutex_unlock(&p->lock);
        }
        compare_clocks(&me);
    }
    return NULL;
}

static int start(pool *p) {
    worker *made = malloc(sizeof *made);
    if (!made || p->started == PACKSEQ_MOST_THREADS) {
        free(made);
        return 0;
    }
    *made = (worker){.pool = p, .index = p->started, .round = p->seats[p->started].round, .roused = p->roused};
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

/* Leave the caller its processor, and take the others that it may use. It is asked what these are when it has moved, is
 * another than before, or was last asked a while ago: at each call that would be a large part of a small one. */
static void make_room(pool *p, int64_t now) {
#if defined(__linux__)
    const int here = sched_getcpu();
    cpu_set_t usable;
    if (here < 0) return;
    if (here == p->avoided && pthread_equal(p->host, pthread_self()) && now - p->looked < LOOK_NANOSECONDS) return;
    p->looked = now;
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
    p->patience = LATE_NANOSECONDS;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wanted, NULL);
    pthread_cond_init(&p->finished, NULL);
    return p;
}

void packseq_pool_set_patience(void *handle, int64_t time) { ((pool *)handle)->patience = time; }

int64_t packseq_pool_patience(void *handle) { return ((pool *)handle)->patience; }

/* Calls of a while do without as many workers as were late; if that happens again soon after, for twice as long. */
static void keep_apart(pool *p, int32_t late, int64_t now) {
    const int64_t again = p->until && now - p->until < p->apart ? 2 * p->apart : 0;
    const int64_t time = p->waited * APART > again ? p->waited * APART : again;
    p->apart = time < MOST_APART_NANOSECONDS ? time : MOST_APART_NANOSECONDS;
    p->most = late < p->invited ? p->invited - late : 1;
    p->until = now + p->apart;
    p->worked = p->waited = 0;
}

/* Two threads of whom one is away for half of the time are no faster than one. */
static void count_losses(pool *p, int64_t now) {
    const int32_t late = __atomic_exchange_n(&p->late, 0, __ATOMIC_RELAXED);
    p->waited += __atomic_exchange_n(&p->lost, 0, __ATOMIC_RELAXED);
    if (p->waited * WAITED_PART > p->worked) keep_apart(p, late, now);
}

/* How many workers a call may have that looks at the machine first. */
static int32_t most_workers(pool *p) {
    const int64_t now = packseq_nanoseconds();
    make_room(p, now);
    if (p->worked > LATELY_NANOSECONDS) p->worked /= 2, p->waited /= 2;
    if (__atomic_load_n(&p->late, __ATOMIC_RELAXED)) count_losses(p, now);
    if (now - p->until > p->apart) p->until = p->apart = 0;
    return now < p->until && p->most <= p->room ? p->most : p->room + 1;
}

static int32_t limit(pool *p, int32_t threads) {
    const int eventful = p->room == 0 || p->until || __atomic_load_n(&p->late, __ATOMIC_RELAXED);
    const int32_t most = eventful ? most_workers(p) : p->room + 1;
    return threads < most || p->patience == PACKSEQ_ENDLESS ? threads : most;
}

int32_t packseq_pool_lend(void *handle, int32_t threads) {
    pool *p = handle;
    if (threads < 2 || __atomic_exchange_n(&p->lent, 1, __ATOMIC_ACQUIRE)) return 1;
    threads = limit(p, threads);
    if (threads < 2) __atomic_store_n(&p->lent, 0, __ATOMIC_RELEASE);
    return threads;
}

void packseq_pool_give_back(void *handle) {
    pool *p = handle;
    if (p->refused) p->left = packseq_nanoseconds();
    __atomic_store_n(&p->lent, 0, __ATOMIC_RELEASE);
}

void packseq_pool_rouse(void *handle) {
    pool *p = handle;
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
    p->stream = packseq_nanoseconds() - p->left < SPIN_NANOSECONDS ? p->stream + 1 : 0;
    if (p->stream < STREAM) return 0;
    p->stream = 0;
    packseq_pool_reserve(p, workers);
    packseq_pool_rouse(p);
    return 0;
}

int64_t packseq_pool_rounds(void *handle) { return ((pool *)handle)->round; }

/* To the next round. What they are to do is told by begin(), before or after. */
static void invite(pool *p, int32_t workers, int64_t now) {
    make_room(p, now);
    p->round++;
    p->invited = workers;
    __atomic_store_n(&p->pending, workers - 1, __ATOMIC_RELAXED);
    for (seat *s = p->seats; s < p->seats + workers - 1; s++) TELL(&s->round, p->round);
    if (!asleep(p, workers)) return;
    pthread_mutex_lock(&p->lock); /* who was about to sleep does by now, or has seen the round */
    pthread_mutex_unlock(&p->lock);
    pthread_cond_broadcast(&p->wanted);
}

static void begin(seat *s, int64_t round, packseq_work work, void *argument, int32_t index) {
    s->work = work;
    s->argument = argument;
    s->index = index;
    __atomic_store_n(&s->begun, round, __ATOMIC_RELEASE);
}

/* Does without those who have not come. Returns how many these are. */
static int32_t dismiss(pool *p) {
    int32_t dismissed = 0;
    for (seat *s = p->seats; s < p->seats + p->invited - 1; s++) {
        if (!take_place(s, p->round)) continue;
        s->missed = p->round;
        dismissed++;
    }
    if (dismissed) count_off(p, dismissed, p->round);
    return dismissed;
}

static int all_have_come(const pool *p) {
    for (const seat *s = p->seats; s < p->seats + p->invited - 1; s++)
        if (__atomic_load_n(&s->taken, __ATOMIC_ACQUIRE) != p->round) return 0;
    return 1;
}

/* Does the work of those who have not come. Where each takes parts of it, there is nothing left to do, but a direction
 * of a network, say, may be theirs alone. */
static void stand_in(pool *p, packseq_work work, void *argument) {
    int32_t absent = 0;
    for (seat *s = p->seats; s < p->seats + p->invited - 1; s++) {
        if (!take_place(s, p->round)) continue;
        work(argument, s->index);
        absent++;
    }
    if (absent) count_off(p, absent, p->round);
}

/* Works, for those too who have not come by then, and waits for those who have. */
static void work_and_wait(pool *p, packseq_work work, void *argument, int64_t begun) {
    const int64_t before = p->round - 1;
    work(argument, 0);
    const int64_t worked = packseq_nanoseconds() - begun, patience = SPIN_NANOSECONDS + worked / SPIN_PART;
    p->worked += worked;
    if (p->patience != PACKSEQ_ENDLESS && !spin(&p->ended, before, 0)) stand_in(p, work, argument);
    if (p->invited - 1 <= p->room && spin(&p->ended, before, patience)) return;
    pthread_mutex_lock(&p->lock);
    TELL(&p->waiting, 1);
    while (__atomic_load_n(&p->ended, __ATOMIC_SEQ_CST) == before) pthread_cond_wait(&p->finished, &p->lock);
    __atomic_store_n(&p->waiting, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&p->lock);
}

int32_t packseq_pool_muster(void *handle, int32_t workers, int64_t time) {
    pool *p = handle;
    const int64_t begun = packseq_nanoseconds();
    invite(p, workers, begun);
    p->mustered = 1;
    for (int spins = 0; !all_have_come(p); spins++) {
        relax_or_yield(spins);
        if (packseq_nanoseconds() - begun - time < p->patience) continue;
        const int32_t missed = dismiss(p);
        if (missed) report(p, missed, p->patience + time);
        return workers - missed;
    }
    return workers;
}

void packseq_pool_run(void *handle, packseq_work work, void *argument, int32_t workers) {
    pool *p = handle;
    const int64_t begun = packseq_nanoseconds();
    if (p->mustered) {
        int32_t index = 1;
        for (seat *s = p->seats; s < p->seats + p->invited - 1; s++)
            if (s->missed != p->round) begin(s, p->round, work, argument, index < workers ? index++ : NOT_NEEDED);
        p->mustered = 0;
    } else if (workers > 1) {
        for (int32_t i = 1; i < workers; i++) begin(&p->seats[i - 1], p->round + 1, work, argument, i);
        invite(p, workers, begun);
    } else {
        work(argument, 0);
        return;
    }
    work_and_wait(p, work, argument, begun);
}
