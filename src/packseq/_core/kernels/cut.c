/* What a call costs, and how it is cut up: which sequences go together, and whether threads share sequences or hidden
 * units.
 *
 * Sequences lie longest first, so neighbours are alike, and a shard is a run of neighbours: its rows are
 * adjacent and its steps stay full. (Every S-th row would balance by itself, but leaves single rows where
 * few sequences are long.) Results do not depend on any of this; only time does.
 */
#if !defined(_WIN32)
#include <unistd.h>
#endif

#include "kernels.h"
#include "pool.h"
#include "sizes.h"
#include "tuning.h"

typedef struct {
    const packseq_job *job;
    int64_t most_sequences; /* in a shard, */
    int64_t most_rows;      /* and of all its steps */
} limits;

/* Of this machine. */
static double l2_bytes(void) {
    static _Atomic int64_t found;
    int64_t bytes = found;
    if (!bytes) {
#ifdef _SC_LEVEL2_CACHE_SIZE
        bytes = sysconf(_SC_LEVEL2_CACHE_SIZE); /* in a virtual machine this takes microseconds */
#endif
        if (bytes <= 0) bytes = USUAL_L2_BYTES;
        found = bytes;
    }
    return (double)bytes;
}

/* A step of fewer rows than this takes as long as one of so many, where it passes over so many bytes of weights. */
static int64_t least_rows_of(double weight_bytes, int64_t vector_bytes) {
    const double streamed = 1 - L2_PART * l2_bytes() / weight_bytes;
    return greatest(L2_ROWS, (int64_t)(streamed * L3_ROWS * (double)vector_bytes / 32 + 0.5));
}

/* Steps of sequence r, who has at most so many, as the one before it. */
static int64_t length_below(const packseq_job *job, int64_t r, int64_t most) {
    while (job->batch_sizes && most > 0 && job->batch_sizes[most - 1] <= r) most--;
    return most;
}

/* Fills bounds with the fewest shards that cost no more than `most_cost` each (a single sequence may). Here a step
 * costs its rows and L2_ROWS, not the greater of both: of shards that cost the same then, those are best that are
 * alike. */
static int64_t fill(const limits *limits, int64_t most_cost, int64_t *bounds) {
    const packseq_job *job = limits->job;
    int64_t shards = 0, first = 0, more = job->steps;
    while (first < job->batch) {
        const int64_t longest = more = length_below(job, first, more);
        int64_t rows = longest, r = first + 1;
        for (; r < job->batch && r - first < limits->most_sequences; r++) {
            more = length_below(job, r, more);
            if (rows + more > limits->most_rows || rows + more + L2_ROWS * longest > most_cost) break;
            rows += more;
        }
        bounds[shards++] = first;
        first = r;
    }
    bounds[shards] = job->batch;
    return shards;
}

/* More than any shard costs. */
static int64_t dearest(const limits *limits, int64_t rows) { return rows + L2_ROWS * limits->job->steps; }

/* The cut into at most `count` shards (or as few as the limits allow) whose dearest shard is cheapest. */
static int64_t balance(const limits *limits, int64_t count, int64_t rows, int64_t *bounds) {
    int64_t low = 0, high = dearest(limits, rows);
    if (limits->job->batch == 1) return fill(limits, high, bounds);
    count = greatest(count, fill(limits, high, bounds));
    while (high - low > high / 64 + 1) {
        const int64_t middle = low + (high - low) / 2;
        if (fill(limits, middle, bounds) <= count)
            high = middle;
        else
            low = middle;
    }
    return fill(limits, high, bounds);
}

/* The rows of all steps of sequences first .. last, each step counted as at least so many. */
static int64_t cost(const packseq_job *job, int64_t first, int64_t last, int64_t least_rows) {
    if (!job->batch_sizes) return job->steps * greatest(least_rows, last - first);
    int64_t sum = 0;
    for (int64_t t = 0; t < job->steps; t++) {
        const int64_t alive = alive_at(job, t, first, last - first);
        if (alive == 0) break;
        sum += greatest(least_rows, alive);
    }
    return sum;
}

static int64_t clamp(int64_t x, int64_t low, int64_t high) { return least(greatest(x, low), high); }

