/* C = start + A W^T, as product.h has it, from weights of fewer bits, and of A rows that are coded first.
 *
 * How rows are coded and multiplied, the format says, in coded_int8.h or coded_bfloat16.h: in all of them
 * panels are [panel][K/GROUP][2][U][GROUP], four bytes for each lane, and a sum passes over the whole of k in one go.
 */
#if !defined(GROUP) || !defined(CODED_ROWS)
#error "product_coded.h comes after a format: include isa.h"
#endif
#define HAS_PRODUCT

typedef struct {
    const packseq_matrix *weights;
    int64_t panel;
    const char *rows; /* coded, */
    int64_t row_bytes;
    const REAL *scales; /* and what each is to be multiplied by */
    const REAL *start;
    int64_t start_stride;
    REAL *c;
    int64_t c_stride;
} NAME(tile_args);

static INLINE void NAME(tile)(const int rows, const int panels, const NAME(tile_args) * t) {
    SUM sum[CODED_ROWS][4][2]; /* rows x panels x 2 of them are used, and stay in registers */
    const packseq_matrix *weights = t->weights;
    const int64_t groups = (weights->k + GROUP - 1) / GROUP, panel_bytes = groups * 2 * VECTOR_BYTES;
    const int32_t *column = weights->column + t->panel;
    const char *w = (const char *)weights->panels + t->panel * panel_bytes;
    const char *x[CODED_ROWS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        x[r] = t->rows + r * t->row_bytes;
#pragma GCC unroll 8
        for (int p = 0; p < panels; p++) {
            const REAL *start = t->start + r * t->start_stride + column[p];
            FOR_EACH(j, 2) {
                const int64_t at = ((t->panel + p) * 2 + j) * LANES;
                sum[r][p][j] = NAME(first_sum)(weights, at, start + j * LANES);
            }
        }
    }
    for (int64_t k = 0; k < groups; k++, w += 2 * VECTOR_BYTES) {
#pragma GCC unroll 8
        for (int p = 0; p < panels; p++) {
            const NAME(w_group) w0 = NAME(load_w)(w + p * panel_bytes);
            const NAME(w_group) w1 = NAME(load_w)(w + p * panel_bytes + VECTOR_BYTES);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++) {
                const NAME(x_group) x_group = NAME(load_x)(x[r] + k * GROUP * X_BYTES);
                NAME(add_dots)(&sum[r][p][0], x_group, w0);
                NAME(add_dots)(&sum[r][p][1], x_group, w1);
            }
        }
    }
    /* To the compiler the results may lie over any of this, so it is read before they are stored: at each number anew,
     * layers of 128 units and fewer took 1.05 to 1.07 times as long. */
    const REAL *const start = t->start, *const scales = t->scales;
    REAL *const c = t->c;
    const int64_t start_stride = t->start_stride, c_stride = t->c_stride;
#pragma GCC unroll 8
    for (int p = 0; p < panels; p++) {
        const int64_t at = column[p];
        V scale[2];
        FOR_EACH(j, 2) scale[j] = NAME(scale_at)(weights, (t->panel + p) * 2 + j);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            FOR_EACH(j, 2) {
                const REAL *from = start + r * start_stride + at + j * LANES;
                *(VU *)(c + r * c_stride + at + j * LANES) = NAME(last_sum)(sum[r][p][j], scale[j], scales[r], from);
            }
        }
    }
}

/* clang-format off */
/* Few rows leave sums waiting for each other, so several panels go at once, where the registers hold them. */
#if CODED_ROWS == 12
#define EACH_TILE(TILE) \
    TILE(1, 1) TILE(1, 4) TILE(2, 1) TILE(2, 3) TILE(3, 1) TILE(3, 2) TILE(4, 1) TILE(4, 2) TILE(5, 1) TILE(5, 2) \
    TILE(6, 1) TILE(6, 2) TILE(7, 1) TILE(8, 1) TILE(9, 1) TILE(10, 1) TILE(11, 1) TILE(12, 1)
