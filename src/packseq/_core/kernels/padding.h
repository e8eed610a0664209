/* The padding of a padded output.
 *
 * It becomes 0 before all else, so that parts of it are taken by whoever is there already, and so that a step that is
 * padding for the most part can be cleared as one (Zipf, B 256: 0.8 ms for 16 MB, row by row 1.2). */
#ifndef HAS_MEMBER
#error "padding.h comes after member.h: include isa.h"
#endif
#define HAS_PADDING

static int64_t NAME(output_width)(const packseq_network *net) { return net->n_directions * net->state; }

static void NAME(clear_step)(const packseq_job *job, int64_t t) {
    const int64_t width = NAME(output_width)(job->network);
    const size_t bytes = (size_t)width * sizeof(REAL);
    const int64_t alive = t < job->steps ? alive_at(job, t, 0, job->batch) : 0;
    if (2 * alive < job->batch && job->output.row_stride == width) {
        memset((REAL *)job->output.base + t * job->output.step_stride, 0, (size_t)job->batch * bytes);
    } else {
        for (int64_t r = alive; r < job->batch; r++) memset(NAME(row)(&job->output, t, r), 0, bytes);
    }
}

/* Rows of one sequence that lie one after the other. */
static void NAME(clear_sequence)(const packseq_job *job, int64_t r) {
    const int64_t length = length_of(job, r), width = NAME(output_width)(job->network);
    if (length < job->padded_steps)
        memset(NAME(row)(&job->output, length, r), 0, (size_t)((job->padded_steps - length) * width) * sizeof(REAL));
}

static void NAME(clear_padding)(packseq_job *job) {
    const int64_t width = NAME(output_width)(job->network);
    const int by_sequence = job->output.step_stride == width;
    const int64_t lines = by_sequence ? job->batch : job->padded_steps;
    const int64_t across = by_sequence ? job->padded_steps : job->batch;
    const int64_t part = greatest(1, CLEAR_BYTES / (int64_t)sizeof(REAL) / width / across);
    const int64_t parts = (lines + part - 1) / part;
    int64_t taken;
    while ((taken = __atomic_fetch_add(&job->clearing, 1, __ATOMIC_RELAXED)) < parts) {
        for (int64_t i = taken * part; i < least(lines, (taken + 1) * part); i++)
            by_sequence ? NAME(clear_sequence)(job, i) : NAME(clear_step)(job, i);
        __atomic_add_fetch(&job->cleared, 1, __ATOMIC_RELEASE);
    }
    for (int spins = 0; __atomic_load_n(&job->cleared, __ATOMIC_ACQUIRE) < parts; spins++) relax_or_yield(spins);
}
