/* Live sessions by their ids, and where their states lie.
 *
 * A session has a slot, and a slot has room for two states: the present one, and the one that a push writes
 * meanwhile. So a push that fails has changed nothing, and a state can be read while the next is computed.
 * States lie in chunks, which never move: what a push was told of an address holds while others open sessions.
 *
 * A state is h of every layer, [L][R], and then c, [L][H]. Nothing here is checked but what a function says, and
 * nothing is locked: streams.pyx sees to both.
 */
#ifndef PACKSEQ_SESSIONS_H
#define PACKSEQ_SESSIONS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "inline.h"

/* Why a session cannot be had. */
typedef enum {
    PACKSEQ_HAD,
    PACKSEQ_CLOSED,
    PACKSEQ_NEVER_OPENED,
    PACKSEQ_TWICE, /* in one push */
    PACKSEQ_IN_PUSH,
} packseq_had;

typedef struct {
    int64_t id;   /* of the session that has the slot, or -1 */
    int64_t push; /* the push that has claimed it, or 0 */
    char *states; /* two of them */
    int32_t present; /* which of the two is the present one */
    int32_t next;    /* of a free slot: the next free one, or -1 */
} packseq_slot;

typedef struct packseq_chunk {
    struct packseq_chunk *before;
    void *memory; /* that it lies in */
} packseq_chunk;

typedef struct {
    size_t h_bytes, c_bytes; /* of one layer; c_bytes is 0 where there is no c */
    int64_t layers;
    size_t state_bytes; /* from a slot's one state to its other */
    int64_t capacity;   /* how many sessions may be open */
    int64_t n_slots, n_open, next_id, n_pushes;
    int32_t free;          /* the first slot that is free, or -1 */
    packseq_slot *slots;   /* [n_slots] */
    int32_t *buckets;      /* [mask + 1]: slots by a hash of their id, or -1 */
    int64_t mask;
    packseq_chunk *chunks; /* the last of them */
} packseq_sessions;

/* What a push has claimed: [n] each. */
typedef struct {
    int64_t n;
    int64_t *slots;
    void **before, **after; /* the present state, and where the next one goes */
} packseq_claim;

enum {
    PACKSEQ_LINE = 64,
    PACKSEQ_LEAST_CHUNK = 1 << 16,
    PACKSEQ_MOST_CHUNK = 1 << 25,
    PACKSEQ_HUGE_PAGE = 1 << 21,
    PACKSEQ_MOST_SLOTS = 1 << 30,
    PACKSEQ_AHEAD = 64 /* sessions */
};

static void packseq_sessions_init(packseq_sessions *s, int64_t layers, size_t h_bytes, size_t c_bytes,
                                  int64_t capacity) {
    memset(s, 0, sizeof *s);
    s->layers = layers;
    s->h_bytes = h_bytes;
    s->c_bytes = c_bytes;
    /* Whole cache lines, so that threads share none, and an odd number of them: at a power of two the rows that a
     * product's tile reads together would fall into the same few places of a cache. */
    s->state_bytes = ((size_t)layers * (h_bytes + c_bytes) + PACKSEQ_LINE - 1) / PACKSEQ_LINE * PACKSEQ_LINE;
    s->state_bytes |= PACKSEQ_LINE;
    s->capacity = capacity < PACKSEQ_MOST_SLOTS ? capacity : PACKSEQ_MOST_SLOTS;
    s->free = -1;
}

static void packseq_sessions_clear(packseq_sessions *s) {
    for (packseq_chunk *chunk = s->chunks, *before; chunk; chunk = before) {
        before = chunk->before;
        free(chunk->memory);
    }
    free(s->slots), free(s->buckets);
}

static char *packseq_present(const packseq_sessions *s, const packseq_slot *slot) {
    return slot->states + (slot->present ? s->state_bytes : 0);
}

/* ---- slots by id: open addressing, at most half full ---- */

/* Ids are given in turn; times 2^64 over the golden ratio, neighbours are spread. */
static int64_t packseq_home(const packseq_sessions *s, int64_t id) {
    return (int64_t)((uint64_t)id * 0x9e3779b97f4a7c15u >> 32) & s->mask;
}

/* The bucket of an id, or the empty one where it would be; there are buckets. */
static int64_t packseq_bucket(const packseq_sessions *s, int64_t id) {
    int64_t b = packseq_home(s, id);
    while (s->buckets[b] >= 0 && s->slots[s->buckets[b]].id != id) b = (b + 1) & s->mask;
    return b;
}

/* The slot of an id, or NULL. */
static packseq_slot *packseq_find(const packseq_sessions *s, int64_t id) {
    const int32_t slot = s->buckets ? s->buckets[packseq_bucket(s, id)] : -1;
    return slot < 0 ? NULL : &s->slots[slot];
}

/* Those after it that it has pushed on move up, or a search would end at the gap. */
static void packseq_forget(packseq_sessions *s, int64_t id) {
    int64_t gap = packseq_bucket(s, id);
    for (int64_t b = (gap + 1) & s->mask; s->buckets[b] >= 0; b = (b + 1) & s->mask) {
        const int64_t home = packseq_home(s, s->slots[s->buckets[b]].id);
        if (((b - home) & s->mask) < ((b - gap) & s->mask)) continue;
        s->buckets[gap] = s->buckets[b];
        gap = b;
    }
    s->buckets[gap] = -1;
}

