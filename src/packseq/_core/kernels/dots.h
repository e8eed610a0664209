/* Linear layers of so few outputs that rows of vectors would be empty: a number of the output is a dot product.
 *
 * Products go to STRANDS sums, the i-th to strand i % STRANDS, which are joined in halves, and the bias comes last,
 * whatever the rows and the other columns: the same on each instruction set that has FMA.
 */
#if !defined(HAS_VECTOR) || !defined(HAS_TRANSPOSE) || !defined(PACKSEQ_ALONG_H)
#error "dots.h comes after transpose.h and along.h: include isa.h"
#endif

#define STRAND_VECTORS ((int)(STRANDS / LANES))
/* Rows whose sums with one column fit into 16 registers, and columns with which they fit into 32. A vector of a row is
 * loaded once for all of these: 256 to 4, 512 rows, AVX-512, takes 14.5 microseconds in place of 19.6 (Zen 4). */
#define DOT_ROWS (STRAND_VECTORS <= 2 ? 4 : STRAND_VECTORS == 4 ? 2 : 1)
#define DOT_COLUMNS (STRAND_VECTORS == 1 && REGISTERS == 32 ? 4 : STRAND_VECTORS == 2 && REGISTERS == 32 ? 2 : 1)

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

/* Sums of so many columns, of DOT_ROWS rows each. */
typedef V NAME(dot_sums)[DOT_COLUMNS][DOT_ROWS][STRAND_VECTORS];

static INLINE void NAME(add_products)(const int columns, NAME(dot_sums) sum, const REAL *const *a, const REAL *w,
                                      int64_t stride) {
#pragma GCC unroll 4
    for (int c = 0; c < columns; c++) {
#pragma GCC unroll 8
        for (int v = 0; v < STRAND_VECTORS; v++) {
            V weight = *(const VU *)(w + c * stride + v * LANES);
            LOADED(weight);
#pragma GCC unroll 4
            for (int r = 0; r < DOT_ROWS; r++) sum[c][r][v] += *(const VU *)(a[r] + v * LANES) * weight;
        }
    }
}

/* The strands of DOT_ROWS rows with some columns, joined to as many as a vector has. */
static INLINE void NAME(dot_rows)(const int columns, const REAL *const *row, const REAL *w, int64_t k,
                                  V joined[][LANES]) {
    NAME(dot_sums) sum;
    const REAL *a[DOT_ROWS];
    REAL rest[DOT_ROWS][STRANDS] = {{0}};
    const int64_t whole = k - k % STRANDS, stride = NAME(dot_stride)(k);
#pragma GCC unroll 4
    for (int c = 0; c < columns; c++)
#pragma GCC unroll 4
        for (int r = 0; r < DOT_ROWS; r++)
            for (int v = 0; v < STRAND_VECTORS; v++) sum[c][r][v] = NAME(splat)(0);
    for (int64_t i = 0; i < whole; i += STRANDS) {
#pragma GCC unroll 4
        for (int r = 0; r < DOT_ROWS; r++) a[r] = row[r] + i;
        NAME(add_products)(columns, sum, a, w + i, stride);
    }
    if (whole < k) {
        for (int r = 0; r < DOT_ROWS; r++) {
            memcpy(rest[r], row[r] + whole, (size_t)(k - whole) * sizeof(REAL));
            a[r] = rest[r];
        }
        NAME(add_products)(columns, sum, a, w + whole, stride);
    }
#pragma GCC unroll 4
    for (int c = 0; c < columns; c++)
#pragma GCC unroll 4
        for (int r = 0; r < DOT_ROWS; r++) {
#pragma GCC unroll 4
            for (int half = STRAND_VECTORS / 2; half > 0; half /= 2)
                for (int v = 0; v < half; v++) sum[c][r][v] += sum[c][r][v + half];
            joined[c][r] = sum[c][r][0];
        }
}

/* Rows from .. until of the output, in some of its columns, of which `column` is the first. */
static INLINE void NAME(multiply_columns)(const int columns, const packseq_linear *x, int64_t from, int64_t until,
                                          int64_t column, const REAL *w) {
    for (int64_t first = from; first < until; first += LANES) {
        const int64_t there = least(LANES, until - first);
        V square[DOT_COLUMNS][LANES];
        for (int64_t r = 0; r < LANES; r += DOT_ROWS) {
            const REAL *row[DOT_ROWS];
            for (int64_t s = 0; s < DOT_ROWS; s++) /* the last goes for those that lack */
                row[s] = (const REAL *)x->rows + (first + least(r + s, there - 1)) * x->row_stride;
            /* Copied after that: written in place, 256 to 1 takes 1.07 to 1.1 times as long (GCC 12, Zen 4). */
            V joined[DOT_COLUMNS][LANES];
            if (r < there) NAME(dot_rows)(columns, row, w, x->k, joined);
            for (int c = 0; c < columns; c++)
                for (int s = 0; s < DOT_ROWS; s++) square[c][r + s] = r < there ? joined[c][s] : NAME(splat)(0);
        }
        for (int c = 0; c < columns; c++) {
            const V sums = NAME(sums_of_rows)(square[c]);
            const REAL start = x->start ? ((const REAL *)x->start)[column + c] : 0;
            REAL *out = (REAL *)x->out + first * x->columns + column + c;
            for (int64_t r = 0; r < there; r++) out[r * x->columns] = sums[r] + start;
        }
    }
}

/* Rows from .. until of the output. */
static void NAME(multiply_dots)(const packseq_linear *x, int64_t from, int64_t until, const REAL *packed) {
    const int64_t stride = NAME(dot_stride)(x->k);
    int64_t c = 0;
    for (; c + DOT_COLUMNS <= x->columns; c += DOT_COLUMNS)
        NAME(multiply_columns)(DOT_COLUMNS, x, from, until, c, packed + c * stride);
    for (; c < x->columns; c++) NAME(multiply_columns)(1, x, from, until, c, packed + c * stride);
}
#undef STRAND_VECTORS
#undef DOT_ROWS
#undef DOT_COLUMNS
