/* C = start + A W^T for a few rows of A, against panels of prepacked weights.
 *
 * Every element is summed over k in one order, one multiply-add after the other, whatever the tile, the block
 * of k and the number of rows: a row's bits do not depend on the rows beside it.
 *
 * This serves the input projection too, where BLAS would do: OpenBLAS 0.3.30 takes 1.38 times as long at 64
 * rows, 1.05 at 256 and 0.95 at 1024 (float32, K 64 to 1024, N = 4 K, one Zen 3 core, medians of pairs), and
 * a projection has about 96 to 1024 rows (see cut.c). BLAS would save at most 2 % of a layer, and its rows change with
 * the batch.
 */

#ifndef HAS_VECTOR
#error "product.h comes after vector.h: include isa.h"
#endif
#define HAS_PRODUCT

#define LINES ((2 * VECTOR_BYTES + 63) / 64) /* of the cache, for one k of a panel */

typedef struct {
    const REAL *const *a; /* row pointers */
    const REAL *panels;   /* of the first panel: [K][2][U] */
    int64_t panel_stride; /* K * 2U */
    const int32_t *column;
    const REAL *start; /* what the sum begins with, and the distance of its rows (0: one row for all) */
    int64_t start_stride;
    REAL *c;
    int64_t c_stride;
    int64_t k_from, until[2]; /* k in two parts, each of which asks for other weights ahead: */
    const char *ahead[2];     /* these at its beginning, */
    int64_t hop;              /* and so far on at each k */
} NAME(tile_args);

static INLINE void NAME(tile)(const int rows, const int panels, const NAME(tile_args) * t) {
    V sum[MAX_ROWS][4][2]; /* rows x panels x 2 of them are used, and stay in registers */
    const REAL *a[MAX_ROWS];
    const REAL *w = t->panels + t->k_from * 2 * LANES;
    const REAL *const volatile *others = t->a;
    const int64_t panel_stride = t->panel_stride, hop = t->hop;
    int64_t k = t->k_from;
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        a[r] = t->a[r];
#pragma GCC unroll 8
        for (int p = 0; p < panels; p++) {
            const REAL *start = t->start + r * t->start_stride + t->column[p];
            sum[r][p][0] = *(const VU *)start;
            sum[r][p][1] = *(const VU *)(start + LANES);
        }
    }
    for (int part = 0; part < 2; part++) {
        const char *ahead = t->ahead[part];
        const int64_t until = t->until[part];
        for (; k < until; k++, w += 2 * LANES) {
#pragma GCC unroll 8
            for (int p = 0; p < panels; p++) {
                if (rows > AHEAD_ROWS) {
                    for (int line = 0; line < LINES; line++)
                        __builtin_prefetch(ahead + p * panel_stride * (int64_t)sizeof(REAL) + line * 64);
                }
                V w0 = *(const V *)(w + p * panel_stride);
                V w1 = *(const V *)(w + p * panel_stride + LANES);
                if (panels == 1 || 2 * rows * panels + rows + 2 <= REGISTERS) {
                    LOADED(w0);
                    LOADED(w1);
                }
#pragma GCC unroll 16
                for (int r = 0; r < rows; r++) {
                    const REAL *row = r < POINTERS_IN_REGISTERS ? a[r] : others[r];
                    sum[r][p][0] += row[k] * w0;
                    sum[r][p][1] += row[k] * w1;
                }
            }
            ahead += hop;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 8
        for (int p = 0; p < panels; p++) {
            REAL *c = t->c + r * t->c_stride + t->column[p];
            *(VU *)c = sum[r][p][0];
            *(VU *)(c + LANES) = sum[r][p][1];
        }
    }
}

#define TILE(rows, panels) \
    static __attribute__((noinline)) void NAME(tile_##rows##x##panels)(const NAME(tile_args) * t) { \
        NAME(tile)(rows, panels, t); \
    }
TILE(1, 1)
TILE(1, 4)
TILE(2, 1)
TILE(2, 3)
TILE(3, 1)
TILE(3, 2)
TILE(4, 1)
TILE(5, 1)
TILE(6, 1)
#if MAX_ROWS == 12
TILE(7, 1)
TILE(8, 1)
TILE(9, 1)
TILE(10, 1)
TILE(11, 1)
TILE(12, 1)
#elif MAX_ROWS != 6
#error "tiles are listed for at most 6 or 12 rows"
#endif
#if MOST_ROWS_OF_TWO >= 4
TILE(4, 2)
#endif
#if MOST_ROWS_OF_TWO == 6
TILE(5, 2)
TILE(6, 2)
#elif MOST_ROWS_OF_TWO > 4
#error "tiles of two panels are listed for at most 3, 4 or 6 rows"
#endif
#undef TILE

