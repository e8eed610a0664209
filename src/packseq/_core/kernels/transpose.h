/* U rows of U numbers turned into their columns, or summed up. */
#ifndef HAS_VECTOR
#error "transpose.h comes after vector.h: include isa.h"
#endif
#define HAS_TRANSPOSE

/* The first halves of two vectors, a number of each in turn, and the second ones. */
#if VECTOR_BYTES / REAL_BYTES == 2
#define FIRST_HALVES 0, 2
#define SECOND_HALVES 1, 3
#elif VECTOR_BYTES / REAL_BYTES == 4
#define FIRST_HALVES 0, 4, 1, 5
#define SECOND_HALVES 2, 6, 3, 7
#elif VECTOR_BYTES / REAL_BYTES == 8
#define FIRST_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define SECOND_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#elif VECTOR_BYTES / REAL_BYTES == 16
#define FIRST_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SECOND_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#else
#error "the orders of lanes are listed for vectors of 2, 4, 8 or 16 numbers"
#endif
#ifdef __clang__
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, (VI){__VA_ARGS__})
#endif

/* Each turn takes a bit of a number's row to its column and one of its column to its row. */
static INLINE void NAME(transpose)(V v[LANES]) {
    V turned[LANES];
#pragma GCC unroll 4
    for (int turns = 1; turns < LANES; turns *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            turned[2 * i] = SHUFFLED(v[i], v[i + LANES / 2], FIRST_HALVES);
            turned[2 * i + 1] = SHUFFLED(v[i], v[i + LANES / 2], SECOND_HALVES);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) v[i] = turned[i];
    }
}

/* The sum of each row in its lane, joined in halves: number i and i + U/2, of these i and i + U/4, and so on. */
static INLINE V NAME(sums_of_rows)(V v[LANES]) {
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < half; i++)
            v[i] = SHUFFLED(v[i], v[i + half], FIRST_HALVES) + SHUFFLED(v[i], v[i + half], SECOND_HALVES);
    return v[0];
}
#undef SHUFFLED
#undef FIRST_HALVES
#undef SECOND_HALVES
