/* report/claim_data.c - a variant's cells by seed and width, and how a verdict's numbers are said.
 */
#include "report/claims.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const lips_record *lips_claim_record(const lips_claim_data *d, const lips_pick *p, int64_t seed,
                                     int x)
{
    const lips_report_cell *cell = d->cell[seed * d->n_x + x];
    return cell ? lips_report_find(d->r, cell, p) : NULL;
}

int64_t lips_claim_load(const lips_claim_data *d, const lips_pick *p)
{
    int64_t n = 0;
    for (int64_t s = 0; s < d->n_seeds; s++)
        for (int x = 0; x < d->n_x; x++) {
            const lips_record *rec = lips_claim_record(d, p, s, x);
            double v = rec ? lips_pick_number(p, rec) : NAN;
            d->number[s * d->n_x + x] = isfinite(v) ? v : NAN;
            n += isfinite(v);
        }
    return n;
}

bool lips_claim_interpolates(const lips_claim_data *d, int64_t seed, int x)
{
    const lips_pick p = {.quantity = "interpolation_epoch", .epoch = LIPS_LATEST};
    const lips_record *rec = lips_claim_record(d, &p, seed, x);
    return rec && rec->form == LIPS_FORM_VALUE;
}

void lips_claim_keep_interpolating(const lips_claim_data *d)
{
    for (int64_t s = 0; s < d->n_seeds; s++)
        for (int x = 0; x < d->n_x; x++)
            if (!lips_claim_interpolates(d, s, x))
                d->number[s * d->n_x + x] = NAN;
}

void lips_claim_say(lips_claim_row *row, const char *fmt, ...)
{
    size_t used = strlen(row->numbers);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(row->numbers + used, sizeof row->numbers - used, fmt, ap);
    va_end(ap);
}

void lips_claim_say_interval(lips_claim_row *row, const char *name, const lips_interval *s)
{
    if (s->n == 0)
        lips_claim_say(row, "%s: no number; ", name);
    else if (s->n == 1)
        lips_claim_say(row, "%s %.3g (one seed); ", name, s->mean);
    else
        lips_claim_say(row, "%s %.3g [%.3g, %.3g], seeds %.3g to %.3g; ", name, s->mean, s->lo,
                       s->hi, s->min, s->max);
}

lips_status lips_claim_untested(lips_claim_row *row, const char *why)
{
    char rest[sizeof row->numbers];
    row->verdict = LIPS_NOT_TESTED;
    memcpy(rest, row->numbers, sizeof rest);
    rest[0] = (char)toupper((unsigned char)rest[0]);
    snprintf(row->numbers, sizeof row->numbers, "%.300s. %.600s", why, rest);
    return LIPS_OK;
}

const char *lips_verdict_name(lips_verdict v)
{
    switch (v) {
    case LIPS_SUPPORTED: return "supported";
    case LIPS_NOT_SUPPORTED: return "not supported";
    case LIPS_NOT_TESTED: break;
    }
    return "not tested";
}

static lips_status judge_variant(lips_claims *out, const lips_claim_data *d)
{
    for (int i = 0; i < LIPS_CLAIMS; i++) {
        lips_claim_row *row = &out->row[out->n++];
        *row =
            (lips_claim_row){.claim = &lips_claim_table[i], .number = i + 1, .variant = d->variant};
        LIPS_TRY(row->claim->judge(row, d));
        size_t used = strlen(row->numbers);
        while (used > 0 && (row->numbers[used - 1] == ' ' || row->numbers[used - 1] == ';'))
            row->numbers[--used] = '\0';
    }
    return LIPS_OK;
}

lips_status lips_claims_judge(lips_claims *out, const lips_report *r)
{
    lips_claim_data d = {.r = r, .n_x = r->n_x, .n_seeds = r->replicates};
    size_t size = (size_t)(d.n_seeds * d.n_x) + 1;
    lips_status st = LIPS_OK;
    *out = (lips_claims){0};
    if (r->n_cells == 0)
        return LIPS_OK;
    out->row = calloc((size_t)r->n_variants * LIPS_CLAIMS, sizeof *out->row);
    d.cell = malloc(size * sizeof(const lips_report_cell *));
    d.number = malloc(size * sizeof *d.number);
    d.of_seed = malloc((size_t)(3 * d.n_seeds + 1) * sizeof *d.of_seed);
    if (!out->row || !d.cell || !d.number || !d.of_seed)
        st = lips_fail(LIPS_ERR_MEMORY, "out of memory for the claims");
    for (d.variant = 0; st == LIPS_OK && d.variant < r->n_variants; d.variant++) {
        memset(d.cell, 0, size * sizeof(const lips_report_cell *));
        for (int64_t i = 0; i < r->n_cells; i++) {
            const lips_report_cell *c = &r->cells[i];
            if (c->variant == d.variant && c->state == LIPS_CELL_DONE && !c->damaged)
                d.cell[c->replicate * d.n_x + c->x] = c;
        }
        st = judge_variant(out, &d);
    }
    free(d.cell);
    free(d.number);
    free(d.of_seed);
    return st;
}

void lips_claims_free(lips_claims *c)
{
    free(c->row);
    *c = (lips_claims){0};
}
