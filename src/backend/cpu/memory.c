/* cpu/memory.c - vectors of reals (f32). */
#include "backend/cpu/ops.h"

lips_status lips_cpu_write(lips_backend *be, void *dst, int64_t off, const double *src, int64_t n)
{
    (void)be;
    LIPS_TRY(lips_check_vector("write", dst, off, n));
    LIPS_TRY(lips_check_vector("write", src, 0, n));
    for (int64_t i = 0; i < n; i++)
        ((float *)dst)[off + i] = (float)src[i];
    return LIPS_OK;
}

lips_status lips_cpu_read(lips_backend *be, double *dst, const void *src, int64_t off, int64_t n)
{
    (void)be;
    LIPS_TRY(lips_check_vector("read", src, off, n));
    LIPS_TRY(lips_check_vector("read", dst, 0, n));
    for (int64_t i = 0; i < n; i++)
        dst[i] = (double)((const float *)src)[off + i];
    return LIPS_OK;
}

lips_status lips_cpu_diff_sumsq(lips_backend *be, double *out, const void *a, const void *b,
                                int64_t n)
{
    LIPS_TRY(lips_check_vector("diff_sumsq", a, 0, n));
    *out = lips_cpu_k(be)->diff_sumsq(a, b, n);
    return LIPS_OK;
}
