/* report/claim_stats.h - the statistics that verdicts on claims are made of. */
#ifndef LIPS_REPORT_CLAIM_STATS_H
#define LIPS_REPORT_CLAIM_STATS_H

#include <stdint.h>

/* Spearman's rank correlation of the pairs that are finite, with mean ranks for ties. NaN: fewer
 * than `least` pairs, or all x or all y the same; or no memory. */
double lips_rank_correlation(const double *x, const double *y, int64_t n, int64_t least);

/* Least-squares slope of log y on log x over the pairs that are finite and positive; NaN as above.
 */
double lips_log_slope(const double *x, const double *y, int64_t n, int64_t least);

/* Over seeds: mean, range and the 95 % interval of the mean by Student's t. */
typedef struct lips_interval {
    int64_t n;             /* numbers that are finite */
    double mean, min, max; /* NaN for n = 0 */
    double lo, hi;         /* NaN for n < 2 */
} lips_interval;
lips_interval lips_interval_of(const double *v, int64_t n);

/* How far curve v rises to a peak between two lower places: the smaller of its two sides. The three
 * places are chosen on `guide`, so that with other data there the noise of v does not make a peak;
 * *peak = the place. NaN: guide has no peak (none of its places lies above one on each side), or v
 * is not finite where it is asked. */
double lips_prominence(const double *v, const double *guide, int64_t n, int64_t *peak);

#endif
