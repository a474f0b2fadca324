/* report/stats.h - numbers out of a lips_report: lookups, and spreads over replicates. */
#ifndef LIPS_REPORT_STATS_H
#define LIPS_REPORT_STATS_H

#include "report/model.h"

enum { LIPS_LATEST = -1 };

typedef enum lips_stat { LIPS_STAT_MEAN, LIPS_STAT_MAX } lips_stat;

/* Which record: NULL and 0 mean that it has none, except split, where NULL means any. */
typedef struct lips_pick {
    const char *quantity, *norm, *output, *split;
    int layer, rank;
    int64_t epoch;  /* LIPS_LATEST: the cell's last one of this quantity */
    lips_stat stat; /* which number of a record that has statistics */
} lips_pick;

/* NULL if the cell has no such record. */
const lips_record *lips_report_find(const lips_report *r, const lips_report_cell *c,
                                    const lips_pick *p);
bool lips_pick_matches(const lips_pick *p, const lips_record *rec); /* whatever the epoch */
/* The value, or the mean over samples; NaN for a null. */
double lips_record_number(const lips_record *rec);
/* The same, but the statistic that p asks for. */
double lips_pick_number(const lips_pick *p, const lips_record *rec);
/* Is every number in it finite? (true for a null) */
bool lips_record_finite(const lips_record *rec);

/* Over the finished replicates at a place. Numbers that are not finite are left out and counted. */
typedef struct lips_spread {
    int n, left_out;
    double mean, sd, min, max; /* NaN where n = 0; sd: n - 1 in the denominator, NaN for n < 2 */
} lips_spread;
lips_spread lips_report_spread(const lips_report *r, const lips_pick *p, int variant, int x);

/* Is there any finite number of p in a finished cell of the variant (-1: of any)? */
bool lips_report_has(const lips_report *r, const lips_pick *p, int variant);

/* The interpolation threshold of a variant: to the first place where all replicates interpolate,
 * from the last one below it where none does. false: there are no two such places. */
bool lips_report_threshold(const lips_report *r, int variant, double *from, double *to);

/* Largest layer number that a record of quantity has; *name of layer l by lips_report_layer_name.
 */
int lips_report_layers(const lips_report *r, const char *quantity, int variant);
const char *lips_report_layer_name(const lips_report *r, const char *quantity, int variant,
                                   int layer);

#endif
