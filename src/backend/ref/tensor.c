/* ref: vectors of parameters, tensors. */
#include "backend/ref/ref.h"

#include <stdlib.h>
#include <string.h>

extern const lips_ops lips_ref_ops;

lips_status ref_probe(lips_device *out, int device)
{
    (void)device;
    *out = (lips_device){.count = 1, .name = "processor", .detail = "float64, plain loops"};
    return LIPS_OK;
}

lips_status ref_open(lips_backend **out, int device)
{
    (void)device;
    *out = malloc(sizeof **out);
    if (!*out)
        return lips_fail(LIPS_ERR_MEMORY, "ref: out of memory (%zu bytes asked)", sizeof **out);
    (*out)->ops = &lips_ref_ops;
    return LIPS_OK;
}

void ref_close(lips_backend *be)
{
    free(be);
}

lips_status ref_write(lips_backend *be, void *dst, int64_t off, const double *src, int64_t n)
{
    (void)be;
    LIPS_TRY(lips_check_vector("write", dst, off, n));
    LIPS_TRY(lips_check_vector("write", src, 0, n));
    if (n)
        memcpy((double *)dst + off, src, (size_t)n * sizeof *src);
    return LIPS_OK;
}

lips_status ref_read(lips_backend *be, double *dst, const void *src, int64_t off, int64_t n)
{
    (void)be;
    LIPS_TRY(lips_check_vector("read", src, off, n));
    LIPS_TRY(lips_check_vector("read", dst, 0, n));
    if (n)
        memcpy(dst, (const double *)src + off, (size_t)n * sizeof *dst);
    return LIPS_OK;
}

lips_status ref_diff_sumsq(lips_backend *be, double *out, const void *a, const void *b, int64_t n)
{
    (void)be;
    LIPS_TRY(lips_check_vector("diff_sumsq", a, 0, n));
    const double *va = a, *vb = b;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = va[i] - (vb ? vb[i] : 0);
        sum += d * d;
    }
    *out = sum;
    return LIPS_OK;
}

int64_t ref_plan_lanes(lips_backend *be, int64_t cap, bool spatial)
{
    (void)be, (void)cap, (void)spatial;
    return 1;
}

size_t ref_tensor_bytes(lips_backend *be, const lips_tensor *t)
{
    (void)be;
    return (size_t)(t->cap * lips_tensor_features(t) * t->t) * sizeof(double);
}

/* Samples b..cap-1 become 0. */
static void clear_unused(const lips_tensor *t)
{
    int64_t n = lips_tensor_features(t) * t->t;
    memset((double *)t->data + t->b * n, 0, (size_t)((t->cap - t->b) * n) * sizeof(double));
}

lips_status ref_upload(lips_backend *be, const lips_tensor *dst, const float *src,
                       const int64_t *idx)
{
    (void)be;
    LIPS_TRY(lips_check_transfer("upload", dst, src, true));
    LIPS_TRY(ref_layout("upload", dst));
    int64_t n = lips_tensor_features(dst);
    double *to = dst->data;
    for (int64_t s = 0; s < dst->b; s++) {
        const float *from = src + (idx ? idx[s] : s) * n;
        for (int64_t i = 0; i < n; i++)
            to[s * n + i] = (double)from[i];
    }
    clear_unused(dst);
    return LIPS_OK;
}

lips_status ref_upload_f64(lips_backend *be, const lips_tensor *dst, const double *src)
{
    (void)be;
    LIPS_TRY(lips_check_transfer("upload_f64", dst, src, false));
    LIPS_TRY(ref_layout("upload_f64", dst));
    int64_t n = lips_tensor_features(dst);
    double *to = dst->data;
    for (int64_t s = 0; s < dst->b; s++)
        for (int64_t t = 0; t < dst->t; t++)
            for (int64_t i = 0; i < n; i++)
                to[(s * n + i) * dst->t + t] = src[(s * dst->t + t) * n + i];
    clear_unused(dst);
    return LIPS_OK;
}

lips_status ref_download(lips_backend *be, double *dst, const lips_tensor *src)
{
    (void)be;
    LIPS_TRY(lips_check_transfer("download", src, dst, false));
    LIPS_TRY(ref_layout("download", src));
    int64_t n = lips_tensor_features(src);
    const double *from = src->data;
    for (int64_t s = 0; s < src->b; s++)
        for (int64_t t = 0; t < src->t; t++)
            for (int64_t i = 0; i < n; i++)
                dst[(s * src->t + t) * n + i] = from[(s * n + i) * src->t + t];
    return LIPS_OK;
}

lips_status ref_fill(lips_backend *be, const lips_tensor *dst, double value)
{
    (void)be;
    LIPS_TRY(lips_check_tensor("fill", "dst", dst));
    LIPS_TRY(ref_layout("fill", dst));
    double *to = dst->data;
    for (int64_t i = 0; i < dst->b * lips_tensor_features(dst) * dst->t; i++)
        to[i] = value;
    clear_unused(dst);
    return LIPS_OK;
}

lips_status ref_eye(lips_backend *be, const lips_tensor *dst, double scale)
{
    (void)be;
    LIPS_TRY(lips_check_eye(dst));
    LIPS_TRY(ref_layout("eye", dst));
    for (int64_t s = 0; s < dst->b; s++)
        for (int64_t k = 0; k < dst->c; k++)
            for (int64_t t = 0; t < dst->t; t++)
                ref_at(dst, s, k, 0, 0)[t] = k == t ? scale : 0;
    clear_unused(dst);
    return LIPS_OK;
}

lips_status ref_add(lips_backend *be, const lips_tensor *y, const lips_tensor *a,
                    const lips_tensor *b)
{
    (void)be;
    LIPS_TRY(lips_check_add(y, a, b));
    LIPS_TRY(ref_layout("add", y));
    const double *va = a->data, *vb = b->data;
    double *vy = y->data;
    for (int64_t i = 0; i < y->b * lips_tensor_features(y) * y->t; i++)
        vy[i] = va[i] + vb[i];
    return LIPS_OK;
}
