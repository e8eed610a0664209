/* Linear layers of so few outputs that rows of vectors would be empty: a number of the output is a dot product.
 *
 * Products go to STRANDS sums, the i-th to strand i % STRANDS, which are joined in halves, and the bias comes last,
 * whatever the rows and the other columns: the same on each instruction set that has FMA.
 */
#if !defined(HAS_VECTOR) || !defined(HAS_TRANSPOSE) || !defined(PACKSEQ_ALONG_H)
#error "dots.h comes after transpose.h and along.h: include isa.h"
#endif

#define STRAND_VECTORS ((int)(STRANDS / LANES))
/* Rows whose sums fit into 16 registers together. */
#define DOT_ROWS (STRAND_VECTORS <= 2 ? 4 : STRAND_VECTORS == 4 ? 2 : 1)

static int NAME(has_dots)(const packseq_linear *x) { return x->columns * (int64_t)sizeof(REAL) <= DOT_PRODUCT_BYTES; }

/* Numbers of a column that is packed: with zeros up to whole strands. */
static int64_t NAME(dot_stride)(int64_t k) { return round_up(k, STRANDS); }

static void NAME(pack_dots)(const packseq_linear *x, REAL *columns) {
    const int64_t stride = NAME(dot_stride)(x->k);
    memset(columns, 0, (size_t)(x->columns * stride) * sizeof(REAL));
    for (int64_t c = 0; c < x->columns; c++) {
        const REAL *w = (const REAL *)x->weight + c * x->column_stride;
        for (int64_t k = 0; k < x->k; k++) columns[c * stride + k] = w[k * x->k_stride];
    }
}

static INLINE void NAME(add_products)(V sum[][STRAND_VECTORS], const REAL *const *a, const REAL *w) {
#pragma GCC unroll 8
    for (int v = 0; v < STRAND_VECTORS; v++) {
        V weight = *(const VU *)(w + v * LANES);
        LOADED(weight);
#pragma GCC unroll 4
        for (int r = 0; r < DOT_ROWS; r++) sum[r][v] += *(const VU *)(a[r] + v * LANES) * weight;
    }
}

/* The strands of DOT_ROWS rows with one column, joined to as many as a vector has. */
static INLINE void NAME(dot_rows)(const REAL *const *row, const REAL *w, int64_t k, V *joined) {
    V sum[DOT_ROWS][STRAND_VECTORS];
    const REAL *a[DOT_ROWS];
    REAL rest[DOT_ROWS][STRANDS] = {{0}};
    const int64_t whole = k - k % STRANDS;
#pragma GCC unroll 4
    for (int r = 0; r < DOT_ROWS; r++)
        for (int v = 0; v < STRAND_VECTORS; v++) sum[r][v] = NAME(splat)(0);
    for (int64_t i = 0; i < whole; i += STRANDS) {
#pragma GCC unroll 4
        for (int r = 0; r < DOT_ROWS; r++) a[r] = row[r] + i;
        NAME(add_products)(sum, a, w + i);
    }
    if (whole < k) {
        for (int r = 0; r < DOT_ROWS; r++) {
            memcpy(rest[r], row[r] + whole, (size_t)(k - whole) * sizeof(REAL));
            a[r] = rest[r];
        }
        NAME(add_products)(sum, a, w + whole);
    }
    for (int r = 0; r < DOT_ROWS; r++) {
#pragma GCC unroll 4
        for (int half = STRAND_VECTORS / 2; half > 0; half /= 2)
            for (int v = 0; v < half; v++) sum[r][v] += sum[r][v + half];
        joined[r] = sum[r][0];
    }
}

/* Rows from .. until of the output. */
static void NAME(multiply_dots)(const packseq_linear *x, int64_t from, int64_t until, const REAL *columns) {
    const int64_t stride = NAME(dot_stride)(x->k);
    for (int64_t first = from; first < until; first += LANES) {
        const int64_t there = least(LANES, until - first);
        for (int64_t c = 0; c < x->columns; c++) {
            const REAL *row[DOT_ROWS];
            V square[LANES];
            for (int64_t r = 0; r < LANES; r += DOT_ROWS) {
                for (int64_t s = 0; s < DOT_ROWS; s++) /* the last goes for those that lack */
                    row[s] = (const REAL *)x->rows + (first + least(r + s, there - 1)) * x->row_stride;
                if (r < there)
                    NAME(dot_rows)(row, columns + c * stride, x->k, square + r);
                else
                    for (int s = 0; s < DOT_ROWS; s++) square[r + s] = NAME(splat)(0);
            }
            NAME(transpose)(square);
#pragma GCC unroll 4
            for (int half = LANES / 2; half > 0; half /= 2)
#pragma GCC unroll 8
                for (int i = 0; i < half; i++) square[i] += square[i + half];
            const REAL start = x->start ? ((const REAL *)x->start)[c] : 0;
            REAL *out = (REAL *)x->out + first * x->columns + c;
            for (int64_t r = 0; r < there; r++) out[r * x->columns] = square[0][r] + start;
        }
    }
}
#undef STRAND_VECTORS
#undef DOT_ROWS
