/* cpu/memory.c - memory and vectors of reals (f32). */
#include "backend/cpu/ops.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 }; /* a cache line and an AVX-512 register */

lips_status lips_cpu_alloc(lips_backend *be, void **out, size_t bytes)
{
    (void)be;
    size_t rounded = bytes > SIZE_MAX - ALIGN ? 0 : (bytes + ALIGN - 1) / ALIGN * ALIGN;
    *out = bytes && !rounded ? NULL : aligned_alloc(ALIGN, rounded ? rounded : ALIGN);
    if (!*out)
        return lips_fail(LIPS_ERR_MEMORY, "cpu: out of memory (%zu bytes asked)", bytes);
    memset(*out, 0, rounded ? rounded : ALIGN);
    return LIPS_OK;
}

void lips_cpu_release(lips_backend *be, void *p)
{
    (void)be;
    free(p);
}

lips_status lips_cpu_sync(lips_backend *be)
{
    (void)be; /* every op is done when it returns */
    return LIPS_OK;
}

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

lips_status lips_cpu_zero(lips_backend *be, void *dst, size_t bytes)
{
    (void)be;
    LIPS_TRY(lips_check_vector("zero", dst, 0, bytes != 0));
    if (bytes)
        memset(dst, 0, bytes);
    return LIPS_OK;
}

lips_status lips_cpu_copy(lips_backend *be, void *dst, const void *src, size_t bytes)
{
    (void)be;
    LIPS_TRY(lips_check_vector("copy", dst, 0, bytes != 0));
    LIPS_TRY(lips_check_vector("copy", src, 0, bytes != 0));
    if (bytes)
        memcpy(dst, src, bytes);
    return LIPS_OK;
}

lips_status lips_cpu_diff_sumsq(lips_backend *be, double *out, const void *a, const void *b,
                                int64_t n)
{
    LIPS_TRY(lips_check_vector("diff_sumsq", a, 0, n));
    *out = lips_cpu_k(be)->diff_sumsq(a, b, n);
    return LIPS_OK;
}
