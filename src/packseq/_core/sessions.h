/* Live sessions by their ids, and where their states lie.
 *
 * A session has a slot, and a slot has room for two states: the present one, and the one that a push writes
 * meanwhile. So a push that fails has changed nothing, and a state can be read while the next is computed.
 * Slots come in pages, which never move and are never given back while there are sessions: what a push was told of
 * an address holds while others open sessions.
 *
 * A state is h of every layer, [L][R], and then c, [L][H]. Nothing here is checked but what a function says, and
 * nothing is locked: streams.pyx sees to both.
 */
#ifndef PACKSEQ_SESSIONS_H
#define PACKSEQ_SESSIONS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Why a session cannot be had. */
typedef enum {
    PACKSEQ_HAD,
    PACKSEQ_CLOSED,
    PACKSEQ_NEVER_OPENED,
    PACKSEQ_TWICE, /* in one push */
    PACKSEQ_IN_PUSH,
} packseq_had;

typedef struct {
    int64_t id;      /* of the session that has the slot, or -1 */
    int64_t push;    /* the push that has claimed it, or 0 */
    int64_t next;    /* of a free slot: the next free one, or -1 */
    int64_t present; /* which of its two states is the present one */
} packseq_slot;

typedef struct {
    size_t h_bytes, c_bytes; /* of one layer; c_bytes is 0 where there is no c */
    int64_t layers;
    size_t state_bytes; /* from one state to the next */
    int page_shift;     /* a page has 1 << page_shift slots */
    int64_t n_slots;    /* for which there is room in the tables; a power of two, or 0 */
    int64_t n_used;     /* that have ever been in use */
    int64_t free;       /* the first of those that are free again, or -1 */
    int64_t n_open, next_id, n_pushes;
    packseq_slot *slots; /* [n_slots] */
    char **pages;        /* [n_slots >> page_shift, at least 1]; NULL: not yet in use */
    int64_t *buckets;    /* [2 * n_slots]: slots by a hash of their id, or -1 */
} packseq_sessions;

/* What a push has claimed: [n] each. */
typedef struct {
    int64_t n;
    int64_t *slots;
    void **before, **after; /* the present state, and where the next one goes */
} packseq_claim;

enum { PACKSEQ_LEAST_SLOTS = 64, PACKSEQ_PAGE_BYTES = 1 << 18 };

static void packseq_sessions_init(packseq_sessions *s, int64_t layers, size_t h_bytes, size_t c_bytes) {
    memset(s, 0, sizeof *s);
    s->layers = layers;
    s->h_bytes = h_bytes;
    s->c_bytes = c_bytes;
    /* Whole cache lines, and an odd number of them: at a power of two the rows of a product's tile, which are read
     * together, would fall into the same few places of a cache. */
    s->state_bytes = ((size_t)layers * (h_bytes + c_bytes) + 63) / 64 * 64 | 64;
    while (s->state_bytes << (s->page_shift + 2) <= PACKSEQ_PAGE_BYTES) s->page_shift++;
    s->free = -1;
}

static void packseq_sessions_clear(packseq_sessions *s) {
    for (int64_t page = 0; page << s->page_shift < s->n_slots; page++) free(s->pages[page]);
    free(s->pages), free(s->slots), free(s->buckets);
}

static char *packseq_state(const packseq_sessions *s, int64_t slot, int64_t which) {
    const int64_t place = slot & (((int64_t)1 << s->page_shift) - 1);
    return s->pages[slot >> s->page_shift] + (size_t)(place + (which << s->page_shift)) * s->state_bytes;
}

/* ---- slots by id: open addressing, at most half full ---- */

/* Ids are given in turn; times 2^64 over the golden ratio, neighbours are spread. */
static int64_t packseq_home(const packseq_sessions *s, int64_t id) {
    const uint64_t mixed = (uint64_t)id * 0x9e3779b97f4a7c15u;
    return (int64_t)((mixed >> 32) & (uint64_t)(2 * s->n_slots - 1));
}

static int64_t packseq_next_bucket(const packseq_sessions *s, int64_t bucket) {
    return (bucket + 1) & (2 * s->n_slots - 1);
}

/* The bucket of an id, or the empty one where it would be; there are slots. */
static int64_t packseq_bucket(const packseq_sessions *s, int64_t id) {
    int64_t bucket = packseq_home(s, id);
    while (s->buckets[bucket] >= 0 && s->slots[s->buckets[bucket]].id != id) bucket = packseq_next_bucket(s, bucket);
    return bucket;
}

