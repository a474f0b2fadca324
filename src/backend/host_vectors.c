/*
 * backend/host_vectors.c - long vectors of doubles where the backend's memory is the host's.
 *
 * Pieces of LIPS_VECTOR_PIECE places of each vector at a time: with the one that all are multiplied
 * with, they stay in the first cache.
 */
#include "backend/host.h"
#include "backend/vector.h"
#include "base/random.h"

#include <string.h>

enum { SIGNS = 128 /* from one place of the generator */ };

static int64_t piece_of(int64_t left)
{
    return left < LIPS_VECTOR_PIECE ? left : LIPS_VECTOR_PIECE;
}

lips_status lips_host_dots(lips_backend *be, const lips_dots_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_dots(a));
    memset(a->out, 0, (size_t)a->count * sizeof *a->out);
    for (int64_t at = 0; at < a->n; at += LIPS_VECTOR_PIECE)
        for (int64_t i = 0; i < a->count; i++)
            a->out[i] += lips_dot(a->q + i * a->n + at, a->w + at, piece_of(a->n - at));
    return LIPS_OK;
}

static void scale(double *y, double keep, int64_t n)
{
    if (keep == 0) /* also of what is not a number */
        memset(y, 0, (size_t)n * sizeof *y);
    for (int64_t i = 0; keep != 0 && keep != 1 && i < n; i++)
        y[i] *= keep;
}

lips_status lips_host_combine(lips_backend *be, const lips_combine_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_combine(a));
    for (int64_t at = 0; at < a->n; at += LIPS_VECTOR_PIECE) {
        const int64_t n = piece_of(a->n - at);
        scale(a->y + at, a->keep, n);
        for (int64_t i = 0; i < a->count; i++)
            lips_axpy(a->y + at, a->factor * a->c[i], a->q + i * a->n + at, n);
    }
    return LIPS_OK;
}

lips_status lips_host_narrow(lips_backend *be, void *dst, const double *src, int64_t n)
{
    LIPS_TRY(lips_check_pair("narrow", dst, src, n));
    return be->ops->write(be, dst, 0, src, n);
}

lips_status lips_host_widen(lips_backend *be, double *dst, double factor, const void *src,
                            int64_t n)
{
    LIPS_TRY(lips_check_pair("widen", dst, src, n));
    const float *f = be->ops->real_bytes == sizeof *f ? src : NULL;
    const double *d = src;
    for (int64_t i = 0; i < n; i++)
        dst[i] += factor * (f ? (double)f[i] : d[i]);
    return LIPS_OK;
}

lips_status lips_host_signs(lips_backend *be, double *dst, int64_t draw, int64_t n)
{
    (void)be;
    const lips_rng rng = {.stream = LIPS_STREAM_SIGNS};
    const int64_t per_draw = (n + SIGNS - 1) / SIGNS;
    LIPS_TRY(lips_check_signs(dst, draw, n));
    for (int64_t at = 0; at < n; at += SIGNS) {
        uint32_t word[4];
        lips_rng_words(&rng, (uint64_t)(draw * per_draw + at / SIGNS), word);
        for (int64_t i = 0; i < SIGNS && at + i < n; i++)
            dst[at + i] = (word[i / 32] >> (i % 32)) & 1 ? 1 : -1;
    }
    return LIPS_OK;
}