static int64_t numbers_of(const packseq_matrix *matrix, int64_t lanes) {
    return matrix->n_panels * matrix->k * 2 * lanes;
}

/* Those of all layers and directions. How long a call takes is reckoned by the weights as they are laid out, since the
 * kernels multiply what pads them too: for few hidden units that is most of it. */
static void estimate_whole(packseq_network *net, int64_t vector_bytes) {
    const packseq_format_traits *format = &packseq_formats[net->format];
    const int64_t lanes = vector_bytes / format->real_bytes;
    int64_t all = 0, most = 0; /* weights, and those of one direction that multiply h */
    for (int32_t i = 0; i < net->n_layers * net->n_directions; i++) {
        const packseq_direction *direction = &net->directions[i];
        const int64_t recurrent = numbers_of(&direction->hh, lanes) + numbers_of(&direction->late, lanes);
        all += numbers_of(&direction->ih, lanes) + recurrent;
        most = greatest(most, recurrent);
    }
    net->costs.row_microseconds = 2.0 * (double)all / FLOPS_PER_MICROSECOND * 8 / (double)lanes / format->speed;
    net->costs.least_rows = least_rows_of((double)(most * format->weight_bytes), vector_bytes);
    net->costs.least_rows_alone = least_rows_of((double)(all * format->weight_bytes), vector_bytes);
}

void packseq_estimate(packseq_network *net, int64_t vector_bytes) {
    const packseq_format_traits *format = &packseq_formats[net->format];
    const int64_t real_bytes = format->real_bytes;
    const int64_t lanes = vector_bytes / real_bytes, blocks = blocks_of(net->hidden, lanes);
    const int64_t gate_bytes = gate_row_vectors(net, lanes) * vector_bytes;
    const double weights = (double)packseq_cells[net->cell].gates * (double)net->hidden; /* of each column */
    net->costs = (packseq_costs){
        .vector_bytes = vector_bytes,
        .row_flops = 2 * weights * (double)(net->state + net->directions[0].ih.k) / format->speed,
        .weight_bytes = weights * (double)net->state * (double)format->weight_bytes,
        .blocks = blocks,
        .gate_bytes = gate_bytes,
        .work_bytes = gate_bytes + 3 * blocks * 2 * vector_bytes,
        .spill_bytes = net->n_layers > 1 ? net->n_directions * net->state * real_bytes : 0,
        .l2_sequences = clamp(SHARD_BYTES / (net->hidden * real_bytes), LEAST_SHARD_SEQUENCES, MOST_SHARD_SEQUENCES),
    };
    estimate_whole(net, vector_bytes);
}

/* A step of a call counts as at least so many rows. */
static int64_t least_rows_for(const packseq_network *net, int64_t steps) {
    return steps == 1 ? net->costs.least_rows_alone : net->costs.least_rows;
}

enum packseq_size packseq_size_for(double takes) {
    return takes <= TINY_MICROSECONDS ? PACKSEQ_TINY : takes <= SMALL_MICROSECONDS ? PACKSEQ_SMALL : PACKSEQ_LARGE;
}

double packseq_microseconds_of(const packseq_job *job) {
    const packseq_network *net = job->network;
    return (double)cost(job, 0, job->batch, least_rows_for(net, job->steps)) * net->costs.row_microseconds;
}

enum packseq_size packseq_most_size(const packseq_network *net, int64_t batch, int64_t steps) {
    const double rows = (double)steps * (double)greatest(batch, least_rows_for(net, steps));
    return packseq_size_for(rows * net->costs.row_microseconds);
}

/* What sequences first .. last cost a team that shares their hidden units, in operations of one thread. */
static double team_cost(const packseq_job *job, int64_t first, int64_t last, int32_t members, int32_t abreast) {
    const packseq_costs *step = &job->network->costs;
    const int32_t turns = job->network->n_directions / abreast;
    const int64_t most_blocks = (step->blocks + members - 1) / members; /* of one member */
    const double part = (double)most_blocks / (double)step->blocks;
    const int64_t least_rows = least_rows_of(step->weight_bytes * part, step->vector_bytes);
    const int64_t rows = cost(job, first, last, least_rows), steps = length_of(job, first);
    const int barriers = job->network->directions[0].late.n_panels ? 2 : 1;
    const double barrier = step->vector_bytes > 32 ? BARRIER_FLOPS_LONG : BARRIER_FLOPS;
    return turns * ((double)rows * step->row_flops * part + (members > 1) * barrier * (double)(steps * barriers - 1));
}

