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

/* One layer, those directions that fall to this member. Returns whether it is still part of the team. */
static int NAME(run_layer)(NAME(walk) * w, int32_t layer, packseq_rows output) {
    const packseq_network *net = w->job->network;
    const int32_t lane = w->crew.rank % w->abreast, abreast = w->abreast;
    for (int32_t d = lane; d < net->n_directions; d += abreast) {
        w->state_index = (int64_t)layer * net->n_directions + d;
        w->weights = &net->directions[w->state_index];
        if (d >= abreast && w->weights->late.n_panels)
            NAME(wait)(w); /* for who still reads `hidden` of the direction before */
        w->reverse = d;
        w->output = output;
        w->output.base = (REAL *)output.base + d * net->state;
        if (!NAME(walk_steps)(w)) return 0;
    }
    return 1;
}

/* All layers and directions of one shard; seat 0 of a crew of 1, or one of a team that shares it. Returns whether this
 * member is still part of the team. */
static int NAME(run_shard)(packseq_job *job, int64_t shard, char *memory, int32_t seat, packseq_crew *crew) {
    const packseq_network *net = job->network;
    NAME(walk) w = {.job = job, .first = job->bounds[shard], .last_first = job->last_first, .crew = *crew};
    w.gate_row = NAME(gate_row)(net);
    w.padded = NAME(padded)(net);
    w.width = job->bounds[shard + 1] - w.first;
    packseq_rows spill, output = job->input;
    for (int32_t layer = 0; layer < net->n_layers; layer++) {
        if (shard || layer) regroup(job, &job->barriers[0], &w.crew); /* for what the layer before gave */
        if (w.crew.size == 0) break;
        NAME(take_part)(&w);
        NAME(arrange)(job, memory, w.crew.rank % w.abreast, seat, &w.arena);
        w.steps = NAME(plan_spill)(job, &w.arena, w.first, w.width, &spill);
        w.input = output;
        output = (net->n_layers - 1 - layer) % 2 ? spill : job->output;
        if (!NAME(run_layer)(&w, layer, output)) break;
    }
    *crew = w.crew;
    return w.crew.size > 0;
}

static void NAME(run)(packseq_job *job, int32_t worker) {
    const uint64_t mode = enter_kernel_mode();
    /* Another core has it. */
    for (size_t at = 0; at < sizeof *job; at += 64) __builtin_prefetch((const char *)job + at);
    if (job->padded_steps) NAME(clear_padding)(job);
    int64_t s = 0;
    if (job->team > 1) {
        packseq_crew crew = {.rank = worker, .size = job->team};
        while (s < job->n_shards && NAME(run_shard)(job, s, job->workspace, worker, &crew)) s++;
    } else {
        packseq_crew alone = {.size = 1};
        char *memory = job->workspace + worker * job->workspace_stride;
        while ((s = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->n_shards)
            NAME(run_shard)(job, s, memory, 0, &alone);
    }
    leave_kernel_mode(mode);
}
