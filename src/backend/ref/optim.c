/* ref: optimiser steps, in PyTorch's order of operations. */
#include "backend/host.h"
#include "backend/ref/ref.h"

#include <math.h>

lips_status ref_sgd(lips_backend *be, const lips_sgd_args *args)
{
    (void)be;
    LIPS_TRY(lips_check_sgd(args));
    lips_sgd_args now = *args, *a = &now;
    if (!lips_host_sgd_now(a))
        return LIPS_OK;
    double *p = a->p, *m = a->m;
    const double *grad = a->g;
    for (int64_t i = 0; i < a->n; i++) {
        double g = grad[i] + a->weight_decay * p[i];
        if (a->momentum != 0)
            g = m[i] = a->momentum * m[i] + g;
        p[i] -= a->lr * g;
    }
    return LIPS_OK;
}

lips_status ref_adam(lips_backend *be, const lips_adam_args *args)
{
    (void)be;
    LIPS_TRY(lips_check_adam(args));
    lips_adam_args now = *args, *a = &now;
    if (!lips_host_adam_now(a))
        return LIPS_OK;
    double *p = a->p, *m = a->m, *v = a->v;
    const double *grad = a->g;
    double correct1 = 1 - pow(a->beta1, (double)a->step),
           correct2 = 1 - pow(a->beta2, (double)a->step);
    for (int64_t i = 0; i < a->n; i++) {
        double g = grad[i] + a->weight_decay * p[i];
        m[i] = a->beta1 * m[i] + (1 - a->beta1) * g;
        v[i] = a->beta2 * v[i] + (1 - a->beta2) * g * g;
        p[i] -= a->lr / correct1 * m[i] / (sqrt(v[i] / correct2) + a->eps);
    }
    return LIPS_OK;
}
