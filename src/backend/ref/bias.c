/* ref: bias per channel. */
#include "backend/ref/ref.h"

lips_status ref_bias_forward(lips_backend *be, const lips_bias_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_bias(LIPS_FORWARD, a));
    LIPS_TRY(ref_layout("bias_forward", &a->y));
    const double *bias = a->bias;
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t c = 0; c < a->y.c; c++)
            for (int64_t i = 0; i < a->y.h * a->y.w * a->y.t; i++)
                ref_at(&a->y, s, c, 0, 0)[i] += bias[c];
    return LIPS_OK;
}

/* Derivative of <dy_t, y> with respect to bias c: the sum of dy_t over the positions. */
static double channel_sum(const lips_tensor *dy, int64_t s, int64_t c, int64_t t)
{
    double sum = 0;
    for (int64_t i = 0; i < dy->h * dy->w; i++)
        sum += ref_at(dy, s, c, 0, 0)[i * dy->t + t];
    return sum;
}

lips_status ref_bias_grad(lips_backend *be, const lips_bias_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_bias(LIPS_GRAD, a));
    LIPS_TRY(ref_layout("bias_grad", &a->y));
    double *db = a->db;
    for (int64_t c = 0; c < a->y.c; c++)
        for (int64_t s = 0; s < a->y.b; s++)
            db[c] += channel_sum(&a->y, s, c, 0);
    return LIPS_OK;
}

lips_status ref_bias_gram(lips_backend *be, const lips_bias_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_bias(LIPS_GRAM, a));
    LIPS_TRY(ref_layout("bias_gram", &a->y));
    int64_t nt = a->y.t;
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t t = 0; t < nt; t++)
            for (int64_t u = 0; u < nt; u++)
                for (int64_t c = 0; c < a->y.c; c++)
                    a->theta[(s * nt + t) * nt + u] +=
                        channel_sum(&a->y, s, c, t) * channel_sum(&a->y, s, c, u);
    return LIPS_OK;
}