double packseq_cost_of(const packseq_job *job, int64_t shard) {
    return team_cost(job, job->bounds[shard], job->bounds[shard + 1], job->team / job->abreast, job->abreast);
}

/* What falls to the busiest of so many workers, each of whom takes the next shard when it is free. */
static double busiest(const packseq_job *job, int64_t workers) {
    double loads[PACKSEQ_MOST_THREADS], most = 0;
    for (int64_t s = 0; s < job->n_shards; s++) {
        int64_t free = s < workers ? s : 0;
        if (s < workers) loads[s] = 0;
        for (int64_t w = 1; s >= workers && w < workers; w++)
            if (loads[w] < loads[free]) free = w;
        loads[free] += packseq_cost_of(job, s);
        if (loads[free] > most) most = loads[free];
    }
    return most;
}

/* Makes a team of at most so many threads, where that is faster than shards for each of the workers. Directions
 * abreast share their weights with no one. Both directions in turn, by all, are faster where a core's L2 holds its
 * part of one direction's weights and not the whole of them (Emerald Rapids, 2 threads: LSTM 512, 1 sequence 1.5, 8
 * sequences 1.15), and where an odd number of threads would leave one over. */
static void team_up(packseq_job *job, int32_t threads, int64_t workers) {
    const packseq_costs *step = &job->network->costs;
    const int32_t directions = job->network->n_directions;
    if (threads < 2) return;
    double least_cost = busiest(job, workers);
    for (int32_t abreast = directions; abreast > 0; abreast--) {
        /* As many for each direction, and a block of hidden units at least for each member. */
        const int32_t members = (int32_t)least(threads / abreast, step->blocks);
        if (members * abreast < 2) continue;
        const double cost = team_cost(job, 0, job->batch, members, abreast);
        if (cost > GAIN_PART * least_cost) continue;
        least_cost = cost;
        job->team = members * abreast;
        job->abreast = abreast;
    }
}

/* Rows of all steps that each of so many workers may keep of a layer's output. */
static int64_t most_spilt(const packseq_costs *step, int64_t workers) {
    return step->spill_bytes ? SPILL_BYTES / workers / step->spill_bytes : INT64_MAX;
}

/* What a worker needs room for; most_rows of gates and states at a time. */
static void measure(packseq_job *job, int64_t most_rows) {
    const packseq_costs *step = &job->network->costs;
    int64_t fullest = 0; /* shard's rows of all steps */
    job->shard_sequences = 0;
    for (int64_t s = 0; s < job->n_shards; s++) {
        const int64_t first = job->bounds[s], last = job->bounds[s + 1];
        job->shard_sequences = greatest(job->shard_sequences, last - first);
        fullest = greatest(fullest, cost(job, first, last, 0));
    }
    job->shard_rows = step->spill_bytes ? fullest : 0;
    /* Blocks of about the same size, of whole steps: for a few rows left over all weights would pass once more. */
    const int64_t usual = clamp(BLOCK_BYTES / step->gate_bytes, LEAST_BLOCK_ROWS, MOST_BLOCK_ROWS);
    const int64_t blocks = greatest(1, (fullest + usual / 2) / usual), rows = (fullest + blocks - 1) / blocks;
    const int64_t block = job->batch_sizes ? rows + job->shard_sequences : round_up(rows, job->shard_sequences);
    job->block_rows = greatest(job->shard_sequences, least(most_rows, least(fullest, block)));
}

/* Into as few shards as may be, for a team was made. It has gates and states once for each direction abreast, and each
 * member may code rows of its own. */
static int32_t cut_for_team(packseq_job *job, int64_t total, int64_t *bounds) {
    const packseq_network *net = job->network;
    const int64_t coded = job->team * net->hidden * packseq_formats[net->format].real_bytes;
    const int64_t most_rows = greatest(1, ROWS_BYTES / (job->abreast * net->costs.work_bytes + coded));
    const limits limits = {job, least(most_rows, net->costs.l2_sequences), most_spilt(&net->costs, 1)};
    job->n_shards = balance(&limits, 1, total, bounds);
    measure(job, most_rows);
    return job->team;
}

