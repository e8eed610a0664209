/* Rows moved between the packed batch and its sequences; rows.pyx says how they lie. Nothing is checked. */
#ifndef PACKSEQ_ROWS_H
#define PACKSEQ_ROWS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "inline.h"

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Steps moved of one sequence before turning to the next. A run of small rows fills cache lines on the sequences' side
 * while the packed side advances as so many streams; large rows far apart only touch that many pages more. Zen 4, GB/s:
 *
 *     steps                                       1     8
 *     32-byte rows gathered from (B, T)           8    14
 *     32-byte rows gathered from (T, B)           2    11
 *     1024-byte rows scattered to (T, B)        7.6   2.3
 */
static inline int64_t block_of(size_t row_bytes, const int64_t *step_strides) {
    return row_bytes >= 512 && step_strides[0] != (int64_t)row_bytes ? 1 : 8;
}

static INLINE void gather_rows(const size_t row_bytes, char *packed, const int64_t *restrict addresses,
                               const int64_t *restrict step_strides, const int64_t *restrict lengths,
                               const int64_t *restrict offsets, int64_t B, int64_t T) {
    const int64_t block = block_of(row_bytes, step_strides);
    for (int64_t start = 0; start < T; start += block)
        for (int64_t r = 0; r < B && lengths[r] > start; r++) {
            const int64_t stop = least(lengths[r], start + block);
            const char *row = (const char *)addresses[r] + start * step_strides[r];
            for (int64_t t = start; t < stop; t++, row += step_strides[r])
                memcpy(packed + (offsets[t] + r) * row_bytes, row, row_bytes);
        }
}

static INLINE void scatter_rows(const size_t row_bytes, const char *packed, const int64_t *restrict addresses,
                                const int64_t *restrict step_strides, const int64_t *restrict lengths,
                                const int64_t *restrict offsets, int64_t B, int64_t T, const char *padding,
                                int64_t padded) {
    const int64_t block = block_of(row_bytes, step_strides);
    for (int64_t start = 0; start < (padded > T ? padded : T); start += block)
        for (int64_t r = 0; r < B && (lengths[r] > start || padded > start); r++) {
            const int64_t live = least(lengths[r], start + block);
            const int64_t stop = least(padded, start + block);
            char *row = (char *)addresses[r] + start * step_strides[r];
            int64_t t = start;
            for (; t < live; t++, row += step_strides[r]) memcpy(row, packed + (offsets[t] + r) * row_bytes, row_bytes);
            for (; t < stop; t++, row += step_strides[r]) memcpy(row, padding, row_bytes);
        }
}

/* A copy whose size the compiler knows is a load and a store; of any other, a call. */
#define FOR_ROW_SIZE(row_bytes, move, ...) \
    (row_bytes) == 1    ? move(1, __VA_ARGS__) \
    : (row_bytes) == 2  ? move(2, __VA_ARGS__) \
    : (row_bytes) == 4  ? move(4, __VA_ARGS__) \
    : (row_bytes) == 8  ? move(8, __VA_ARGS__) \
    : (row_bytes) == 16 ? move(16, __VA_ARGS__) \
    : (row_bytes) == 32 ? move(32, __VA_ARGS__) \
    : (row_bytes) == 64 ? move(64, __VA_ARGS__) \
                        : move(row_bytes, __VA_ARGS__)

/* Steps that move from one packed batch to another, and the sequence's row in either. */
typedef struct {
    int64_t steps, source_row, source_step, target_row, target_step;
} packseq_run;

typedef struct {
    char *rows;
    int64_t row_stride;
    const int64_t *offsets;
} packseq_side;

static INLINE void transfer_rows(const size_t row_bytes, packseq_side target, packseq_side source, int64_t stride,
                                 const packseq_run *restrict runs, int64_t n_runs) {
    const int64_t block = 8;
    for (int64_t start = 0; start < runs[0].steps; start += block)
        for (int64_t q = 0; q < n_runs && runs[q].steps > start; q++) {
            const packseq_run run = runs[q];
            const int64_t stop = least(run.steps, start + block);
            for (int64_t t = start; t < stop; t++) {
                const int64_t from = source.offsets[run.source_step + t * stride];
                const int64_t to = target.offsets[run.target_step + t];
                memcpy(target.rows + (to + run.target_row) * target.row_stride,
                       source.rows + (from + run.source_row) * source.row_stride, row_bytes);
            }
        }
}

static void packseq_gather(size_t row_bytes, char *packed, const int64_t *addresses, const int64_t *step_strides,
                           const int64_t *lengths, const int64_t *offsets, int64_t B, int64_t T) {
    FOR_ROW_SIZE(row_bytes, gather_rows, packed, addresses, step_strides, lengths, offsets, B, T);
}

static void packseq_scatter(size_t row_bytes, const char *packed, const int64_t *addresses, const int64_t *step_strides,
                            const int64_t *lengths, const int64_t *offsets, int64_t B, int64_t T, const char *padding,
                            int64_t padded) {
    FOR_ROW_SIZE(row_bytes, scatter_rows, packed, addresses, step_strides, lengths, offsets, B, T, padding, padded);
}

static void packseq_transfer(size_t row_bytes, packseq_side target, packseq_side source, int64_t stride,
                             const packseq_run *runs, int64_t n_runs) {
    FOR_ROW_SIZE(row_bytes, transfer_rows, target, source, stride, runs, n_runs);
}

#endif