/* The slot of an id, or -1. */
static int64_t packseq_find(const packseq_sessions *s, int64_t id) {
    return s->n_slots ? s->buckets[packseq_bucket(s, id)] : -1;
}

/* Those after it that have been pushed on by it move up, or a search would end at the gap. */
static void packseq_forget(packseq_sessions *s, int64_t id) {
    const int64_t mask = 2 * s->n_slots - 1;
    int64_t gap = packseq_bucket(s, id);
    for (int64_t b = packseq_next_bucket(s, gap); s->buckets[b] >= 0; b = packseq_next_bucket(s, b)) {
        const int64_t home = packseq_home(s, s->slots[s->buckets[b]].id);
        if (((b - home) & mask) < ((b - gap) & mask)) continue;
        s->buckets[gap] = s->buckets[b];
        gap = b;
    }
    s->buckets[gap] = -1;
}

/* ---- sessions that come and go ---- */

/* Makes room in the tables for twice the slots. Returns 0, with all as it was, where there is no memory. */
static int packseq_grow(packseq_sessions *s) {
    const int64_t n = s->n_slots ? 2 * s->n_slots : PACKSEQ_LEAST_SLOTS;
    const size_t n_pages = (size_t)(((n - 1) >> s->page_shift) + 1);
    packseq_slot *slots = malloc((size_t)n * sizeof *slots);
    char **pages = calloc(n_pages, sizeof *pages);
    int64_t *buckets = malloc((size_t)n * 2 * sizeof *buckets);
    if (!slots || !pages || !buckets) {
        free(slots), free(pages), free(buckets);
        return 0;
    }
    if (s->n_slots) {
        memcpy(slots, s->slots, (size_t)s->n_slots * sizeof *slots);
        memcpy(pages, s->pages, (size_t)(((s->n_slots - 1) >> s->page_shift) + 1) * sizeof *pages);
    }
    free(s->slots), free(s->pages), free(s->buckets);
    s->slots = slots;
    s->pages = pages;
    s->buckets = buckets;
    s->n_slots = n;
    for (int64_t b = 0; b < 2 * n; b++) buckets[b] = -1;
    for (int64_t slot = 0; slot < s->n_used; slot++)
        if (slots[slot].id >= 0) buckets[packseq_bucket(s, slots[slot].id)] = slot;
    return 1;
}

/* A slot that nobody has, or -1 where there is no memory for one. */
static int64_t packseq_new_slot(packseq_sessions *s) {
    if (s->free >= 0) {
        const int64_t slot = s->free;
        s->free = s->slots[slot].next;
        return slot;
    }
    if (s->n_used == s->n_slots && !packseq_grow(s)) return -1;
    char **page = &s->pages[s->n_used >> s->page_shift];
    if (!*page) *page = aligned_alloc(64, s->state_bytes << (s->page_shift + 1));
    return *page ? s->n_used++ : -1;
}

/* Opens a session of an id that is not open, its state zeros. Returns its slot, or -1 where there is no memory. */
static int64_t packseq_open(packseq_sessions *s, int64_t id) {
    const int64_t slot = packseq_new_slot(s);
    if (slot < 0) return -1;
    s->slots[slot] = (packseq_slot){.id = id};
    s->buckets[packseq_bucket(s, id)] = slot;
    s->n_open++;
    memset(packseq_state(s, slot, 0), 0, s->state_bytes);
    return slot;
}

static packseq_had packseq_absent(const packseq_sessions *s, int64_t id) {
    return 0 <= id && id < s->next_id ? PACKSEQ_CLOSED : PACKSEQ_NEVER_OPENED;
}

/* The slot of an id that no push has, or why there is none. */
static packseq_had packseq_idle(const packseq_sessions *s, int64_t id, int64_t *slot) {
    *slot = packseq_find(s, id);
    if (*slot < 0) return packseq_absent(s, id);
    return s->slots[*slot].push ? PACKSEQ_IN_PUSH : PACKSEQ_HAD;
}

