/* Vectors of one REAL, and what every part of the template says with them. */
#if !defined(REAL) || !defined(INTEGER) || !defined(NATURAL) || !defined(WIDTH) || !defined(VECTOR_BYTES)
#error "vector.h is a part of the template: include isa.h, which says what a REAL is and includes all parts in order"
#endif
#ifdef HAS_VECTOR
#error "vector.h comes once for each width, and undefine.h at its end"
#endif
#define HAS_VECTOR

#define LANES ((int64_t)(VECTOR_BYTES / sizeof(REAL)))
#define NAME(x) PASTE(x, ISA, WIDTH)
#define V NAME(vec)
#define VU NAME(vec_unaligned)
#define VI NAME(vec_integer)
#define VN NAME(vec_natural)

typedef REAL V __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef REAL VU __attribute__((vector_size(VECTOR_BYTES), may_alias, aligned(sizeof(REAL))));
typedef INTEGER VI __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef NATURAL VN __attribute__((vector_size(VECTOR_BYTES), may_alias));

#define FOR_EACH(j, n) _Pragma("GCC unroll 8") for (int j = 0; j < n; j++)

static inline V NAME(splat)(REAL x) { return x - (V){0}; }

/* Four bytes in every lane of as many. */
static inline VI NAME(four_bytes)(const char *from) {
    int32_t four;
    memcpy(&four, from, sizeof four);
    return four - (VI){0};
}

static inline V NAME(select)(VI mask, V yes, V no) { return (V)((mask & (VI)yes) | (~mask & (VI)no)); }

/* The bound where it is greater (less) than x, else x, NaN included; one instruction where there is one. */
static inline V NAME(at_least)(REAL bound, V x) {
#ifdef MAXIMUM
    return MAXIMUM(NAME(splat)(bound), x);
#else
    return NAME(select)(x < bound, NAME(splat)(bound), x);
#endif
}

static inline V NAME(at_most)(REAL bound, V x) {
#ifdef MINIMUM
    return MINIMUM(NAME(splat)(bound), x);
#else
    return NAME(select)(x > bound, NAME(splat)(bound), x);
#endif
}

/* A vector of which memory may have no more than the first `room` numbers. */
static inline void NAME(store)(REAL *to, V v, int64_t room) {
    if (room >= LANES) {
        *(VU *)to = v;
    } else {
        for (int64_t i = 0; i < room; i++) to[i] = v[i];
    }
}

static inline V NAME(load)(const REAL *from, int64_t room) {
    if (room >= LANES) return *(const VU *)from;
    V v = NAME(splat)(0);
    for (int64_t i = 0; i < room; i++) v[i] = from[i];
    return v;
}