static void (*const NAME(tiles)[MAX_ROWS + 1])(const NAME(tile_args) *) = {
    NULL,           NAME(tile_1x1), NAME(tile_2x1), NAME(tile_3x1),  NAME(tile_4x1),  NAME(tile_5x1),  NAME(tile_6x1),
#if MAX_ROWS == 12
    NAME(tile_7x1), NAME(tile_8x1), NAME(tile_9x1), NAME(tile_10x1), NAME(tile_11x1), NAME(tile_12x1),
#endif
};

static void (*const NAME(tiles_of_two)[])(const NAME(tile_args) *) = {
    [3] = NAME(tile_3x2),
#if MOST_ROWS_OF_TWO >= 4
    [4] = NAME(tile_4x2),
#endif
#if MOST_ROWS_OF_TWO == 6
    [5] = NAME(tile_5x2),
    [6] = NAME(tile_6x2),
#endif
};

/* Few rows leave multiply-adds waiting for each other, so several panels go at once. */
static int64_t NAME(panels_at_once)(int64_t rows, int64_t panels_left) {
    const int in_tiles_of_two = rows > MAX_ROWS && TILE_ROWS <= MOST_ROWS_OF_TWO;
    if (rows == 1 && panels_left >= 4) return 4;
    if (rows == 2 && panels_left >= 3) return 3;
    if (rows >= 3 && (rows <= MOST_ROWS_OF_TWO || in_tiles_of_two) && panels_left >= 2) return 2;
    return 1;
}

static void NAME(call_tile)(int64_t rows, int64_t panels, const NAME(tile_args) * t) {
    switch (panels) {
    case 4:
        NAME(tile_1x4)(t);
        break;
    case 3:
        NAME(tile_2x3)(t);
        break;
    case 2:
        NAME(tiles_of_two)[rows](t);
        break;
    default:
        NAME(tiles)[rows](t);
    }
}

static int64_t NAME(coded_bytes)(int64_t rows, int64_t k) {
    (void)rows, (void)k;
    return 0;
}

/* One group of panels; the panel `next` comes after it. */
static void NAME(multiply_panels)(const NAME(product) * x, int64_t panel, int64_t at_once, int64_t next) {
    const packseq_matrix *w = x->weights;
    const int64_t n_tiles = x->rows <= MAX_ROWS ? 1 : (x->rows + TILE_ROWS - 1) / TILE_ROWS, k_bytes = 2 * VECTOR_BYTES;
    const int64_t k_block = n_tiles == 1 ? w->k : K_BLOCK;
    const char *own = (const char *)w->panels + panel * w->k * k_bytes;
    const char *others = (const char *)w->panels + next * w->k * k_bytes;
    NAME(tile_args) t = {.panels = (const REAL *)own, .panel_stride = w->k * 2 * LANES};
    t.column = w->column + panel;
    t.c_stride = x->c_stride;
    t.hop = k_bytes / n_tiles;
    for (int64_t k = 0; k < w->k; k += k_block) {
        const int64_t k_to = least(k + k_block, w->k);
        t.k_from = k;
        t.until[0] = n_tiles == 1 ? greatest(0, w->k - AHEAD) : k_to;
        t.until[1] = k_to;
        int64_t row = 0;
        for (int64_t i = 0; i < n_tiles; i++) {
            const int64_t rows = x->rows / n_tiles + (i < x->rows % n_tiles); /* 7 rows are 4 + 3, not 6 + 1 */
            const char *following = k_to < w->k ? own + k_to * k_bytes : others;
            t.a = x->a + row;
            t.c = x->c + row * x->c_stride;
            t.start = k ? t.c : x->start + row * x->start_stride;
            t.start_stride = k ? x->c_stride : x->start_stride;
            t.ahead[0] = n_tiles == 1 ? own + AHEAD * k_bytes : following + i * (k_to - k) * t.hop;
            t.ahead[1] = others;
            NAME(call_tile)(rows, at_once, &t);
            row += rows;
        }
    }
}

static void NAME(multiply)(const NAME(product) * x) {
    const int64_t n = x->to - x->from;
    int64_t at_once = NAME(panels_at_once)(x->rows, n);
    for (int64_t done = 0; done < n;) {
        const int64_t panel = x->last_first ? x->to - done - at_once : x->from + done;
        done += at_once;
        const int64_t then = least(n - done, NAME(panels_at_once)(x->rows, n - done));
        const int64_t next = x->last_first ? x->to - done - then : x->from + done - (then == 0);
        NAME(multiply_panels)(x, panel, at_once, next);
        at_once = then;
    }
}
#undef LINES