static packseq_had packseq_close(packseq_sessions *s, int64_t id) {
    int64_t slot;
    const packseq_had had = packseq_idle(s, id, &slot);
    if (had != PACKSEQ_HAD) return had;
    packseq_forget(s, id);
    s->slots[slot] = (packseq_slot){.id = -1, .next = s->free};
    s->free = slot;
    s->n_open--;
    return PACKSEQ_HAD;
}

/* ---- states in and out: h is [L][R], c is [L][H] ---- */

static void packseq_put(packseq_sessions *s, int64_t slot, const void *h, const void *c) {
    char *state = packseq_state(s, slot, s->slots[slot].present);
    const size_t all_h = (size_t)s->layers * s->h_bytes;
    memcpy(state, h, all_h);
    if (s->c_bytes) memcpy(state + all_h, c, (size_t)s->layers * s->c_bytes);
}

/* h and c, or zeros for NULL, become the state of a session that no push has. */
static packseq_had packseq_write(packseq_sessions *s, int64_t id, const void *h, const void *c) {
    int64_t slot;
    const packseq_had had = packseq_idle(s, id, &slot);
    if (had != PACKSEQ_HAD) return had;
    if (h)
        packseq_put(s, slot, h, c);
    else
        memset(packseq_state(s, slot, s->slots[slot].present), 0, s->state_bytes);
    return PACKSEQ_HAD;
}

/* The state after the last push that has ended. */
static packseq_had packseq_read(const packseq_sessions *s, int64_t id, void *h, void *c) {
    const int64_t slot = packseq_find(s, id);
    if (slot < 0) return packseq_absent(s, id);
    const char *state = packseq_state(s, slot, s->slots[slot].present);
    const size_t all_h = (size_t)s->layers * s->h_bytes;
    memcpy(h, state, all_h);
    if (s->c_bytes) memcpy(c, state + all_h, (size_t)s->layers * s->c_bytes);
    return PACKSEQ_HAD;
}

/* Ids of all that are open into [n_open], and their states into [L][n_open][R] and [L][n_open][H], or NULL. */
static void packseq_list(const packseq_sessions *s, int64_t *ids, char *h, char *c) {
    int64_t i = 0;
    for (int64_t slot = 0; slot < s->n_used; slot++) {
        if (s->slots[slot].id < 0) continue;
        ids[i] = s->slots[slot].id;
        const char *state = h ? packseq_state(s, slot, s->slots[slot].present) : NULL;
        for (int64_t layer = 0; h && layer < s->layers; layer++, state += s->h_bytes)
            memcpy(h + (size_t)(layer * s->n_open + i) * s->h_bytes, state, s->h_bytes);
        for (int64_t layer = 0; h && s->c_bytes && layer < s->layers; layer++, state += s->c_bytes)
            memcpy(c + (size_t)(layer * s->n_open + i) * s->c_bytes, state, s->c_bytes);
        i++;
    }
}

/* ---- pushes ---- */

/* Gives back what a push has claimed; `done` says that the next states are there, and are the present ones now. */
static void packseq_release(packseq_sessions *s, const packseq_claim *claim, int done) {
    for (int64_t b = 0; b < claim->n; b++) {
        packseq_slot *slot = &s->slots[claim->slots[b]];
        slot->push = 0;
        slot->present ^= done;
    }
}

/* Claims sessions for a push, all of them or none. Returns how many could be had, n or as many as come before the
 * first that cannot, and then tells its id, which is read but once, and why. */
static int64_t packseq_claim_all(packseq_sessions *s, const int64_t *ids, int64_t n, packseq_claim *claim,
                                 int64_t *id, packseq_had *had) {
    const int64_t push = ++s->n_pushes;
    for (claim->n = 0; claim->n < n; claim->n++) {
        *id = ids[claim->n];
        const int64_t slot = packseq_find(s, *id);
        *had = slot < 0                     ? packseq_absent(s, *id)
               : s->slots[slot].push == push ? PACKSEQ_TWICE
               : s->slots[slot].push         ? PACKSEQ_IN_PUSH
                                             : PACKSEQ_HAD;
        if (*had != PACKSEQ_HAD) {
            packseq_release(s, claim, 0);
            break;
        }
        s->slots[slot].push = push;
        claim->slots[claim->n] = slot;
        claim->before[claim->n] = packseq_state(s, slot, s->slots[slot].present);
        claim->after[claim->n] = packseq_state(s, slot, !s->slots[slot].present);
    }
    return claim->n;
}

#endif