/* ---- room ---- */

/* Memory for the states of so many slots more, behind the header, or NULL. Large chunks ask for huge pages, as NumPy
 * does for large arrays: with small ones every session's state is a page that the processor has to look up. */
static char *packseq_add_chunk(packseq_sessions *s, int64_t more) {
    const size_t bytes = PACKSEQ_LINE + (size_t)more * 2 * s->state_bytes;
    const size_t unit = bytes >= PACKSEQ_HUGE_PAGE ? PACKSEQ_HUGE_PAGE : PACKSEQ_LINE;
    char *memory = malloc(bytes + unit); /* aligned_alloc is not everywhere */
    if (!memory) return NULL;
    packseq_chunk *chunk = (packseq_chunk *)(memory + (unit - (uintptr_t)memory % unit));
#ifdef MADV_HUGEPAGE
    if (unit == PACKSEQ_HUGE_PAGE) madvise(chunk, bytes, MADV_HUGEPAGE);
#endif
    *chunk = (packseq_chunk){.before = s->chunks, .memory = memory};
    s->chunks = chunk;
    return (char *)chunk + PACKSEQ_LINE;
}

/* Fits the table of buckets to so many slots, half of it empty. Returns 0 where there is no memory. */
static int packseq_fit_buckets(packseq_sessions *s, int64_t n_slots) {
    int64_t size = 16;
    while (size < 2 * n_slots) size *= 2;
    if (s->buckets && size == s->mask + 1) return 1;
    int32_t *buckets = malloc((size_t)size * sizeof *buckets);
    if (!buckets) return 0;
    free(s->buckets);
    s->buckets = memset(buckets, -1, (size_t)size * sizeof *buckets);
    s->mask = size - 1;
    for (int64_t slot = 0; slot < s->n_slots; slot++)
        if (s->slots[slot].id >= 0) buckets[packseq_bucket(s, s->slots[slot].id)] = (int32_t)slot;
    return 1;
}

/* Makes room for about as many sessions again, at least one. Returns 0, with all sessions as they were, where there is
 * no memory. */
static int packseq_grow(packseq_sessions *s) {
    const int64_t slot_bytes = (int64_t)(2 * s->state_bytes);
    int64_t more = s->n_slots;
    if (more > PACKSEQ_MOST_CHUNK / slot_bytes) more = PACKSEQ_MOST_CHUNK / slot_bytes;
    if (more < PACKSEQ_LEAST_CHUNK / slot_bytes) more = PACKSEQ_LEAST_CHUNK / slot_bytes;
    if (more > s->capacity - s->n_slots) more = s->capacity - s->n_slots;
    if (more < 1) more = 1;
    packseq_slot *slots = realloc(s->slots, (size_t)(s->n_slots + more) * sizeof *slots);
    if (!slots) return 0;
    s->slots = slots;
    char *states = packseq_fit_buckets(s, s->n_slots + more) ? packseq_add_chunk(s, more) : NULL;
    if (!states) return 0;
    for (int64_t i = 0; i < more; i++, states += slot_bytes)
        slots[s->n_slots + i] =
            (packseq_slot){.id = -1, .states = states, .next = i + 1 < more ? (int32_t)(s->n_slots + i + 1) : -1};
    s->free = (int32_t)s->n_slots;
    s->n_slots += more;
    return 1;
}

/* ---- sessions that come and go ---- */

/* Opens a session of an id that is not open, its state zeros; fewer than `capacity` are. NULL: there is no memory. */
static packseq_slot *packseq_open(packseq_sessions *s, int64_t id) {
    if (s->free < 0 && !packseq_grow(s)) return NULL;
    packseq_slot *slot = &s->slots[s->free];
    s->buckets[packseq_bucket(s, id)] = s->free;
    s->free = slot->next;
    s->n_open++;
    slot->id = id;
    memset(packseq_present(s, slot), 0, s->state_bytes);
    return slot;
}

static packseq_had packseq_absent(const packseq_sessions *s, int64_t id) {
    return 0 <= id && id < s->next_id ? PACKSEQ_CLOSED : PACKSEQ_NEVER_OPENED;
}

/* The slot of an id that no push has, or why there is none. */
static packseq_had packseq_idle(const packseq_sessions *s, int64_t id, packseq_slot **slot) {
    *slot = packseq_find(s, id);
    if (!*slot) return packseq_absent(s, id);
    return (*slot)->push ? PACKSEQ_IN_PUSH : PACKSEQ_HAD;
}

static packseq_had packseq_close(packseq_sessions *s, int64_t id) {
    packseq_slot *slot;
    const packseq_had had = packseq_idle(s, id, &slot);
    if (had != PACKSEQ_HAD) return had;
    packseq_forget(s, id);
    slot->id = -1;
    slot->next = s->free;
    s->free = (int32_t)(slot - s->slots);
    s->n_open--;
    return PACKSEQ_HAD;
}

