/* The data set in the backend's memory, where the backend gathers batches itself. */
#include "backend/rows.h"

#include "train/trainer_internal.h"

#include <stdlib.h>

enum { CHANNELS_MAX = 4 }; /* of lips_dataset's mean and std */

static const lips_split *split_of(const lips_dataset *d, int i)
{
    const lips_split *splits[LIPS_SPLITS] = {&d->train, &d->val, &d->test};
    return splits[i];
}

/* Rows of split number i without memory; n = 0: it stays with the host. first_only: whether they may
 * be packed is judged by the first. */
static lips_rows describe(const lips_dataset *d, const lips_backend *be, int i, const float *table,
                          bool first_only)
{
    const lips_split *s = split_of(d, i);
    lips_rows r = {.c = d->c, .h = d->h, .w = d->w};
    if (!be->ops->gather || s->n == 0 || !s->source_index || d->c > CHANNELS_MAX)
        return r;
    r.n = first_only ? 1 : s->n;
    r.packed = !d->regression && lips_rows_fit(&r, s->x, table);
    r.n = s->n;
    return r;
}

size_t lips_trainer_rows_bytes(const lips_dataset *d, const lips_backend *be)
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

lips_status lips_trainer_load_rows(lips_trainer *tr)
{
    const lips_ops *ops = tr->be->ops;
    float table[CHANNELS_MAX * 256];
    if (tr->data->c <= CHANNELS_MAX)
        lips_pixel_table(tr->data, table);
    for (int i = 0; i < LIPS_SPLITS; i++) {
        const lips_split *s = split_of(tr->data, i);
        lips_rows *r = &tr->rows[i];
        *r = describe(tr->data, tr->be, i, table, false);
        if (r->n == 0)
            continue;
        LIPS_TRY(ops->alloc(tr->be, &r->memory, lips_rows_bytes(r)));
        LIPS_TRY(ops->rows_load(
            tr->be, r,
            &(lips_rows_source){.x = s->x, .table = table, .source = s->source_index}));
    }
    return LIPS_OK;
}

const lips_rows *lips_trainer_rows(const lips_trainer *tr, const lips_split *split)
{
    for (int i = 0; i < LIPS_SPLITS; i++)
        if (split == split_of(tr->data, i) && tr->rows[i].memory)
            return &tr->rows[i];
    return NULL;
}
