/* measure/subset.h - which samples of a split are measured: the same for a sweep's cell and for
 * `lipsweep measure`. */
#ifndef LIPS_MEASURE_SUBSET_H
#define LIPS_MEASURE_SUBSET_H

#include "base/status.h"

#include <stdint.h>

/* *index = the first `wanted` of a permutation of 0..n-1 drawn by seed, in rising order (rows near
 * each other in memory), malloc'ed; NULL if all are measured (wanted 0 or at least n). *count =
 * samples measured. */
lips_status lips_measure_subset(int64_t **index, int64_t *count, int64_t n, int64_t wanted,
                                uint64_t seed);

#endif
