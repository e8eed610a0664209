/* A linear layer: rows times a matrix of any strides, plus a bias.
 *
 * The matrix is packed at each call, a group of panels at a time, by who is about to multiply with it, while the cache
 * has it: so no worker waits for another, and what is packed need not be as large as the matrix.
 */
#if !defined(HAS_MEMBER) || !defined(HAS_TRANSPOSE)
#error "linear.h comes after member.h and transpose.h: include isa.h"
#endif

/* Where the last panel has no more columns than one vector, half of it is left out: rows of one vector each, which with
 * the weights and a number fit into 16 registers, and so few that fewer would wait as long. 128 to 12, 4096 rows, one
 * thread, AVX-512: 195 microseconds; by whole panels 382. */
#define HALF_ROWS 12
#define FEW_HALF_ROWS 4

/* Rows that pass all panels of a group together. */
static int64_t NAME(linear_rows)(int64_t k) { return least(MOST_BLOCK_ROWS, NAME(slice_rows)(k)); }

/* What one worker has. */
typedef struct {
    REAL *panels;    /* [part_panels][K][2][U], zeros past the last column */
    REAL *start;     /* [part_panels][2U], likewise */
    REAL *edge;      /* [rows][2U]: what the last panel gives, where the output has fewer columns */
    int32_t *column; /* [part_panels] */
    const REAL **a;  /* [rows] */
    REAL *dots;      /* [columns][dot_stride], where there are so few of them */
} NAME(linear_memory);

/* Lays one worker's memory out and returns how many bytes it takes. */
static int64_t NAME(arrange_linear)(const packseq_linear *x, char *memory, NAME(linear_memory) * m) {
    const int64_t rows = least(x->part_rows, NAME(linear_rows)(x->k)), columns = x->part_panels * 2 * LANES;
    int64_t at = 0;
#define TAKE(field, count, type) \
    do { \
        m->field = (type *)(memory + at); \
        at += round_up((count) * (int64_t)sizeof(type), 64); \
    } while (0)
    TAKE(panels, x->k * columns, REAL);
    TAKE(start, columns, REAL);
    TAKE(edge, rows * 2 * LANES, REAL);
    TAKE(column, x->part_panels, int32_t);
    TAKE(a, rows, const REAL *);
    TAKE(dots, NAME(has_dots)(x) ? x->columns * NAME(dot_stride)(x->k) : 0, REAL);
#undef TAKE
    return at;
}

static int64_t NAME(linear_workspace)(const packseq_linear *x) {
    NAME(linear_memory) unused;
    return NAME(arrange_linear)(x, NULL, &unused);
}

/* ---- packing ---- */

/* U numbers of each of up to U columns, as rows of a panel. */
static void NAME(pack_square)(const REAL *w, int64_t columns, int64_t stride, REAL *to) {
    V square[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) square[i] = i < columns ? *(const VU *)(w + i * stride) : NAME(splat)(0);
    NAME(transpose)(square);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) *(V *)(to + i * 2 * LANES) = square[i];
}

/* So many k of up to 2U columns. */
static void NAME(pack_rows)(const packseq_linear *x, const REAL *w, int64_t k, int64_t columns, REAL *to) {
    for (; k > 0; k--, w += x->k_stride, to += 2 * LANES) {
        if (columns == 2 * LANES && x->column_stride == 1) {
            *(V *)to = *(const VU *)w;
            *(V *)(to + LANES) = *(const VU *)(w + LANES);
        } else {
            for (int64_t c = 0; c < columns; c++) to[c] = w[c * x->column_stride];
            for (int64_t c = columns; c < 2 * LANES; c++) to[c] = 0;
        }
    }
}

/* Some k of a panel. */
static INLINE void NAME(pack_block)(const packseq_linear *x, int64_t panel, int64_t k, REAL *to) {
    const int64_t first = panel * 2 * LANES, columns = least(2 * LANES, x->columns - first);
    const int64_t stride = x->column_stride, some = least(LANES, x->k - k);
    const REAL *w = (const REAL *)x->weight + first * stride + k * x->k_stride;
    if (x->k_stride == 1 && some == LANES) {
        NAME(pack_square)(w, columns, stride, to);
        NAME(pack_square)(w + LANES * stride, columns - LANES, stride, to + LANES);
    } else {
        NAME(pack_rows)(x, w, some, columns, to);
    }
}

/* Panels from .. from + count, along what lies side by side: one after the other, which for one row of 256 to 256 takes
 * 0.9 of the time, or some k of all before the next. */
