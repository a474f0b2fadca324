/* ref: y = max(0, x), and the masking that is both its jvp and its vjp. */
#include "backend/ref/ref.h"

lips_status ref_relu_forward(lips_backend *be, const lips_relu_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_relu(LIPS_FORWARD, a));
    LIPS_TRY(ref_layout("relu_forward", &a->x));
    const double *x = a->x.data;
    double *y = a->y.data;
    for (int64_t i = 0; i < a->x.b * lips_tensor_features(&a->x) * a->x.t; i++)
        y[i] = x[i] < 0 ? 0 : x[i]; /* NaN stays NaN, as in PyTorch */
    return LIPS_OK;
}

lips_status ref_relu_mask(lips_backend *be, const lips_relu_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_relu(LIPS_VJP, a));
    LIPS_TRY(ref_layout("relu_mask", &a->x));
    const double *x = a->x.data, *mask = a->mask->data;
    double *y = a->y.data;
    int64_t nt = a->x.t;
    for (int64_t i = 0; i < a->x.b * lips_tensor_features(&a->x); i++)
        for (int64_t t = 0; t < nt; t++)
            y[i * nt + t] = mask[i] > 0 ? x[i * nt + t] : 0;
    return LIPS_OK;
}
