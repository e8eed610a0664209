"""What kernels/along.h makes of one row, in plain loops: the order of its sums, and its extremes.

Nothing of NumPy's own sums is in it. A row's numbers are dealt out to 16 strands, the i-th to
strand i % 16; each strand adds up eight of its numbers as a tree in their own precision, where
there are eight for every strand, and then in float64; at last the second half of the strands is
added to the first, until one is left.
"""

import numpy as np

STRANDS = 16


def total(row):
    """The sum of a row, (K,) of float32 or float64."""
    strands = [np.float64(0)] * STRANDS
    whole = len(row) - len(row) % (8 * STRANDS)
    for start in range(0, whole, 8 * STRANDS):
        for k in range(STRANDS):
            strands[k] += np.float64(tree(row[start + k : start + 8 * STRANDS : STRANDS]))
    for i in range(whole, len(row)):
        strands[i % STRANDS] += np.float64(row[i])
    return row.dtype.type(tree_of_halves(strands))


def tree(x):
    """Eight numbers, neighbours first."""
    return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]))


def tree_of_halves(numbers):
    while len(numbers) > 1:
        half = len(numbers) // 2
        numbers = [numbers[k] + numbers[k + half] for k in range(half)]
    return numbers[0]


def running_totals(row):
    """The sum of all numbers up to each, kept in float64."""
    sums, so_far = np.empty_like(row), np.float64(0)
    for i, x in enumerate(row):
        so_far += np.float64(x)
        sums[i] = so_far
    return sums