static const int8_t NAME(most_panels)[] = {0, 4, 3, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1};
#elif CODED_ROWS == 6
#define EACH_TILE(TILE) \
    TILE(1, 1) TILE(1, 4) TILE(2, 1) TILE(2, 3) TILE(3, 1) TILE(3, 2) TILE(4, 1) TILE(5, 1) TILE(6, 1)
static const int8_t NAME(most_panels)[] = {0, 4, 3, 2, 1, 1, 1};
#elif CODED_ROWS == 4
#define EACH_TILE(TILE) TILE(1, 1) TILE(1, 4) TILE(2, 1) TILE(2, 2) TILE(3, 1) TILE(4, 1)
static const int8_t NAME(most_panels)[] = {0, 4, 2, 1, 1};
#else
#error "tiles are listed for at most 4, 6 or 12 rows"
#endif
/* clang-format on */

#define TILE(rows, panels) \
    static __attribute__((noinline)) void NAME(tile_##rows##x##panels)(const NAME(tile_args) * t) { \
        NAME(tile)(rows, panels, t); \
    }
EACH_TILE(TILE)
#undef TILE

static void (*const NAME(tiles)[CODED_ROWS + 1][5])(const NAME(tile_args) *) = {
#define TILE(rows, panels) [rows][panels] = NAME(tile_##rows##x##panels),
    EACH_TILE(TILE)
#undef TILE
};

static int64_t NAME(panels_at_once)(int64_t rows, int64_t panels_left) {
    const int64_t most = NAME(most_panels)[rows];
    return panels_left >= most ? most : least(1, panels_left);
}

static int64_t NAME(scale_bytes)(int64_t rows) { return round_up(rows * (int64_t)sizeof(REAL), 64); }

static int64_t NAME(coded_bytes)(int64_t rows, int64_t k) {
    return NAME(scale_bytes)(rows) + rows * NAME(coded_row_bytes)(k);
}

/* More rows than one tile has go by TILE_ROWS, where a tile may have so many. */
static int64_t NAME(tiles_of)(int64_t rows) {
    const int64_t each = TILE_ROWS < CODED_ROWS ? TILE_ROWS : CODED_ROWS;
    return rows <= CODED_ROWS ? 1 : (rows + each - 1) / each;
}

static void NAME(multiply)(const NAME(product) * x) {
    const packseq_matrix *w = x->weights;
    const int64_t row_bytes = NAME(coded_row_bytes)(w->k);
    const int64_t n = x->to - x->from, n_tiles = NAME(tiles_of)(x->rows);
    REAL *scales = (REAL *)x->coded;
    char *coded = x->coded + NAME(scale_bytes)(x->rows);
    for (int64_t r = 0; r < x->rows; r++) NAME(code_row)(x->a[r], w->k, coded + r * row_bytes, &scales[r]);
    const int64_t most = (x->rows + n_tiles - 1) / n_tiles; /* rows of a tile: 13 are 7 + 6 */
    for (int64_t done = 0, at_once; done < n; done += at_once) {
        at_once = NAME(panels_at_once)(most, n - done);
        NAME(tile_args) t = {.weights = w, .row_bytes = row_bytes, .start_stride = x->start_stride};
        t.panel = x->last_first ? x->to - done - at_once : x->from + done;
        t.c_stride = x->c_stride;
        for (int64_t row = 0, i = 0; i < n_tiles; i++) {
            const int64_t rows = x->rows / n_tiles + (i < x->rows % n_tiles);
            t.rows = coded + row * row_bytes;
            t.scales = scales + row;
            t.start = x->start + row * x->start_stride;
            t.c = x->c + row * x->c_stride;
            NAME(tiles)[rows][at_once](&t);
            row += rows;
        }
    }
}
#undef EACH_TILE
#undef GROUP
#undef SUM
#undef X_BYTES
#undef CODED_ROWS
