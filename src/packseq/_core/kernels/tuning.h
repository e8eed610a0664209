/* Every number that was tuned, and what was measured for it, but for those of one instruction set (tiles, in its own
 * file and in isa.h). Any of them may be wrong about a machine, and none of them about a result.
 */
#ifndef PACKSEQ_TUNING_H
#define PACKSEQ_TUNING_H

/* ---- how long a call takes, and so who may help with it ---- */

/* One thread's speed in float32 with vectors of 32 bytes, in operations a microsecond; Zen 3's. */
#define FLOPS_PER_MICROSECOND 90e3
/* A small call is done before another thread has woken up: only those that are awake take part. A tiny one is done
 * before another, awake, has heard of it. */
#define SMALL_MICROSECONDS 90
#define TINY_MICROSECONDS 3.5

/* ---- what a step costs ---- */

/* A step of m rows takes as long as one of greatest(m, least_rows), since the weights must pass in any case: L2_ROWS
 * where they come from L2, and up to L3_ROWS where they come from L3, with vectors of 32 bytes; twice as fast
 * arithmetic waits twice as long.
 *
 *                    | reads L3 at, GB/s           | a product of many rows, Gflop/s
 *     Emerald Rapids | 27                          | 165
 *     Zen 3          | 72 of 8 MB, 30 of 38 MB     | 90
 */
#define L2_ROWS 3
#define L3_ROWS 5
/* What stays in L2 from one step to the next, which begins with the weights that the one before ended with (Emerald
 * Rapids, 3 and 4 MB of weights); and how large L2 is, where the system does not say. */
#define L2_PART 0.65
#define USUAL_L2_BYTES (1 << 19)

/* What a barrier costs, and that a step waits for the slower of two threads, in operations of one core: 1.5
 * microseconds with vectors of up to 32 bytes, and more with longer ones. How long a team of two takes, where two
 * shards take 1:
 *
 *     Zen 3, 4 sequences                     | LSTM 128: 1 to 1.4 | LSTM 256: 0.95        | LSTM 512: 0.91
 *     Emerald Rapids, 8 sequences, at 1.5e5  | GRU 128: 1.1       | RNN 256 to 512: 1.15  |
 */
#define BARRIER_FLOPS 1.5e5
#define BARRIER_FLOPS_LONG 2.4e5
/* A team must gain so much over shards to be made, and more shards over fewer. */
#define GAIN_PART 0.95

/* ---- how much goes at a time ---- */

/* Sequences of one shard, whose h, c and gates should stay in L2 between steps, and gate rows projected at a time,
 * about. Both are flat:
 *
 *     half or twice of each                    | within 3 % (Zen 3; H 64 to 1024, 8 to 1024 sequences)
 *                                              | within 1 % (Emerald Rapids)
 *     shards of 256 rows and blocks of 4 MiB   | cost 4 %
 */
#define SHARD_BYTES (1 << 16)
#define LEAST_SHARD_SEQUENCES 30
#define MOST_SHARD_SEQUENCES 256
#define BLOCK_BYTES (1 << 18)
#define LEAST_BLOCK_ROWS 96
#define MOST_BLOCK_ROWS 1024
/* What all workers together may take for gates and states, and */
#define ROWS_BYTES (24 << 20)
/* what they may keep of every other layer's output; one sequence may need more. */
#define SPILL_BYTES (32 << 20)
/* Input rows that pass all panels of W_ih together, which L2 should keep. */
#define SLICE_BYTES (1 << 18)
/* Padding is cleared in parts of so much, each by whoever is there. */
#define CLEAR_BYTES (1 << 17)

/* ---- linear layers ---- */

/* Weights that are packed at a time, which L2 should keep beside a slice of rows: half or twice of it are within the
 * scatter (Zen 4, K 256 and 512). */
