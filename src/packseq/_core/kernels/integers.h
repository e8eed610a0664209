/* Arithmetic of counts. */
#ifndef PACKSEQ_INTEGERS_H
#define PACKSEQ_INTEGERS_H

#include <stdint.h>

static inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline int64_t parts_of(int64_t whole, int64_t part) { return (whole + part - 1) / part; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t greatest(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
