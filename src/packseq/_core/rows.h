/* Rows moved between the packed batch and its sequences; rows.pyx says how they lie. Nothing is checked. */
#ifndef PACKSEQ_ROWS_H
#define PACKSEQ_ROWS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "inline.h"
#include "integers.h"
#include "pool.h"

/* What one worker moves at a time: these steps of these sequences. They are 512 kB of the widest rows that are usual,
 * and begin at a block of steps. */
#define PART_STEPS 32
#define PART_SEQUENCES 16

typedef struct {
    int64_t start, stop, first, last;
} packseq_part;

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

/* A packed batch and its sequences. */
typedef struct {
    char *packed;
    const int64_t *addresses, *step_strides, *lengths, *offsets;
    const char *padding; /* a row of it, and */
    int64_t padded;      /* the steps to which sequences are padded; 0: they are not */
} packseq_batch;

static INLINE void gather_rows(const size_t row_bytes, const void *job, packseq_part part) {
    const packseq_batch x = *(const packseq_batch *)job;
    const int64_t block = block_of(row_bytes, x.step_strides);
    for (int64_t start = part.start; start < part.stop; start += block)
        for (int64_t r = part.first; r < part.last && x.lengths[r] > start; r++) {
            const int64_t stop = least(least(x.lengths[r], start + block), part.stop);
            const char *row = (const char *)x.addresses[r] + start * x.step_strides[r];
            for (int64_t t = start; t < stop; t++, row += x.step_strides[r])
                memcpy(x.packed + (x.offsets[t] + r) * row_bytes, row, row_bytes);
        }
}

static INLINE void scatter_rows(const size_t row_bytes, const void *job, packseq_part part) {
    const packseq_batch x = *(const packseq_batch *)job;
    const int64_t block = block_of(row_bytes, x.step_strides);
    for (int64_t start = part.start; start < part.stop; start += block)
        for (int64_t r = part.first; r < part.last && (x.lengths[r] > start || x.padded > start); r++) {
            const int64_t end = least(start + block, part.stop);
            const int64_t live = least(x.lengths[r], end), stop = least(x.padded, end);
            char *row = (char *)x.addresses[r] + start * x.step_strides[r];
            int64_t t = start;
            for (; t < live; t++, row += x.step_strides[r])
                memcpy(row, x.packed + (x.offsets[t] + r) * row_bytes, row_bytes);
            for (; t < stop; t++, row += x.step_strides[r]) memcpy(row, x.padding, row_bytes);
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

typedef struct {
    packseq_side target, source;
    int64_t stride; /* from one step of the source to the next */
    const packseq_run *runs;
} packseq_runs;

static INLINE void transfer_rows(const size_t row_bytes, const void *job, packseq_part part) {
    const packseq_runs x = *(const packseq_runs *)job;
    const int64_t block = 8;
    for (int64_t start = part.start; start < part.stop; start += block)
        for (int64_t q = part.first; q < part.last && x.runs[q].steps > start; q++) {
            const packseq_run run = x.runs[q];
            const int64_t stop = least(least(run.steps, start + block), part.stop);
            for (int64_t t = start; t < stop; t++) {
                const int64_t from = x.source.offsets[run.source_step + t * x.stride];
                const int64_t to = x.target.offsets[run.target_step + t];
                memcpy(x.target.rows + (to + run.target_row) * x.target.row_stride,
                       x.source.rows + (from + run.source_row) * x.source.row_stride, row_bytes);
            }
        }
}

typedef void packseq_move(size_t row_bytes, const void *job, packseq_part part);

static void packseq_gather(size_t row_bytes, const void *batch, packseq_part part) {
    FOR_ROW_SIZE(row_bytes, gather_rows, batch, part);
}

static void packseq_scatter(size_t row_bytes, const void *batch, packseq_part part) {
    FOR_ROW_SIZE(row_bytes, scatter_rows, batch, part);
}

static void packseq_transfer(size_t row_bytes, const void *runs, packseq_part part) {
    FOR_ROW_SIZE(row_bytes, transfer_rows, runs, part);
}

/* ---- by many ---- */

typedef struct {
    packseq_move *move;
    size_t row_bytes;
    const void *job;
    int64_t steps, sequences;
    packseq_parts parts;
} packseq_moving;

static inline int64_t packseq_count_parts(const packseq_moving *x) {
    return parts_of(x->steps, PART_STEPS) * parts_of(x->sequences, PART_SEQUENCES);
}

static inline void packseq_move_all(const packseq_moving *x) {
    x->move(x->row_bytes, x->job, (packseq_part){0, x->steps, 0, x->sequences});
}

/* Those parts that no other worker has taken. */
static void packseq_move_parts(void *argument, int32_t worker) {
    packseq_moving *x = argument;
    const int64_t abreast = parts_of(x->sequences, PART_SEQUENCES), count = packseq_count_parts(x);
    (void)worker;
    for (int64_t n; (n = packseq_take_part(&x->parts)) < count;) {
        const int64_t start = n / abreast * PART_STEPS, first = n % abreast * PART_SEQUENCES;
        const packseq_part part = {start, least(x->steps, start + PART_STEPS), first,
                                   least(x->sequences, first + PART_SEQUENCES)};
        x->move(x->row_bytes, x->job, part);
    }
}

#endif