static int64_t widest(const packseq_job *job) {
    int64_t most = 0;
    for (int64_t s = 0; s < job->n_shards; s++) most = greatest(most, job->bounds[s + 1] - job->bounds[s]);
    return most;
}

/* Into shards for each of the workers, who take the next one when they are free. Where some are as wide as they may
 * be, and so cheaper than the first, twice as many may be shared out better. */
static void cut_for_each(packseq_job *job, const limits *limits, int64_t workers, int64_t rows, int64_t *bounds) {
    const int64_t fewest = fill(limits, dearest(limits, rows), bounds), count = round_up(fewest, workers);
    job->n_shards = balance(limits, count, rows, bounds);
    if (workers == 1 || job->n_shards != count) return;
    if (widest(job) < limits->most_sequences) return;
    const double most = busiest(job, workers), mean = busiest(job, 1) / (double)workers;
    if (mean > GAIN_PART * most) return;
    job->n_shards = balance(limits, 2 * count, rows, bounds);
    if (busiest(job, workers) > GAIN_PART * most) job->n_shards = balance(limits, count, rows, bounds);
}

int32_t packseq_cut(packseq_job *job, int64_t *bounds, int32_t threads) {
    const packseq_costs *step = &job->network->costs;
    const int64_t total = cost(job, 0, job->batch, 0);
    /* Workers with a workspace each, and how many rows of gates and states these may hold. */
    const int64_t workers = clamp(ROWS_BYTES / step->work_bytes, 1, threads);
    const int64_t most_rows = greatest(1, ROWS_BYTES / workers / step->work_bytes);
    const limits limits = {job, least(most_rows, step->l2_sequences), most_spilt(step, workers)};

    job->bounds = bounds;
    job->team = job->abreast = 1;
    cut_for_each(job, &limits, workers, total, bounds);
    team_up(job, threads, workers);
    if (job->team > 1) return cut_for_team(job, total, bounds);
    measure(job, most_rows);
    /* A shard of one long sequence may spill more than its worker's part: then fewer work at once. */
    const int64_t spilt = job->shard_rows * step->spill_bytes + job->steps * (int64_t)sizeof(int64_t);
    return (int32_t)least(clamp(SPILL_BYTES / spilt, 1, workers), job->n_shards);
}

/* ---- linear layers ---- */

static int64_t lanes_of(const packseq_linear *x, int64_t vector_bytes) {
    return vector_bytes / packseq_formats[x->format].real_bytes;
}

double packseq_microseconds_of_linear(const packseq_linear *x, int64_t vector_bytes) {
    const int64_t lanes = lanes_of(x, vector_bytes);
    const int dots = x->columns * packseq_formats[x->format].real_bytes <= DOT_PRODUCT_BYTES;
    const int64_t padded = dots ? x->columns : blocks_of(x->columns, lanes) * 2 * lanes;
    const double packed = (double)(x->k * padded); /* with what pads the panels */
    const double flops = packed * (2.0 * (double)x->n_rows + PACKING_FLOPS);
    return flops / FLOPS_PER_MICROSECOND * 8 / (double)lanes;
}

/* Many rows are cut for all workers, each of which packs all weights for itself; fewer are not, so that each weight is
 * packed once, unless there are fewer panels than workers. */
int32_t packseq_cut_linear(packseq_linear *x, int64_t vector_bytes, int32_t threads) {
    const int64_t panels = blocks_of(x->columns, lanes_of(x, vector_bytes));
    const int64_t wanted = threads > 1 ? threads * PARTS_OF_A_WORKER : 1;
    int64_t groups = parts_of(panels, clamp(GROUP_BYTES / (x->k * 2 * vector_bytes), 1, panels)), ranges = 1;
    if (x->n_rows >= threads * ROWS_THAT_PAY_PACKING) {
        ranges = wanted;
    } else {
        groups = clamp(wanted, groups, panels);
        if (groups < threads) ranges = parts_of(wanted, groups);
    }
    x->part_panels = parts_of(panels, groups);
    x->part_rows = parts_of(x->n_rows, ranges);
    return (int32_t)least(threads, parts_of(panels, x->part_panels) * parts_of(x->n_rows, x->part_rows));
}
