/* Argument checks of the operations on long vectors of doubles. */
#include "backend/check_parts.h"

/* count vectors of n places. */
static lips_status need_vectors(const char *op, const double *q, int64_t count, int64_t least,
                                int64_t n)
{
    LIPS_TRY(need_range(op, "count", count, least, LIPS_VECTORS_MAX));
    LIPS_TRY(need_range(op, "n", n, 1, LIPS_REALS_MAX / LIPS_VECTORS_MAX));
    return count ? need_set(op, "q", q) : LIPS_OK;
}

lips_status lips_check_dots(const lips_dots_args *a)
{
    LIPS_TRY(need_vectors("dots", a->q, a->count, 1, a->n));
    LIPS_TRY(need_set("dots", "w", a->w));
    return need_set("dots", "out", a->out);
}

lips_status lips_check_combine(const lips_combine_args *a)
{
    LIPS_TRY(need_vectors("combine", a->q, a->count, 0, a->n));
    LIPS_TRY(need_set("combine", "y", a->y));
    if (a->count && a->y < a->q + a->count * a->n && a->q < a->y + a->n)
        return lips_fail(LIPS_ERR_USAGE, "combine: y is one of q");
    return a->count ? need_set("combine", "c", a->c) : LIPS_OK;
}

lips_status lips_check_pair(const char *op, const void *dst, const void *src, int64_t n)
{
    LIPS_TRY(need_range(op, "n", n, 1, LIPS_REALS_MAX));
    LIPS_TRY(need_set(op, "dst", dst));
    return need_set(op, "src", src);
}

lips_status lips_check_signs(const double *dst, int64_t draw, int64_t n)
{
    LIPS_TRY(need_range("signs", "n", n, 1, LIPS_REALS_MAX));
    LIPS_TRY(need_range("signs", "draw", draw, 0, INT64_MAX / n));
    return need_set("signs", "dst", dst);
}
