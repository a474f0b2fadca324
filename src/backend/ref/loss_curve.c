/* ref: the loss's second derivative at the logits. */
#include "backend/ref/ref.h"

#include <math.h>

/* d (k) = (diag(p) - p p') d, p = softmax(z). A common shift of d changes nothing: with the
 * likeliest class at 0, nothing cancels near interpolation. */
static void curve(double *d, const double *z, int64_t k)
{
    double sum = 0, mean = 0, shift;
    int64_t r = 0;
    for (int64_t j = 1; j < k; j++)
        r = z[j] > z[r] ? j : r;
    shift = d[r];
    for (int64_t j = 0; j < k; j++)
        sum += exp(z[j] - z[r]);
    for (int64_t j = 0; j < k; j++)
        mean += exp(z[j] - z[r]) / sum * (d[j] - shift);
    for (int64_t j = 0; j < k; j++)
        d[j] = exp(z[j] - z[r]) / sum * (d[j] - shift - mean);
}

lips_status ref_loss_curve(lips_backend *be, const lips_loss_curve_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_loss_curve(a));
    LIPS_TRY(ref_layout("loss_curve", &a->z));
    int64_t k = a->z.c;
    for (int64_t s = 0; s < a->y.cap; s++) {
        double *y = ref_at(&a->y, s, 0, 0, 0);
        for (int64_t j = 0; j < k; j++)
            y[j] = s < a->z.b ? ref_at(&a->v, s, j, 0, 0)[0] : 0;
        if (s < a->z.b && a->kind == LIPS_LOSS_CROSS_ENTROPY)
            curve(y, ref_at(&a->z, s, 0, 0, 0), k);
        for (int64_t j = 0; j < k; j++)
            y[j] *= a->scale;
    }
    return LIPS_OK;
}
