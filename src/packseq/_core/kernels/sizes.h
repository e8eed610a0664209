/* What follows from the sizes of a network and of a job alone, for the kernels and for who cuts their work up. */
#ifndef PACKSEQ_SIZES_H
#define PACKSEQ_SIZES_H

#include "integers.h"
#include "kernels.h"

/* Blocks of 2U hidden units. */
static inline int64_t blocks_of(int64_t hidden, int64_t lanes) { return (hidden + 2 * lanes - 1) / (2 * lanes); }

/* Vectors from one gate row to the next. Without the gap, rows of a power of two would share a few sets of the cache,
 * and a block's gates of many rows would not stay there. */
static inline int64_t gate_row_vectors(const packseq_network *net, int64_t lanes) {
    return blocks_of(net->hidden, lanes) * packseq_cells[net->cell].block_vectors + 2;
}

/* Sequences of first .. first + width that have a step t. */
static inline int64_t alive_at(const packseq_job *job, int64_t t, int64_t first, int64_t width) {
    if (!job->batch_sizes) return width;
    return greatest(0, least(job->batch_sizes[t] - first, width));
}

/* Steps of sorted sequence r: batch_sizes never grows, so bisect. */
static inline int64_t length_of(const packseq_job *job, int64_t r) {
    if (!job->batch_sizes) return job->steps;
    int64_t low = 0, high = job->steps;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (job->batch_sizes[middle] > r)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

#endif
