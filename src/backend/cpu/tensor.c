/* cpu/tensor.c - layout of tensors, and moving samples in and out of it. */
#include "backend/cpu/ops.h"

#include <string.h>

/* Convolutions work on one register of samples; a linear layer is one matrix product per slab,
 * which wants many columns, up to what keeps a slab of images in the second-level cache. */
enum { LANES_LINEAR_MAX = 128 };

int64_t lips_cpu_plan_lanes(lips_backend *be, int64_t cap, bool spatial)
{
    (void)be;
    if (spatial || cap <= LIPS_CPU_LANES)
        return LIPS_CPU_LANES;
    int64_t rounded = (cap + LIPS_CPU_LANES - 1) / LIPS_CPU_LANES * LIPS_CPU_LANES;
    return rounded < LANES_LINEAR_MAX ? rounded : LANES_LINEAR_MAX;
}

size_t lips_cpu_tensor_bytes(lips_backend *be, const lips_tensor *t)
{
    (void)be;
    int64_t slabs = (t->cap + t->lanes - 1) / t->lanes;
    return (size_t)(slabs * lips_cpu_slab_reals(t)) * sizeof(float);
}

/* Fewer than 16 samples: the absent ones become 0. */
static void upload_part(float *dst, int64_t lanes, const float *const row[LIPS_CPU_LANES],
                        int64_t features)
{
    for (int64_t f = 0; f < features; f++)
        for (int l = 0; l < LIPS_CPU_LANES; l++)
            dst[f * lanes + l] = row[l] ? row[l][f] : 0.0f;
}

lips_status lips_cpu_upload(lips_backend *be, const lips_tensor *dst, const float *src,
                            const int64_t *idx)
{
    LIPS_TRY(lips_check_transfer("upload", dst, src, true));
    LIPS_TRY(lips_cpu_layout("upload", dst));
    int64_t features = lips_tensor_features(dst), lanes = dst->lanes;
    int64_t groups = (dst->cap + lanes - 1) / lanes * (lanes / LIPS_CPU_LANES);
    for (int64_t g = 0; g < groups; g++) {
        int64_t first = g * LIPS_CPU_LANES;
        float *to = (float *)dst->data + first / lanes * lips_cpu_slab_reals(dst) + first % lanes;
        const float *row[LIPS_CPU_LANES];
        for (int64_t l = 0; l < LIPS_CPU_LANES; l++) {
            int64_t i = first + l;
            row[l] = i < dst->b ? src + (idx ? idx[i] : i) * features : NULL;
        }
        if (row[LIPS_CPU_LANES - 1])
            lips_cpu_k(be)->gather(to, lanes, row, features);
        else
            upload_part(to, lanes, row, features);
    }
    return LIPS_OK;
}

/* Place of sample i's feature 0, stacked value t; the next feature is t->t * t->lanes further. */
static float *place(const lips_tensor *x, int64_t i, int64_t t)
{
    return (float *)x->data + i / x->lanes * lips_cpu_slab_reals(x) + t * x->lanes + i % x->lanes;
}

lips_status lips_cpu_upload_f64(lips_backend *be, const lips_tensor *dst, const double *src)
{
    LIPS_TRY(lips_check_transfer("upload_f64", dst, src, false));
    LIPS_TRY(lips_cpu_layout("upload_f64", dst));
    int64_t features = lips_tensor_features(dst), step = dst->t * dst->lanes;
    memset(dst->data, 0, lips_cpu_tensor_bytes(be, dst));
    for (int64_t i = 0; i < dst->b; i++)
        for (int64_t t = 0; t < dst->t; t++, src += features) {
            float *to = place(dst, i, t);
            for (int64_t f = 0; f < features; f++)
                to[f * step] = (float)src[f];
        }
    return LIPS_OK;
}

lips_status lips_cpu_download(lips_backend *be, double *dst, const lips_tensor *src)
{
    (void)be;
    LIPS_TRY(lips_check_transfer("download", src, dst, false));
    LIPS_TRY(lips_cpu_layout("download", src));
    int64_t features = lips_tensor_features(src), step = src->t * src->lanes;
    for (int64_t i = 0; i < src->b; i++)
        for (int64_t t = 0; t < src->t; t++, dst += features) {
            const float *from = place(src, i, t);
            for (int64_t f = 0; f < features; f++)
                dst[f] = (double)from[f * step];
        }
    return LIPS_OK;
}

lips_status lips_cpu_fill(lips_backend *be, const lips_tensor *dst, double value)
{
    (void)be;
    LIPS_TRY(lips_check_tensor("fill", "dst", dst));
    LIPS_TRY(lips_cpu_layout("fill", dst));
    int64_t n = lips_cpu_slabs(dst) * lips_cpu_slab_reals(dst);
    for (int64_t i = 0; i < n; i++)
        ((float *)dst->data)[i] = (float)value;
    return LIPS_OK;
}

lips_status lips_cpu_eye(lips_backend *be, const lips_tensor *dst, double scale)
{
    (void)be;
    LIPS_TRY(lips_check_eye(dst));
    LIPS_TRY(lips_cpu_layout("eye", dst));
    memset(dst->data, 0, (size_t)(lips_cpu_slabs(dst) * lips_cpu_slab_reals(dst)) * sizeof(float));
    for (int64_t s = 0; s < lips_cpu_slabs(dst); s++)
        for (int64_t k = 0; k < dst->c; k++) {
            float *at = lips_cpu_slab(dst, s) + (k * dst->t + k) * dst->lanes;
            for (int64_t l = 0; l < dst->lanes; l++)
                at[l] = (float)scale;
        }
    return LIPS_OK;
}

lips_status lips_cpu_add(lips_backend *be, const lips_tensor *y, const lips_tensor *a,
                         const lips_tensor *b)
{
    LIPS_TRY(lips_check_add(y, a, b));
    LIPS_TRY(lips_cpu_layout("add", y));
    lips_cpu_k(be)->add(y->data, a->data, b->data, lips_cpu_slabs(y) * lips_cpu_slab_reals(y));
    return LIPS_OK;
}
