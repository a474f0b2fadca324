/*
 * ref: fully connected layer, y[o] = sum_c w[o,c] x[c] + bias[o], per sample and stacked value.
 */
#include "backend/ref/ref.h"

lips_status ref_linear_forward(lips_backend *be, const lips_linear_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_linear(LIPS_FORWARD, a));
    LIPS_TRY(ref_layout("linear_forward", &a->x));
    const double *w = a->w, *bias = a->bias;
    int64_t n_in = a->x.c;
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t o = 0; o < a->y.c; o++)
            for (int64_t t = 0; t < a->y.t; t++) {
                double sum = bias ? bias[o] : 0;
                for (int64_t c = 0; c < n_in; c++)
                    sum += w[o * n_in + c] * ref_at(&a->x, s, c, 0, 0)[t];
                /* Written so that NaN stays NaN, as in PyTorch. */
                ref_at(&a->y, s, o, 0, 0)[t] = a->relu && sum < 0 ? 0 : sum;
            }
    return LIPS_OK;
}

lips_status ref_linear_vjp(lips_backend *be, const lips_linear_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_linear(LIPS_VJP, a));
    LIPS_TRY(ref_layout("linear_vjp", &a->x));
    const double *w = a->w;
    int64_t n_in = a->x.c;
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t c = 0; c < n_in; c++) {
            bool open = !a->mask || *ref_at(a->mask, s, c, 0, 0) > 0;
            for (int64_t t = 0; t < a->y.t; t++) {
                double sum = 0;
                for (int64_t o = 0; o < a->y.c; o++)
                    sum += w[o * n_in + c] * ref_at(&a->y, s, o, 0, 0)[t];
                ref_at(&a->x, s, c, 0, 0)[t] = open ? sum : 0;
            }
        }
    return LIPS_OK;
}

lips_status ref_linear_grad(lips_backend *be, const lips_linear_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_linear(LIPS_GRAD, a));
    LIPS_TRY(ref_layout("linear_grad", &a->x));
    double *dw = a->dw, *db = a->db;
    int64_t n_in = a->x.c;
    for (int64_t o = 0; o < a->y.c; o++) {
        for (int64_t c = 0; dw && c < n_in; c++) {
            double sum = 0;
            for (int64_t s = 0; s < a->y.b; s++)
                sum += *ref_at(&a->y, s, o, 0, 0) * *ref_at(&a->x, s, c, 0, 0);
            dw[o * n_in + c] += sum;
        }
        for (int64_t s = 0; db && s < a->y.b; s++)
            db[o] += *ref_at(&a->y, s, o, 0, 0);
    }
    return LIPS_OK;
}

/* The Jacobian of output cotangent t with respect to w is dy_t x', so two of them have the inner
 * product <dy_t, dy_t'> <x, x>. */
lips_status ref_linear_gram(lips_backend *be, const lips_linear_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_linear(LIPS_GRAM, a));
    LIPS_TRY(ref_layout("linear_gram", &a->x));
    int64_t nt = a->y.t;
    for (int64_t s = 0; s < a->y.b; s++) {
        double xx = 0;
        for (int64_t c = 0; c < a->x.c; c++)
            xx += *ref_at(&a->x, s, c, 0, 0) * *ref_at(&a->x, s, c, 0, 0);
        for (int64_t t = 0; t < nt; t++)
            for (int64_t u = 0; u < nt; u++) {
                double dd = 0;
                for (int64_t o = 0; o < a->y.c; o++)
                    dd += ref_at(&a->y, s, o, 0, 0)[t] * ref_at(&a->y, s, o, 0, 0)[u];
                a->theta[(s * nt + t) * nt + u] += dd * xx;
            }
    }
    return LIPS_OK;
}
