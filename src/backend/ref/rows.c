/* ref: rows of a data set, and batches from them. */
#include "backend/rows.h"

#include "backend/ref/ref.h"
#include "base/random.h"

#include <string.h>

lips_status ref_rows_load(lips_backend *be, const lips_rows *r, const lips_rows_source *s)
{
    (void)be;
    LIPS_TRY(lips_check_rows(r, s));
    char *to = r->memory;
    memcpy(to, s->table, (size_t)r->c * 256 * sizeof(float));
    memcpy(to + lips_rows_source_at(r), s->source, (size_t)r->n * sizeof(int64_t));
    if (r->classes)
        memcpy(to + lips_rows_labels_at(r), s->labels, (size_t)r->n * sizeof(int64_t));
    if (r->targets)
        memcpy(to + lips_rows_targets_at(r), s->targets,
               (size_t)(r->n * r->targets) * sizeof(float));
    return lips_rows_pack(r, to + lips_rows_values_at(r), s->x, r->n, s->table);
}

/* Value of channel c at (v,u) of a row; black outside. */
static float value(const lips_rows *r, int64_t row, int64_t c, int64_t v, int64_t u)
{
    const float *table = (const float *)r->memory + c * 256;
    const char *values = (const char *)r->memory + lips_rows_values_at(r);
    int64_t at = ((row * r->c + c) * r->h + v) * r->w + u;
    if (v < 0 || v >= r->h || u < 0 || u >= r->w)
        return table[0];
    return r->packed ? table[((const uint8_t *)values)[at]]
                     : ((const float *)(const void *)values)[at];
}

typedef struct place {
    int64_t top, left;
    bool flip;
} place;

/* Crop from a border of 4, and flip: words 0, 1, 2 at the sample's number in its file. */
static place draw(const lips_gather_args *a, int64_t source)
{
    lips_rng r = {a->seed, LIPS_STREAM_AUGMENT, (uint32_t)(a->order ? a->cursor->epoch : a->epoch)};
    uint32_t word[4];
    lips_rng_words(&r, (uint64_t)source, word);
    return (place){.top = (int64_t)((uint64_t)word[0] * 9 >> 32) - 4,
                   .left = (int64_t)((uint64_t)word[1] * 9 >> 32) - 4,
                   .flip = word[2] >> 31};
}

lips_status ref_course(const char *op, const lips_rows *r, const int64_t *order, int64_t b)
{
    for (int64_t i = 0; i < b; i++)
        if (order[i] < 0 || order[i] >= r->n)
            return lips_fail(LIPS_ERR_USAGE, "%s: row %lld of %lld in the order", op,
                             (long long)order[i], (long long)r->n);
    return LIPS_OK;
}

lips_status ref_gather(lips_backend *be, const lips_gather_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_gather(a));
    LIPS_TRY(ref_layout("gather", &a->y));
    const int64_t *index = a->order ? a->order + a->cursor->row + a->first : a->index;
    if (a->order)
        LIPS_TRY(ref_course("gather", a->rows, index, a->y.b));
    const lips_rows *r = a->rows;
    const char *source = (const char *)r->memory + lips_rows_source_at(r);
    for (int64_t i = 0; i < a->y.cap; i++) {
        int64_t row = i >= a->y.b ? 0 : index ? index[i] : a->first + i;
        place p = a->augment ? draw(a, ((const int64_t *)(const void *)source)[row]) : (place){0};
        for (int64_t c = 0; c < r->c; c++)
            for (int64_t v = 0; v < r->h; v++)
                for (int64_t u = 0; u < r->w; u++)
                    *ref_at(&a->y, i, c, v, u) =
                        i >= a->y.b ? 0
                                    : (double)value(r, row, c, p.top + v,
                                                    p.left + (p.flip ? r->w - 1 - u : u));
    }
    return LIPS_OK;
}
