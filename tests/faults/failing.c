/* Preloaded before the C library's own: allocations and threads that fail when a test says so. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* Of glibc: the allocator below those names that are replaced here. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static int64_t countdown; /* the allocation that fails, 1 the next one; 0: none */
static int32_t lasting;   /* whether those after it fail too */
static int64_t failed;    /* how many have */
static int64_t startable = INT64_MAX;

void packseq_fail_allocation(int64_t nth, int32_t and_later) {
    __atomic_store_n(&lasting, and_later, __ATOMIC_SEQ_CST);
    __atomic_store_n(&failed, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&countdown, nth, __ATOMIC_SEQ_CST);
}

/* From now on all succeed. Returns how many have failed. */
int64_t packseq_end_failing(void) {
    __atomic_store_n(&countdown, 0, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&failed, __ATOMIC_SEQ_CST);
}

void packseq_start_threads(int64_t most) { __atomic_store_n(&startable, most, __ATOMIC_SEQ_CST); }

static int fails(void) {
    if (__atomic_load_n(&countdown, __ATOMIC_SEQ_CST) <= 0) return 0;
    if (__atomic_sub_fetch(&countdown, 1, __ATOMIC_SEQ_CST) > 0) return 0;
    if (__atomic_load_n(&lasting, __ATOMIC_SEQ_CST)) __atomic_store_n(&countdown, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&failed, 1, __ATOMIC_SEQ_CST);
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }

void *calloc(size_t count, size_t size) { return fails() ? NULL : __libc_calloc(count, size); }

void *realloc(void *memory, size_t size) { return fails() ? NULL : __libc_realloc(memory, size); }

void *aligned_alloc(size_t alignment, size_t size) { return fails() ? NULL : __libc_memalign(alignment, size); }

int posix_memalign(void **memory, size_t alignment, size_t size) {
    if (fails()) return ENOMEM;
    *memory = __libc_memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    if (__atomic_sub_fetch(&startable, 1, __ATOMIC_SEQ_CST) < 0) return EAGAIN;
    return next(thread, attributes, run, argument);
}