static void NAME(pack_panels)(const packseq_linear *x, int64_t from, int64_t count, const NAME(linear_memory) * m) {
    const int64_t blocks = (x->k + LANES - 1) / LANES, along_k = x->k_stride == 1;
    for (int64_t i = 0; i < blocks * count; i++) {
        const int64_t p = along_k ? i / blocks : i % count, k = (along_k ? i % blocks : i / count) * LANES;
        NAME(pack_block)(x, from + p, k, m->panels + (p * x->k + k) * 2 * LANES);
    }
    const int64_t first = from * 2 * LANES, columns = least(count * 2 * LANES, x->columns - first);
    memset(m->start, 0, (size_t)count * 2 * VECTOR_BYTES);
    if (x->start) memcpy(m->start, (const REAL *)x->start + first, (size_t)columns * sizeof(REAL));
    for (int64_t p = 0; p < count; p++) m->column[p] = (int32_t)(p * 2 * LANES);
}

/* ---- products ---- */

/* The first vector of a panel, by `rows` rows; where there are fewer, the last goes for those that lack. */
static INLINE void NAME(half_tile)(const int rows, int64_t there, int64_t k, const REAL *const *a, const REAL *panel,
                                   const REAL *start, REAL *c) {
    V sum[HALF_ROWS];
    const REAL *row[HALF_ROWS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        row[r] = a[least(r, there - 1)];
        sum[r] = *(const V *)start;
    }
    for (int64_t i = 0; i < k; i++, panel += 2 * LANES) {
        V w = *(const V *)panel;
        LOADED(w);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) sum[r] += row[r][i] * w;
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) *(V *)(c + least(r, there - 1) * 2 * LANES) = sum[r];
}

static void NAME(multiply_half)(const NAME(product) * x) {
    const REAL *panel = (const REAL *)x->weights->panels + x->from * x->weights->k * 2 * LANES;
    for (int64_t r = 0; r < x->rows; r += HALF_ROWS) {
        const int64_t there = x->rows - r;
        REAL *c = x->c + r * 2 * LANES;
        if (there > FEW_HALF_ROWS)
            NAME(half_tile)(HALF_ROWS, there, x->weights->k, x->a + r, panel, x->start, c);
        else
            NAME(half_tile)(FEW_HALF_ROWS, there, x->weights->k, x->a + r, panel, x->start, c);
    }
}

/* Rows from .. from + count of the output, no more than a slice, in the columns of panels that are packed, the first
 * of which is `first`. */
static void NAME(multiply_slice)(const packseq_linear *x, int64_t from, int64_t count, int64_t first, int64_t panels,
                                 const NAME(linear_memory) * m) {
    const packseq_matrix weights = {.panels = m->panels, .column = m->column, .k = x->k};
    const int64_t columns = least(panels * 2 * LANES, x->columns - first);
    const int64_t whole = columns / (2 * LANES), left = columns % (2 * LANES);
    REAL *out = (REAL *)x->out + from * x->columns + first;
    for (int64_t r = 0; r < count; r++) m->a[r] = (const REAL *)x->rows + (from + r) * x->row_stride;
    NAME(product) product = {.weights = &weights, .a = m->a, .rows = count, .start = m->start};
    product.to = whole;
    product.c = out;
    product.c_stride = x->columns;
    NAME(multiply)(&product);
    if (left == 0) return;
    m->column[whole] = 0; /* of the edge */
    product.start += whole * 2 * LANES;
    product.from = whole;
    product.to = panels;
    product.c = m->edge;
    product.c_stride = 2 * LANES;
    left > LANES ? NAME(multiply)(&product) : NAME(multiply_half)(&product);
    out += whole * 2 * LANES;
    for (int64_t r = 0; r < count; r++)
        memcpy(out + r * x->columns, m->edge + r * 2 * LANES, (size_t)left * sizeof(REAL));
}

/* Parts are ranges of rows, of the first group of panels, then of the next. */
static void NAME(linear)(packseq_linear *x, int32_t worker) {
    const uint64_t mode = enter_kernel_mode();
    NAME(linear_memory) m;
    NAME(arrange_linear)(x, x->workspace + worker * x->workspace_stride, &m);
    const int64_t n_panels = blocks_of(x->columns, LANES), slice = NAME(linear_rows)(x->k);
    const int64_t ranges = parts_of(x->n_rows, x->part_rows), parts = ranges * parts_of(n_panels, x->part_panels);
    int64_t part, packed = -1;
    while ((part = __atomic_fetch_add(&x->next, 1, __ATOMIC_RELAXED)) < parts) {
        const int64_t panel = part / ranges * x->part_panels, panels = least(x->part_panels, n_panels - panel);
        const int64_t from = part % ranges * x->part_rows, until = least(x->n_rows, from + x->part_rows);
        if (NAME(has_dots)(x)) {
            if (packed < 0) NAME(pack_dots)(x, m.dots);
            NAME(multiply_dots)(x, from, until, m.dots);
            packed = panel;
            continue;
        }
        if (panel != packed) NAME(pack_panels)(x, panel, panels, &m);
        packed = panel;
        for (int64_t row = from; row < until; row += slice)
            NAME(multiply_slice)(x, row, least(slice, until - row), panel * 2 * LANES, panels, &m);
    }
    leave_kernel_mode(mode);
}
#undef HALF_ROWS
#undef FEW_HALF_ROWS
