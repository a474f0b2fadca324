/* train/rows.c - data sets in a backend's memory, where the backend gathers batches itself. */
#include "train/resident.h"

#include "backend/rows.h"
#include "train/trainer_internal.h"

#include <stdlib.h>

enum { CHANNELS_MAX = 4 }; /* of lips_dataset's mean and std */

static const lips_split *split_of(const lips_dataset *d, int i)
{
    const lips_split *splits[LIPS_SPLITS] = {&d->train, &d->val, &d->test};
    return splits[i];
}

/* Rows of split number i without memory; n = 0: it stays with the host. first_only: whether they
 * may be packed is judged by the first. */
static lips_rows describe(const lips_dataset *d, const lips_backend *be, int i, const float *table,
                          bool first_only)
{
    const lips_split *s = split_of(d, i);
    lips_rows r = {.c = d->c, .h = d->h, .w = d->w};
    if (s == &d->train) { /* the others are only evaluated */
        r.classes = d->regression ? 0 : d->classes;
        r.targets = d->regression ? d->classes : 0;
    }
    if (!be->ops->gather || s->n == 0 || !s->source_index || d->c > CHANNELS_MAX)
        return r;
    r.n = first_only ? 1 : s->n;
    r.packed = !d->regression && lips_rows_fit(&r, s->x, table);
    r.n = s->n;
    return r;
}

size_t lips_resident_bytes(const lips_dataset *d, const lips_backend *be)
{
    float table[CHANNELS_MAX * 256];
    size_t bytes = 0;
    if (d->c <= CHANNELS_MAX)
        lips_pixel_table(d, table);
    for (int i = 0; i < LIPS_SPLITS; i++) {
        lips_rows r = describe(d, be, i, table, true);
        bytes += r.n ? lips_rows_bytes(&r) : 0;
    }
    return bytes;
}

static lips_status load(lips_resident *r, const lips_dataset *d)
{
    const lips_ops *ops = r->be->ops;
    float table[CHANNELS_MAX * 256];
    if (d->c <= CHANNELS_MAX)
        lips_pixel_table(d, table);
    for (int i = 0; i < LIPS_SPLITS; i++) {
        const lips_split *s = split_of(d, i);
        lips_rows *rows = &r->rows[i];
        *rows = describe(d, r->be, i, table, false);
        if (rows->n == 0)
            continue;
        LIPS_TRY(ops->alloc(r->be, &rows->memory, lips_rows_bytes(rows)));
        LIPS_TRY(ops->rows_load(r->be, rows,
                                &(lips_rows_source){.x = s->x,
                                                    .table = table,
                                                    .source = s->source_index,
                                                    .labels = s->label,
                                                    .targets = s->target}));
    }
    /* Other handles read it, each in an order of its own. */
    return ops->sync(r->be);
}

lips_status lips_resident_create(lips_resident **out, const lips_dataset *d, lips_backend *be)
{
    lips_resident *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a data set on the device");
    r->be = be;
    lips_status st = load(r, d);
    if (st != LIPS_OK) {
        lips_resident_free(r);
        return st;
    }
    *out = r;
    return LIPS_OK;
}

void lips_resident_free(lips_resident *r)
{
    if (!r)
        return;
    for (int i = 0; i < LIPS_SPLITS; i++)
        if (r->rows[i].memory)
            r->be->ops->release(r->be, r->rows[i].memory);
    free(r);
}

const lips_rows *lips_trainer_rows(const lips_trainer *tr, const lips_split *split)
{
    for (int i = 0; i < LIPS_SPLITS; i++)
        if (split == split_of(tr->data, i) && tr->resident->rows[i].memory)
            return &tr->resident->rows[i];
    return NULL;
}
