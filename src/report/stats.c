#include "report/stats.h"

#include <math.h>
#include <string.h>

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool lips_pick_matches(const lips_pick *p, const lips_record *rec)
{
    return strcmp(p->quantity, rec->quantity) == 0 && same_text(p->norm, rec->norm) &&
           same_text(p->output, rec->output) && p->layer == rec->layer && p->rank == rec->rank &&
           (!p->split || same_text(p->split, rec->split));
}

const lips_record *lips_report_find(const lips_report *r, const lips_report_cell *c,
                                    const lips_pick *p)
{
    /* Backwards: epochs only grow, and most questions are about the last one. */
    for (int64_t i = c->first + c->count - 1; i >= c->first; i--) {
        const lips_record *rec = &r->records[i];
        if ((p->epoch == LIPS_LATEST || rec->epoch == p->epoch) && lips_pick_matches(p, rec))
            return rec;
    }
    return NULL;
}

double lips_record_number(const lips_record *rec)
{
    switch (rec->form) {
    case LIPS_FORM_VALUE: return rec->value;
    case LIPS_FORM_STATS: return rec->mean;
    case LIPS_FORM_NULL: break;
    }
    return NAN;
}

double lips_pick_number(const lips_pick *p, const lips_record *rec)
{
    if (rec->form == LIPS_FORM_STATS && p->stat == LIPS_STAT_MAX)
        return rec->max;
    return lips_record_number(rec);
}

bool lips_record_finite(const lips_record *rec)
{
    switch (rec->form) {
    case LIPS_FORM_VALUE: return isfinite(rec->value);
    case LIPS_FORM_STATS:
        return isfinite(rec->mean) && isfinite(rec->std_err) && isfinite(rec->min) &&
               isfinite(rec->median) && isfinite(rec->q90) && isfinite(rec->max);
    case LIPS_FORM_NULL: break;
    }
    return true;
}

static bool is_at(const lips_report_cell *c, int variant, int x)
{
    return c->state == LIPS_CELL_DONE && !c->damaged && c->variant == variant && c->x == x;
}

lips_spread lips_report_spread(const lips_report *r, const lips_pick *p, int variant, int x)
{
    lips_spread s = {.mean = NAN, .sd = NAN, .min = NAN, .max = NAN};
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < r->n_cells; i++) {
        const lips_record *rec =
            is_at(&r->cells[i], variant, x) ? lips_report_find(r, &r->cells[i], p) : NULL;
        if (!rec || rec->form == LIPS_FORM_NULL)
            continue;
        double v = lips_pick_number(p, rec);
        if (!isfinite(v)) {
            s.left_out++;
            continue;
        }
        s.min = s.n == 0 || v < s.min ? v : s.min;
        s.max = s.n == 0 || v > s.max ? v : s.max;
        s.n++;
        /* Welford's update: no cancellation where the spread is small beside the mean. */
        double off = v - sum;
        sum += off / s.n;
        squares += off * (v - sum);
    }
    if (s.n > 0)
        s.mean = sum;
    if (s.n > 1)
        s.sd = sqrt(squares / (s.n - 1));
    return s;
}

bool lips_report_has(const lips_report *r, const lips_pick *p, int variant)
{
    for (int64_t i = 0; i < r->n_cells; i++) {
        const lips_report_cell *c = &r->cells[i];
        if (c->state != LIPS_CELL_DONE || (variant >= 0 && c->variant != variant))
            continue;
        const lips_record *rec = lips_report_find(r, c, p);
        if (rec && isfinite(lips_pick_number(p, rec)))
            return true;
    }
    return false;
}

/* Of the finished cells at a place: how many, and how many of them reached interpolation. */
static void count_interpolated(const lips_report *r, int variant, int x, int *n, int *reached)
{
    const lips_pick p = {.quantity = "interpolation_epoch", .epoch = LIPS_LATEST};
    *n = *reached = 0;
    for (int64_t i = 0; i < r->n_cells; i++) {
        const lips_record *rec =
            is_at(&r->cells[i], variant, x) ? lips_report_find(r, &r->cells[i], &p) : NULL;
        if (!rec)
            continue;
        ++*n;
        *reached += rec->form == LIPS_FORM_VALUE;
    }
}

bool lips_report_threshold(const lips_report *r, int variant, double *from, double *to)
{
    int last_none = -1;
    for (int x = 0; x < r->n_x; x++) {
        int n, reached;
        count_interpolated(r, variant, x, &n, &reached);
        if (n == 0)
            continue;
        if (reached == 0) {
            last_none = x;
        } else if (reached == n && last_none >= 0) {
            *from = r->x[last_none];
            *to = r->x[x];
            return true;
        } else if (reached == n) {
            return false;
        }
    }
    return false;
}

static const lips_record *layer_record(const lips_report *r, const char *quantity, int variant,
                                       int layer)
{
    const lips_record *best = NULL;
    for (int64_t i = 0; i < r->n_cells; i++) {
        const lips_report_cell *c = &r->cells[i];
        for (int64_t k = c->first; c->variant == variant && k < c->first + c->count; k++) {
            const lips_record *rec = &r->records[k];
            if (rec->layer > 0 && strcmp(rec->quantity, quantity) == 0 &&
                (layer ? rec->layer == layer : !best || rec->layer > best->layer))
                best = rec;
        }
    }
    return best;
}

int lips_report_layers(const lips_report *r, const char *quantity, int variant)
{
    const lips_record *deepest = layer_record(r, quantity, variant, 0);
    return deepest ? deepest->layer : 0;
}

const char *lips_report_layer_name(const lips_report *r, const char *quantity, int variant,
                                   int layer)
{
    const lips_record *rec = layer_record(r, quantity, variant, layer);
    return rec && rec->layer_name ? rec->layer_name : "";
}