/* ---- states in and out: h is [L][R], c is [L][H] ---- */

static void packseq_put(const packseq_sessions *s, const packseq_slot *slot, const void *h, const void *c) {
    const size_t all_h = (size_t)s->layers * s->h_bytes;
    memcpy(packseq_present(s, slot), h, all_h);
    if (s->c_bytes) memcpy(packseq_present(s, slot) + all_h, c, (size_t)s->layers * s->c_bytes);
}

/* h and c, or zeros for NULL, become the state of a session that no push has. */
static packseq_had packseq_write(packseq_sessions *s, int64_t id, const void *h, const void *c) {
    packseq_slot *slot;
    const packseq_had had = packseq_idle(s, id, &slot);
    if (had != PACKSEQ_HAD) return had;
    if (h)
        packseq_put(s, slot, h, c);
    else
        memset(packseq_present(s, slot), 0, s->state_bytes);
    return PACKSEQ_HAD;
}

/* The state after the last push that has ended. */
static packseq_had packseq_read(const packseq_sessions *s, int64_t id, void *h, void *c) {
    const packseq_slot *slot = packseq_find(s, id);
    if (!slot) return packseq_absent(s, id);
    const size_t all_h = (size_t)s->layers * s->h_bytes;
    memcpy(h, packseq_present(s, slot), all_h);
    if (s->c_bytes) memcpy(c, packseq_present(s, slot) + all_h, (size_t)s->layers * s->c_bytes);
    return PACKSEQ_HAD;
}

/* One state of all layers to where the i-th of n has it. */
static const char *packseq_spread(const packseq_sessions *s, const char *from, char *to, int64_t i, size_t bytes) {
    for (int64_t layer = 0; layer < s->layers; layer++, from += bytes)
        memcpy(to + (size_t)(layer * s->n_open + i) * bytes, from, bytes);
    return from;
}

/* Ids of all that are open into [n_open], and their states into [L][n_open][R] and [L][n_open][H], unless NULL. */
static void packseq_list(const packseq_sessions *s, int64_t *ids, char *h, char *c) {
    int64_t i = 0;
    for (const packseq_slot *slot = s->slots; slot < s->slots + s->n_slots; slot++) {
        if (slot->id < 0) continue;
        ids[i] = slot->id;
        if (h) {
            const char *after_h = packseq_spread(s, packseq_present(s, slot), h, i, s->h_bytes);
            if (s->c_bytes) packseq_spread(s, after_h, c, i, s->c_bytes);
        }
        i++;
    }
}

/* ---- pushes ---- */

/* Gives back what a push has claimed; `done` says that the next states are there, and are the present ones now. */
static void packseq_release(packseq_sessions *s, const packseq_claim *claim, int done) {
    for (int64_t b = 0; b < claim->n; b++) {
        packseq_slot *slot = &s->slots[claim->slots[b]];
        if (b + PACKSEQ_AHEAD < claim->n) PREFETCH_TO_WRITE(&s->slots[claim->slots[b + PACKSEQ_AHEAD]]);
        slot->push = 0;
        slot->present ^= done;
    }
}

/* Asks for what will be read of the sessions that come next: their buckets, and half as far ahead their slots. */
static void packseq_look_ahead(const packseq_sessions *s, const int64_t *ids, int64_t left) {
    if (left > PACKSEQ_AHEAD) PREFETCH(&s->buckets[packseq_home(s, ids[PACKSEQ_AHEAD])]);
    if (left <= PACKSEQ_AHEAD / 2) return;
    const int32_t slot = s->buckets[packseq_home(s, ids[PACKSEQ_AHEAD / 2])];
    if (slot >= 0) PREFETCH_TO_WRITE(&s->slots[slot]);
}

/* Claims sessions for a push, all of them or none. Returns how many could be had, n or as many as come before the
 * first that cannot, and then tells its id, and why. */
static int64_t packseq_claim_all(packseq_sessions *s, const int64_t *ids, int64_t n, packseq_claim *claim, int64_t *id,
                                 packseq_had *had) {
    const int64_t push = ++s->n_pushes;
    for (claim->n = 0; claim->n < n; claim->n++) {
        if (s->buckets) packseq_look_ahead(s, ids + claim->n, n - claim->n);
        *id = ids[claim->n]; /* once: another thread may write to the caller's array */
        packseq_slot *slot = packseq_find(s, *id);
        *had = !slot ? packseq_absent(s, *id) : slot->push ? PACKSEQ_IN_PUSH : PACKSEQ_HAD;
        if (*had == PACKSEQ_IN_PUSH && slot->push == push) *had = PACKSEQ_TWICE;
        if (*had != PACKSEQ_HAD) {
            packseq_release(s, claim, 0);
            break;
        }
        slot->push = push;
        claim->slots[claim->n] = slot - s->slots;
        claim->before[claim->n] = packseq_present(s, slot);
        claim->after[claim->n] = slot->states + (slot->present ? 0 : s->state_bytes);
    }
    return claim->n;
}

#endif
