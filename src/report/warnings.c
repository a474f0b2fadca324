/* report/warnings.c - what a reader must know before believing a figure. */
#include "report/stats.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LISTED = 20 }; /* cells named one by one */

lips_status lips_report_warn(lips_report *r, const char *fmt, ...)
{
    lips_warning_list *w = &r->warnings;
    if (w->n == w->cap) {
        int cap = w->cap ? 2 * w->cap : 16;
        char **more = realloc(w->text, (size_t)cap * sizeof *more);
        if (!more)
            return lips_fail(LIPS_ERR_MEMORY, "out of memory for a report's warnings");
        w->text = more;
        w->cap = cap;
    }
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&w->text[w->n], fmt, ap);
    va_end(ap);
    if (n < 0)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a report's warnings");
    w->n++;
    return LIPS_OK;
}

static bool is_waiting(const lips_report_cell *c)
{
    return c->state == LIPS_CELL_WAITING;
}

static int64_t count(const lips_report *r, bool (*is)(const lips_report_cell *))
{
    int64_t n = 0;
    for (int64_t i = 0; i < r->n_cells; i++)
        n += is(&r->cells[i]);
    return n;
}

static lips_status warn_unfinished(lips_report *r)
{
    int64_t waiting = count(r, is_waiting);
    if (r->n_cells == 0)
        return lips_report_warn(r, "The sweep has no cells: one of its lists is empty.");
    if (waiting == 0)
        return LIPS_OK;
    return lips_report_warn(r,
                            "The sweep is unfinished: %" PRId64 " of %" PRId64
                            " cells have not ended. Figures over %s show finished cells only.",
                            waiting, r->n_cells, r->x_name);
}

static bool is_damaged(const lips_report_cell *c)
{
    return c->damaged;
}

static bool is_failed(const lips_report_cell *c)
{
    return c->state == LIPS_CELL_FAILED && !c->damaged;
}

/* One line per cell, up to LISTED, and one for the rest. */
static lips_status warn_cells(lips_report *r, bool (*is)(const lips_report_cell *),
                              const char *what)
{
    int64_t n = count(r, is), listed = 0;
    for (int64_t i = 0; i < r->n_cells && listed < LISTED; i++) {
        const lips_report_cell *c = &r->cells[i];
        if (!is(c))
            continue;
        listed++;
        LIPS_TRY(lips_report_warn(r, "Cell %s %s%s%s: %s", c->name, what, c->reason ? ", " : "",
                                  c->reason ? c->reason : "", c->message ? c->message : "?"));
    }
    if (n > listed)
        return lips_report_warn(r, "%" PRId64 " more cells %s; see the table of cells.", n - listed,
                                what);
    return LIPS_OK;
}

static lips_status warn_not_finite(lips_report *r)
{
    int64_t cells = 0, records = 0;
    const lips_record *first = NULL;
    const lips_report_cell *where = NULL;
    for (int64_t i = 0; i < r->n_cells; i++) {
        const lips_report_cell *c = &r->cells[i];
        int64_t before = records;
        for (int64_t k = c->first; k < c->first + c->count; k++) {
            if (lips_record_finite(&r->records[k]))
                continue;
            if (records++ == 0) {
                first = &r->records[k];
                where = c;
            }
        }
        cells += records > before;
    }
    if (records == 0)
        return LIPS_OK;
    return lips_report_warn(r,
                            "%" PRId64 " records of %" PRId64
                            " cells are not finite (the first: %s, "
                            "epoch %" PRId64 ", %s). They are in the tables and left out of means.",
                            records, cells, first->quantity, first->epoch, where->name);
}

/* The places of one variant where a finished network never interpolated. */
static lips_status warn_never(lips_report *r, int variant)
{
    const lips_pick p = {.quantity = "interpolation_epoch", .epoch = LIPS_LATEST};
    int64_t never = 0, known = 0;
    double least = NAN, most = NAN;
    for (int64_t i = 0; i < r->n_cells; i++) {
        const lips_report_cell *c = &r->cells[i];
        if (c->state != LIPS_CELL_DONE || c->variant != variant)
            continue;
        const lips_record *rec = lips_report_find(r, c, &p);
        /* Regression has no 0/1 error, so nothing that could be reached. */
        if (!rec || r->experiment.base.data == LIPS_DATA_SINE)
            continue;
        known++;
        if (rec->form != LIPS_FORM_NULL)
            continue;
        never++;
        least = !(r->x[c->x] >= least) ? r->x[c->x] : least;
        most = !(r->x[c->x] <= most) ? r->x[c->x] : most;
    }
    if (never == 0)
        return LIPS_OK;
    const char *label = r->variants[variant].label;
    return lips_report_warn(r,
                            "%s%s%" PRId64 " of %" PRId64
                            " finished networks never interpolated (%s %g"
                            " to %g): their train error stayed above %g.",
                            label, label[0] ? ": " : "", never, known, r->x_name, least, most,
                            r->experiment.base.interpolation_tol);
}

lips_status lips_report_add_warnings(lips_report *r)
{
    LIPS_TRY(warn_unfinished(r));
    LIPS_TRY(warn_cells(r, is_failed, "failed"));
    LIPS_TRY(warn_cells(r, is_damaged, "is left out, its metrics.jsonl is damaged"));
    LIPS_TRY(warn_not_finite(r));
    for (int v = 0; v < r->n_variants && r->n_cells > 0; v++)
        LIPS_TRY(warn_never(r, v));
    if (r->replicates == 1 && r->n_cells > 0)
        LIPS_TRY(lips_report_warn(r, "One seed only: the figures show no spread, and a bump may be "
                                     "chance."));
    return LIPS_OK;
}
