#include "backend/rows.h"

#include <math.h>
#include <string.h>

static size_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

size_t lips_rows_source_at(const lips_rows *r)
{
    return rounded((size_t)r->c * 256 * sizeof(float));
}

size_t lips_rows_labels_at(const lips_rows *r)
{
    return lips_rows_source_at(r) + rounded((size_t)r->n * sizeof(int64_t));
}

size_t lips_rows_targets_at(const lips_rows *r)
{
    return lips_rows_labels_at(r) + (r->classes ? rounded((size_t)r->n * sizeof(int64_t)) : 0);
}

size_t lips_rows_values_at(const lips_rows *r)
{
    return lips_rows_targets_at(r) + rounded((size_t)(r->n * r->targets) * sizeof(float));
}

size_t lips_rows_row_bytes(const lips_rows *r)
{
    return (size_t)(r->c * r->h * r->w) * (r->packed ? 1 : sizeof(float));
}

size_t lips_rows_bytes(const lips_rows *r)
{
    return lips_rows_values_at(r) + (size_t)r->n * lips_rows_row_bytes(r);
}

int lips_rows_pixel(const float *table, float x)
{
    const float v = roundf((x - table[0]) / (table[255] - table[0]) * 255.0f);
    return v >= 0 && v <= 255 && table[(int)v] == x ? (int)v : -1;
}

lips_status lips_rows_pack(const lips_rows *r, void *to, const float *x, int64_t n,
                           const float *table)
{
    const int64_t area = r->h * r->w, all = n * r->c * area;
    uint8_t *bytes = to;
    if (!r->packed) {
        memcpy(to, x, (size_t)all * sizeof *x);
        return LIPS_OK;
    }
    for (int64_t i = 0; i < all; i++) {
        const int v = lips_rows_pixel(table + i / area % r->c * 256, x[i]);
        if (v < 0)
            return lips_fail(LIPS_ERR_USAGE,
                             "rows_load: %g is none of the 256 values of channel %lld",
                             (double)x[i], (long long)(i / area % r->c));
        bytes[i] = (uint8_t)v;
    }
    return LIPS_OK;
}

bool lips_rows_fit(const lips_rows *r, const float *x, const float *table)
{
    const int64_t area = r->h * r->w;
    for (int64_t i = 0; i < r->n * r->c; i++, x += area)
        for (int64_t j = 0; j < area; j++)
            if (lips_rows_pixel(table + i % r->c * 256, x[j]) < 0)
                return false;
    return true;
}
