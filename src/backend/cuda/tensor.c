/* cuda/tensor.c - layout of tensors, and moving samples in and out of it. */
#include "kernels/tensor.h"

#include "backend/cuda/ops.h"

#include <string.h>

/* Samples pass through pinned memory in pieces of this many bytes, or one sample if it is
 * larger. */
enum { PIECE_BYTES = 4 << 20 };

int64_t cuda_op_plan_lanes(lips_backend *be, int64_t cap, bool spatial)
{
    (void)be, (void)cap;
    return spatial ? LIPS_CUDA_IMAGES : LIPS_CUDA_ROWS;
}

size_t cuda_op_tensor_bytes(lips_backend *be, const lips_tensor *t)
{
    (void)be;
    return (size_t)lips_cuda_reals(t) * sizeof(float);
}

/* Host order is (T,C,pixels); images are (pixels,T,C): is that a transposition? */
static bool transposed(const lips_tensor *t)
{
    return t->lanes == LIPS_CUDA_IMAGES && t->h * t->w > 1 && t->c * t->t > 1;
}

static int64_t piece_samples(int64_t reals)
{
    int64_t n = PIECE_BYTES / (int64_t)sizeof(float) / reals;
    return n > 0 ? n : 1;
}

size_t lips_cuda_piece_bytes(size_t tensor)
{
    return tensor < PIECE_BYTES ? tensor : PIECE_BYTES;
}

/* The n samples from `first` on, staged in host order, to their place. */
static lips_status put(lips_cuda *h, const lips_tensor *dst, lips_cuda_slot *slot, int64_t first,
                       int64_t n)
{
    int64_t pixels = dst->h * dst->w, planes = dst->t * dst->c;
    size_t bytes = (size_t)(n * pixels * planes) * sizeof(float);
    float *to = (float *)dst->data + first * pixels * planes;
    void *scratch;
    if (!transposed(dst))
        return lips_cuda_stage_put(h, slot, to, bytes);
    LIPS_TRY(lips_cuda_scratch(h, bytes, &scratch));
    LIPS_TRY(lips_cuda_stage_put(h, slot, scratch, bytes));
    return lips_cuda_transpose(to, scratch, n, planes, pixels, h->stream);
}

/* Places of samples beyond b become 0. */
static lips_status clear_unused(lips_cuda *h, const lips_tensor *t)
{
    int64_t used = lips_cuda_used(t), all = lips_cuda_reals(t);
    if (all > used)
        LIPS_TRY_CUDA(cudaMemsetAsync((float *)t->data + used, 0,
                                      (size_t)(all - used) * sizeof(float), h->stream));
    return LIPS_OK;
}

lips_status cuda_op_upload(lips_backend *be, const lips_tensor *dst, const float *src,
                           const int64_t *idx)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_transfer("upload", dst, src, true));
    LIPS_TRY(lips_cuda_layout("upload", dst));
    LIPS_TRY(lips_cuda_enter(be, &h));
    int64_t row = lips_tensor_features(dst), step = piece_samples(row);
    for (int64_t first = 0; first < dst->b; first += step) {
        int64_t n = dst->b - first < step ? dst->b - first : step;
        lips_cuda_slot *slot;
        LIPS_TRY(lips_cuda_stage(h, (size_t)(n * row) * sizeof(float), &slot));
        float *to = slot->host;
        for (int64_t i = 0; i < n; i++)
            memcpy(to + i * row, src + (idx ? idx[first + i] : first + i) * row,
                   (size_t)row * sizeof(float));
        LIPS_TRY(put(h, dst, slot, first, n));
    }
    return clear_unused(h, dst);
}

lips_status cuda_op_upload_f64(lips_backend *be, const lips_tensor *dst, const double *src)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_transfer("upload_f64", dst, src, false));
    LIPS_TRY(lips_cuda_layout("upload_f64", dst));
    LIPS_TRY(lips_cuda_enter(be, &h));
    int64_t row = lips_tensor_features(dst) * dst->t, step = piece_samples(row);
    for (int64_t first = 0; first < dst->b; first += step) {
        int64_t n = dst->b - first < step ? dst->b - first : step;
        lips_cuda_slot *slot;
        LIPS_TRY(lips_cuda_stage(h, (size_t)(n * row) * sizeof(float), &slot));
        float *to = slot->host;
        for (int64_t i = 0; i < n * row; i++)
            to[i] = (float)src[first * row + i];
        LIPS_TRY(put(h, dst, slot, first, n));
    }
    return clear_unused(h, dst);
}

lips_status cuda_op_download(lips_backend *be, double *dst, const lips_tensor *src)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_transfer("download", src, dst, false));
    LIPS_TRY(lips_cuda_layout("download", src));
    LIPS_TRY(lips_cuda_enter(be, &h));
    int64_t pixels = src->h * src->w, planes = src->t * src->c, row = pixels * planes;
    int64_t step = piece_samples(row);
    for (int64_t first = 0; first < src->b; first += step) {
        int64_t n = src->b - first < step ? src->b - first : step;
        size_t bytes = (size_t)(n * row) * sizeof(float);
        const float *from = (const float *)src->data + first * row;
        lips_cuda_slot *slot;
        void *scratch;
        LIPS_TRY(lips_cuda_stage(h, bytes, &slot));
        if (transposed(src)) {
            LIPS_TRY(lips_cuda_scratch(h, bytes, &scratch));
            LIPS_TRY(lips_cuda_transpose(scratch, from, n, pixels, planes, h->stream));
            from = scratch;
        }
        LIPS_TRY(lips_cuda_stage_get(h, slot, from, bytes));
        const float *host = slot->host;
        for (int64_t i = 0; i < n * row; i++)
            dst[first * row + i] = (double)host[i];
    }
    return LIPS_OK;
}

lips_status cuda_op_fill(lips_backend *be, const lips_tensor *dst, double value)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_tensor("fill", "dst", dst));
    LIPS_TRY(lips_cuda_layout("fill", dst));
    LIPS_TRY(lips_cuda_enter(be, &h));
    if (value == 0) { /* all bits 0 */
        LIPS_TRY_CUDA(cudaMemsetAsync(dst->data, 0, cuda_op_tensor_bytes(be, dst), h->stream));
        return LIPS_OK;
    }
    LIPS_TRY(lips_cuda_fill(dst->data, (float)value, lips_cuda_used(dst), h->stream));
    return clear_unused(h, dst);
}

lips_status cuda_op_eye(lips_backend *be, const lips_tensor *dst, double scale)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_eye(dst));
    LIPS_TRY(lips_cuda_layout("eye", dst));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(lips_cuda_eye(dst->data, (float)scale, dst->b, dst->c, h->stream));
    return clear_unused(h, dst);
}

lips_status cuda_op_add(lips_backend *be, const lips_tensor *y, const lips_tensor *a,
                        const lips_tensor *b)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_add(y, a, b));
    LIPS_TRY(lips_cuda_layout("add", y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    return lips_cuda_add(y->data, a->data, b->data, lips_cuda_used(y), h->stream);
}
