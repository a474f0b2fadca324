/*
 * report/claims.h - the talk's claims, each judged from the records of a sweep by a stated rule.
 *
 * The unit is a seed: a statistic is computed for each seed over all its widths, and the verdict
 * looks at its mean's interval, or its range, over the seeds. Nothing is decided beforehand: a
 * sweep without the records that a claim speaks of, or with too few seeds for its rule, does not
 * test it.
 */
#ifndef LIPS_REPORT_CLAIMS_H
#define LIPS_REPORT_CLAIMS_H

#include "report/claim_stats.h"
#include "report/figure.h"

typedef enum lips_verdict { LIPS_NOT_TESTED, LIPS_NOT_SUPPORTED, LIPS_SUPPORTED } lips_verdict;

struct lips_claim_row;
struct lips_claim_data;

typedef struct lips_claim {
    const char *id;        /* "smoothness-mirrors" */
    const char *text;      /* what is claimed */
    const char *statistic; /* of one seed */
    const char *rule;      /* from the statistics to the verdict */
    const char *figure;    /* row of the table of figures */
    lips_status (*judge)(struct lips_claim_row *row, const struct lips_claim_data *d);
} lips_claim;

enum { LIPS_CLAIMS = 8 };
extern const lips_claim lips_claim_table[LIPS_CLAIMS];

typedef struct lips_claim_row {
    const lips_claim *claim;
    int number, variant;
    lips_verdict verdict;
    char numbers[1000]; /* behind the verdict; of a claim that is not tested: why */
} lips_claim_row;

typedef struct lips_claims {
    lips_claim_row *row; /* by variant, then by claim */
    int n;
} lips_claims;

lips_status lips_claims_judge(lips_claims *out, const lips_report *r);
void lips_claims_free(lips_claims *c);
const char *lips_verdict_name(lips_verdict v);

/* OUT/report/claims.csv */
lips_status lips_claims_csv(const lips_claims *c, const lips_report *r, const char *path);
/* The page's section; figures: what the rows link to. */
void lips_html_claims(FILE *f, const lips_claims *c, const lips_report *r,
                      const lips_figure_list *figures);

/* ---- for judge functions (claim_data.c) ---- */

/* The finished cells of a variant as a table: seeds down, places across. */
typedef struct lips_claim_data {
    const lips_report *r;
    int variant, n_x;
    int64_t n_seeds;
    const lips_report_cell **cell; /* (n_seeds, n_x); NULL: not finished */
    double *number;                /* (n_seeds, n_x): what lips_claim_load read last */
    double *of_seed;               /* (3, n_seeds): room for statistics */
} lips_claim_data;

/* Fills d->number; NaN where there is no number. Returns how many there are. */
int64_t lips_claim_load(const lips_claim_data *d, const lips_pick *p);
/* The last record of p in a cell; NULL: none. */
const lips_record *lips_claim_record(const lips_claim_data *d, const lips_pick *p, int64_t seed,
                                     int x);
/* Did this cell reach the interpolation tolerance? */
bool lips_claim_interpolates(const lips_claim_data *d, int64_t seed, int x);
/* Sets d->number to NaN where a cell did not interpolate. */
void lips_claim_keep_interpolating(const lips_claim_data *d);
/* More text for the row's numbers. */
__attribute__((format(printf, 2, 3))) void lips_claim_say(lips_claim_row *row, const char *fmt,
                                                          ...);
/* "NAME 0.8 [0.7, 0.9], seeds 0.75 to 0.88; " */
void lips_claim_say_interval(lips_claim_row *row, const char *name, const lips_interval *s);
/* Sets the verdict to not tested and its reason as the first of the numbers. */
lips_status lips_claim_untested(lips_claim_row *row, const char *why);

#endif
