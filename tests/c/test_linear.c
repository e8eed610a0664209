/* Linear layers on every instruction set of this machine, beside sums in double: numbers, and the bits of one row.
 *
 * Every matrix has memory of just its size, so that sanitizers see what is read or written beside it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "workers.h"

extern const packseq_kernels packseq_wide;

enum { WORKERS = 2 };

typedef struct {
    const packseq_kernels *table;
    enum packseq_format format;
    int64_t rows, k, columns;
    int by_column;  /* whether the weights of a column are adjacent, or those of a k */
    double *x, *w, *bias; /* [rows][k], [k][columns], [columns] */
} layer;

static int failures, runs;

static double random_number(void) {
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(state >> 11) / 4503599627370496.0 - 1; /* 2^52: from -1 to 1 */
}

/* Of numbers that float32 has too. */
static double *random_numbers(int64_t count) {
    double *numbers = malloc((size_t)count * sizeof(double));
    for (int64_t i = 0; i < count; i++) numbers[i] = (float)random_number();
    return numbers;
}

static const packseq_engine *engine_of(const layer *l) { return packseq_engine_of(l->table, l->format); }

static size_t bytes_of(const layer *l, int64_t count) {
    return (size_t)(count * packseq_formats[l->format].real_bytes);
}

static void put(const layer *l, void *array, int64_t i, double value) {
    if (l->format == PACKSEQ_F32)
        ((float *)array)[i] = (float)value;
    else
        ((double *)array)[i] = value;
}

static double get(const layer *l, const void *array, int64_t i) {
    return l->format == PACKSEQ_F32 ? (double)((const float *)array)[i] : ((const double *)array)[i];
}

static void *as_reals(const layer *l, const double *numbers, int64_t count) {
    void *array = malloc(bytes_of(l, count));
    for (int64_t i = 0; i < count; i++) put(l, array, i, numbers[i]);
    return array;
}

typedef struct {
    const layer *layer;
    packseq_linear *job;
} task;

static void run_task(void *argument, int32_t worker) {
    const task *t = argument;
    engine_of(t->layer)->linear(t->job, worker);
}

/* What it gives for rows first .. first + rows, cut for so many threads. */
static void *run(const layer *l, int64_t first, int64_t rows, int32_t threads) {
    double *weight = malloc((size_t)(l->k * l->columns) * sizeof(double));
    for (int64_t k = 0; k < l->k; k++)
        for (int64_t c = 0; c < l->columns; c++)
            weight[l->by_column ? c * l->k + k : k * l->columns + c] = l->w[k * l->columns + c];
    void *x = as_reals(l, l->x + first * l->k, rows * l->k), *w = as_reals(l, weight, l->k * l->columns);
    void *bias = as_reals(l, l->bias, l->columns), *out = malloc(bytes_of(l, rows * l->columns));
    packseq_linear job = {
        .format = (int32_t)l->format,
        .rows = x,
        .n_rows = rows,
        .row_stride = l->k,
        .k = l->k,
        .weight = w,
        .k_stride = l->by_column ? 1 : l->columns,
        .column_stride = l->by_column ? l->k : 1,
        .columns = l->columns,
        .start = bias,
        .out = out,
    };
    packseq_cut_linear(&job, l->table->vector_bytes, threads);
    job.workspace_stride = engine_of(l)->linear_workspace(&job);
    if (posix_memalign((void **)&job.workspace, 64, (size_t)(WORKERS * job.workspace_stride))) exit(2);
    run_together(run_task, &(task){l, &job}, WORKERS);
    free(job.workspace);
    free(weight);
    free(x);
    free(w);
    free(bias);
    return out;
}

static void expect(int truth, const layer *l, const char *what) {
    runs++;
    if (truth) return;
    failures++;
    printf("%s, %s, %d rows, K %d, %d columns, %s: %s\n", l->table->name, packseq_formats[l->format].name, (int)l->rows,
           (int)l->k, (int)l->columns, l->by_column ? "by column" : "by k", what);
}

static int is_right(const layer *l, const void *out) {
    const double epsilon = l->format == PACKSEQ_F32 ? 0x1p-23 : 0x1p-52;
    for (int64_t r = 0; r < l->rows; r++)
        for (int64_t c = 0; c < l->columns; c++) {
            double sum = l->bias[c], terms = fabs(sum);
            for (int64_t k = 0; k < l->k; k++) {
                const double term = l->x[r * l->k + k] * l->w[k * l->columns + c];
                sum += term;
                terms += fabs(term);
            }
            /* Each of K products and of K sums is rounded, here too. */
            if (!(fabs(get(l, out, r * l->columns + c) - sum) <= 2 * (double)(l->k + 1) * epsilon * terms)) return 0;
        }
    return 1;
}

static void check(layer l) {
    l.x = random_numbers(l.rows * l.k);
    l.w = random_numbers(l.k * l.columns);
    l.bias = random_numbers(l.columns);
    void *out = run(&l, 0, l.rows, 1), *shared = run(&l, 0, l.rows, WORKERS);
    expect(is_right(&l, out), &l, "wrong numbers");
    expect(memcmp(out, shared, bytes_of(&l, l.rows * l.columns)) == 0, &l, "other bits on two threads");
    const int64_t row = l.rows / 2;
    void *alone = run(&l, row, 1, 1);
    const char *among = (char *)out + bytes_of(&l, row * l.columns);
    expect(memcmp(alone, among, bytes_of(&l, l.columns)) == 0, &l, "other bits for a row alone");
    free(out);
    free(shared);
    free(alone);
    free(l.x);
    free(l.w);
    free(l.bias);
}

static void check_table(const packseq_kernels *table) {
    static const int64_t rows[] = {1, 2, 3, 5, 12, 13, 61}, widths[] = {1, 5, 9, 16, 17, 33, 70},
                         ks[] = {1, 15, 16, 40};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        for (size_t j = 0; j < sizeof(widths) / sizeof(*widths); j++)
            for (size_t n = 0; n < sizeof(ks) / sizeof(*ks); n++)
                for (int format = PACKSEQ_F32; format <= PACKSEQ_F64; format++)
                    for (int by_column = 0; by_column < 2; by_column++)
                        check((layer){.table = table,
                                      .format = (enum packseq_format)format,
                                      .rows = rows[i],
                                      .k = ks[n],
                                      .columns = widths[j],
                                      .by_column = by_column});
    /* Several slices of rows, blocks of k and groups of panels, and rows that are cut. */
    check((layer){.table = table, .format = PACKSEQ_F32, .rows = 600, .k = 300, .columns = 37});
    check((layer){.table = table, .format = PACKSEQ_F64, .rows = 3, .k = 1500, .columns = 90, .by_column = 1});
}

int main(void) {
    for (const packseq_kernels *const *table = packseq_compiled(); *table; table++)
        if (packseq_supported(*table) && !(*table)->base) check_table(*table);
    check_table(&packseq_wide);
    printf("linear layers: %d of %d checks failed\n", failures, runs);
    return failures > 0;
}
