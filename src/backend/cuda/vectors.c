/* cuda: long vectors of doubles. */
#include "kernels/vectors.h"

#include "backend/cuda/ops.h"
#include "base/random.h"

_Static_assert((int)LIPS_CUDA_VECTORS_MAX == (int)LIPS_VECTORS_MAX,
               "one limit for host and device");

lips_status cuda_op_dots(lips_backend *be, const lips_dots_args *a)
{
    lips_cuda *h;
    void *out, *scratch;
    LIPS_TRY(lips_check_dots(a));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(lips_cuda_shared(h, "dots", a->out, a->count, &out));
    LIPS_TRY(lips_cuda_scratch(h, lips_cuda_dots_bytes(a->count, a->n), &scratch));
    return lips_cuda_dots(out, a->q, a->w, a->count, a->n, scratch, h->stream);
}

lips_status cuda_op_combine(lips_backend *be, const lips_combine_args *a)
{
    lips_cuda *h;
    double *c;
    LIPS_TRY(lips_check_combine(a));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(lips_cuda_f64(h, "combine", (void *)(size_t)a->c, a->count, &c));
    const bool host = c == a->c;
    return lips_cuda_combine(&(lips_cuda_combine_args){.y = a->y,
                                                       .keep = a->keep,
                                                       .factor = a->factor,
                                                       .q = a->q,
                                                       .c = host ? NULL : c,
                                                       .c_host = host ? a->c : NULL,
                                                       .count = a->count,
                                                       .n = a->n},
                             h->stream);
}

lips_status cuda_op_narrow(lips_backend *be, void *dst, const double *src, int64_t n)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_pair("narrow", dst, src, n));
    LIPS_TRY(lips_cuda_enter(be, &h));
    return lips_cuda_narrow(dst, src, n, h->stream);
}

lips_status cuda_op_widen(lips_backend *be, double *dst, double factor, const void *src, int64_t n)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_pair("widen", dst, src, n));
    LIPS_TRY(lips_cuda_enter(be, &h));
    return lips_cuda_widen(dst, factor, src, n, h->stream);
}

lips_status cuda_op_signs(lips_backend *be, double *dst, int64_t draw, int64_t n)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_signs(dst, draw, n));
    LIPS_TRY(lips_cuda_enter(be, &h));
    return lips_cuda_signs(dst, LIPS_STREAM_SIGNS, draw, n, h->stream);
}