#define GROUP_BYTES (1 << 18)
/* Where there are so many rows for each worker, they are cut, and each packs all weights for itself. If only panels
 * were cut, all rows would pass once for each of a worker's groups. In Gflop/s of two threads:
 *
 *     in, out, rows            | 256, 256, 512 | 512, 2048, 512 | 256, 256, 4096 | 512, 2048, 2048
 *     rows cut, 64 or 256 each |    207        |    190         |    185         |     204
 *     panels cut               |    170        |    170         |    140         |     172
 */
#define ROWS_THAT_PAY_PACKING 256
/* Within the scatter from 4 on; 2 cost up to 5 %, where one worker comes late. */
#define PARTS_OF_A_WORKER 4
/* What it takes to pack a number of the weights, in operations: 0.2 ns at 90 Gflop/s (Zen 4). */
#define PACKING_FLOPS 16

/* Where a row of the output is no longer, each of its numbers is a dot product of its own. Microseconds for 64 rows of
 * 256, on AVX-512 (Zen 4), as dot products and by half a panel: float32 1 column 1.4 and 6.6, 4 columns 3.8 and 6.6;
 * float64 2 columns 5.2 and 6.1, 4 columns 7.5 and 6.1. */
#define DOT_PRODUCT_BYTES 16

/* ---- inside a product ---- */

/* How much of a panel goes at a time, to stay in L2 while all row tiles pass over it. (16 KiB, which would stay in L1,
 * cost 3 to 5 % from K 320 on: every block reads and writes C once more. On AVX-512 16 KiB gain as much while another
 * tenant has the core's other hardware thread, and lose as much otherwise.) */
#define PANEL_BYTES (1 << 17)

/* Weights that stream from L3 are asked for ahead of their use, where the rows are more than AHEAD_ROWS. A single tile
 * asks AHEAD k before, and at a panel's end for the next panel; several tiles over a block of k ask for the next block,
 * a share each. In Gflop/s:
 *
 *     one Zen 3 core, K 1536             | 8 rows | 12 rows
 *     without                            |     49 |      55
 *     AHEAD                              |     58 |      70
 *     AHEAD, and for the next panel      |     72 |      87
 *
 *     one Zen 3 core, K 1024, AHEAD of   |     32 |      64 |     96
 *     4 rows                             |     66 |      76 |     72
 *     5 rows                             |     73 |      83 |     83
 *
 *     AVX-512, weights in L2             |  1 row |  3 rows
 *     without                            |     64 |     157
 *     with, though they wait in any case |     56 |     145
 */
#define AHEAD 64
#define AHEAD_ROWS 3

/* ---- threads that wait ---- */

/* How long a worker looks for the next round before it sleeps: being woken takes about as long. The caller looks
 * longer for the last worker's end, by a part of the time that it has worked itself: it is near. */
#define SPIN_NANOSECONDS 100000
#define SPIN_PART 4
/* So many small calls, each within a worker's spin of the one before, are taken for a stream of them: to wake the
 * workers costs the caller 3 to 5 microseconds, about half of the shortest call that is shared. */
#define STREAM 8

/* ---- threads that other work holds up ---- */

/* Linux lets a thread run for 3 to 10 ms at a time. Who is off its processor for longer than this has lost it to
 * another thread: interrupts take less, and a worker wakes up in less. */
#define LATE_NANOSECONDS 100000
/* One waits for a worker, beyond its patience, for a fourth of the time that the call has taken or, before it begins,
 * is expected to take: what is left of a long call takes the longer with fewer. */
#define PATIENT_PART 4
/* A virtual machine's processors are away for 2 % of the time when all else is quiet. Where workers are for this part
 * of the time that they have lately worked together, */
#define WAITED_PART 3
#define LATELY_NANOSECONDS 50000000
/* calls do without them for so many times what was lost; */
#define APART 32
/* at most for so long. */
#define MOST_APART_NANOSECONDS 1000000000
/* How long the set of processors that the process may use is believed. */
#define LOOK_NANOSECONDS 1000000

#endif
