/* ref: GELU. With Phi and phi the standard normal's distribution and density:
 * gelu(x) = x Phi, gelu' = Phi + x phi, gelu'' = (2 - x^2) phi. */
#include "backend/ref/ref.h"

#include <math.h>

static double distribution(double x)
{
    return 0.5 * erfc(-x * 0.70710678118654752440); /* erfc: all digits for x far below 0 */
}

static double density(double x)
{
    return 0.39894228040143267794 * exp(-0.5 * x * x); /* 1/sqrt(2 pi) */
}

lips_status ref_gelu_forward(lips_backend *be, const lips_gelu_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_gelu(LIPS_FORWARD, a));
    LIPS_TRY(ref_layout("gelu_forward", &a->x));
    const double *x = a->x.data;
    double *y = a->y.data;
    for (int64_t i = 0; i < a->x.b * lips_tensor_features(&a->x) * a->x.t; i++)
        y[i] = x[i] * distribution(x[i]);
    return LIPS_OK;
}

lips_status ref_gelu_slope(lips_backend *be, const lips_gelu_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_gelu(LIPS_VJP, a));
    LIPS_TRY(ref_layout("gelu_slope", &a->x));
    const double *x = a->x.data, *in = a->in->data;
    double *y = a->y.data;
    int64_t nt = a->x.t;
    for (int64_t i = 0; i < a->x.b * lips_tensor_features(&a->x); i++) {
        double slope = distribution(in[i]) + in[i] * density(in[i]);
        for (int64_t t = 0; t < nt; t++)
            y[i * nt + t] = x[i * nt + t] * slope;
    }
    return LIPS_OK;
}

lips_status ref_gelu_vjp_dot(lips_backend *be, const lips_gelu_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_gelu(LIPS_VJP_DOT, a));
    LIPS_TRY(ref_layout("gelu_vjp_dot", &a->x));
    const double *x = a->x.data, *in = a->in->data, *dot = a->dot->data;
    double *y = a->y.data;
    for (int64_t i = 0; i < a->x.b * lips_tensor_features(&a->x); i++)
        y[i] = x[i] * dot[i] * (2 - in[i] * in[i]) * density(in[i]);
    return LIPS_OK;
}
