/* Shards: all layers and directions of the sequences of one, by one worker or by a team, and who takes which. */
#if !defined(HAS_WALK) || !defined(HAS_PADDING)
#error "shards.h comes after walk.h and padding.h: include isa.h"
#endif

/* The spilled layers are packed by the shard's own steps. Returns how many steps the shard has. */
static int64_t NAME(plan_spill)(const packseq_job *job, NAME(arena) * arena, int64_t first, int64_t width,
                                packseq_rows *spill) {
    const int64_t row = job->network->n_directions * job->network->state;
    int64_t t = 0;
    for (int64_t at = -first; t < job->steps; t++) {
        const int64_t m = alive_at(job, t, first, width);
        if (m == 0) break;
        if (job->shard_rows) arena->steps[t] = at;
        at += m;
    }
    *spill = (packseq_rows){.base = arena->spill, .offsets = arena->steps, .row_stride = row};
    return t;
}

/* A projection's columns are cut by themselves. */
static void NAME(set_columns)(NAME(walk) * w) {
    const packseq_network *net = w->job->network;
    int64_t from = w->from, to = w->to;
    if (packseq_cells[net->cell].late == PACKSEQ_PROJECTION && net->directions[0].late.n_panels) {
        from = net->directions[0].late.n_panels * w->member / w->members;
        to = net->directions[0].late.n_panels * (w->member + 1) / w->members;
    }
    w->column = from * 2 * LANES;
    w->columns = least(to * 2 * LANES, net->state) - w->column;
}

/* All layers and directions of one shard; member 0 of 1, or one of a team that shares it. */
static void NAME(run_shard)(packseq_job *job, int64_t shard, char *memory, int32_t member) {
    const packseq_network *net = job->network;
    const int32_t directions = net->n_directions, abreast = job->abreast;
    const int64_t blocks = blocks_of(net->hidden, LANES);
    NAME(walk) w = {.job = job, .first = job->bounds[shard], .last_first = job->last_first};
    w.gate_row = NAME(gate_row)(net);
    w.padded = NAME(padded)(net);
    packseq_rows spill;
    w.width = job->bounds[shard + 1] - w.first;
    w.members = job->team / abreast;
    w.member = member / abreast;
    w.from = blocks * w.member / w.members;
    w.to = blocks * (w.member + 1) / w.members;
    w.barrier = &job->barriers[1 + member % abreast];
    NAME(arrange)(job, memory, member % abreast, member, &w.arena);
    w.steps = NAME(plan_spill)(job, &w.arena, w.first, w.width, &spill);
    w.output = job->input;
    NAME(set_columns)(&w);
    for (int32_t layer = 0; layer < net->n_layers; layer++) {
        if (shard || layer) barrier_wait(&job->barriers[0], job->team); /* for what the layer before gave */
        w.input = w.output;
        w.output = (net->n_layers - 1 - layer) % 2 ? spill : job->output;
        const packseq_rows both = w.output;
        for (int32_t d = member % abreast; d < directions; d += abreast) {
            w.state_index = (int64_t)layer * directions + d;
            w.weights = &net->directions[w.state_index];
            if (d >= abreast && w.weights->late.n_panels)
                barrier_wait(w.barrier, w.members); /* for who still reads `hidden` of the direction before */
            w.reverse = d;
            w.output.base = (REAL *)both.base + d * net->state;
            NAME(walk_steps)(&w);
        }
        w.output = both;
    }
}

static void NAME(run)(packseq_job *job, int32_t worker) {
    const uint64_t mode = enter_kernel_mode();
    /* Another core has it. */
    for (size_t at = 0; at < sizeof *job; at += 64) __builtin_prefetch((const char *)job + at);
    if (job->padded_steps) NAME(clear_padding)(job);
    if (job->team > 1) {
        for (int64_t s = 0; s < job->n_shards; s++) NAME(run_shard)(job, s, job->workspace, worker);
    } else {
        char *memory = job->workspace + worker * job->workspace_stride;
        int64_t s;
        while ((s = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->n_shards)
            NAME(run_shard)(job, s, memory, 0);
    }
    leave_kernel_mode(mode);
}
