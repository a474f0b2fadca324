/*
 * cpu/batchnorm.c - batch normalisation. Statistics are f64 sums over the samples in use.
 *
 * With A = gamma/sqrt(var+eps), d = x - mean and averages over (B,H,W):
 *   forward   y = A d + beta
 *   jvp, vjp  u -> A u                                          evaluation mode
 *             u -> A (u - avg(u) - d avg(u d) / (var + eps))    training mode; the map is symmetric
 */
#include "backend/cpu/ops.h"

#include <math.h>

lips_cpu_bn_channel lips_cpu_bn_statistics(const lips_bn_args *a, int64_t c)
{
    double mean = a->training ? a->batch_mean[c] : (double)((const float *)a->mean)[c];
    double var = a->training ? a->batch_var[c] : (double)((const float *)a->var)[c];
    return (lips_cpu_bn_channel){.mean = mean, .inv = 1 / sqrt(var + a->eps)};
}

/* Batch statistics of channel c into batch_mean, batch_var, and the running ones moved. One pass:
 * with center one of the values, x (x - center) is of the order of the variance and of mean * (x -
 * center), and f64 sums of f32 products keep 9 digits of the variance even where mean / sd is 1e6.
 */
static void take_statistics(lips_backend *be, const lips_bn_args *a, int64_t c)
{
    double n = (double)(a->x.b * a->x.h * a->x.w);
    double center = (double)((const float *)a->x.data)[c * a->x.h * a->x.w * a->x.lanes];
    lips_cpu_moments m = lips_cpu_channel_moments(be, &a->x, c, 0, &a->x, center);
    /* sum (x - mean)^2 = sum x (x - center) - mean sum (x - center) */
    double mean = m.sum / n, var = (m.dot - mean * (m.sum - n * center)) / n;
    var = var < 0 ? 0 : var; /* a constant channel, rounded; a NaN stays */
    float *running_mean = a->mean, *running_var = a->var;
    a->batch_mean[c] = mean;
    a->batch_var[c] = var;
    running_mean[c] = (float)((1 - a->momentum) * (double)running_mean[c] + a->momentum * mean);
    running_var[c] =
        (float)((1 - a->momentum) * (double)running_var[c] + a->momentum * var * n / (n - 1));
}

lips_status lips_cpu_bn_forward(lips_backend *be, const lips_bn_args *a)
{
    LIPS_TRY(lips_check_bn(LIPS_FORWARD, a));
    LIPS_TRY(lips_cpu_layout("bn_forward", &a->x));
    int64_t inner = a->x.h * a->x.w * a->x.lanes;
    for (int64_t c = 0; c < a->x.c; c++) {
        if (a->training)
            take_statistics(be, a, c);
        lips_cpu_bn_channel n = lips_cpu_bn_statistics(a, c);
        double scale = (double)((const float *)a->gamma)[c] * n.inv;
        /* x - (float)mean is nearly exact; what the rounding of mean leaves out goes into the
         * shift. */
        float center = (float)n.mean;
        double shift = (double)((const float *)a->beta)[c] - (n.mean - (double)center) * scale;
        for (int64_t s = 0; s < lips_cpu_slabs(&a->x); s++)
            lips_cpu_k(be)->affine(lips_cpu_slab(&a->y, s) + c * inner,
                                   lips_cpu_slab(&a->x, s) + c * inner, center, (float)scale,
                                   (float)shift, inner);
    }
    if (a->training && a->tracked)
        *(float *)a->tracked += 1;
    return LIPS_OK;
}

/* out = A u for channel c, all stacked values. */
static void scale_channel(lips_backend *be, const lips_tensor *out, const lips_tensor *u, int64_t c,
                          double scale)
{
    int64_t inner = u->h * u->w * u->t * u->lanes;
    for (int64_t s = 0; s < lips_cpu_slabs(u); s++)
        lips_cpu_k(be)->affine(lips_cpu_slab(out, s) + c * inner, lips_cpu_slab(u, s) + c * inner,
                               0, (float)scale, 0, inner);
}

/* Training mode, channel c, stacked value t: one pass for the averages, one for the result. */
static void project_channel(lips_backend *be, const lips_tensor *out, const lips_tensor *u,
                            const lips_tensor *in, int64_t c, int64_t t, lips_cpu_bn_channel n,
                            double scale)
{
    double count = (double)(u->b * u->h * u->w);
    lips_cpu_moments m = lips_cpu_channel_moments(be, u, c, t, in, n.mean);
    double avg = m.sum / count, avg_dot = m.dot / count;
    float center = (float)n.mean;
    double slope = -scale * n.inv * n.inv * avg_dot;
    double shift = -scale * avg - (n.mean - (double)center) * slope;
    int64_t positions = u->h * u->w, stride = u->t * u->lanes;
    for (int64_t s = 0; s < lips_cpu_slabs(u); s++)
        for (int64_t lane = 0; lane < u->lanes; lane += LIPS_CPU_LANES) {
            int64_t at = c * positions * stride + t * u->lanes + lane;
            lips_cpu_k(be)->affine2(&(lips_cpu_affine2){
                .y = lips_cpu_slab(out, s) + at,
                .dy = lips_cpu_slab(u, s) + at,
                .dy_stride = stride,
                .x = lips_cpu_slab(in, s) + c * positions * in->lanes + lane,
                .x_stride = in->lanes,
                .n = positions,
                .center = center,
                .a = (float)scale,
                .b = (float)slope,
                .c = (float)shift,
            });
        }
}

static lips_status derivative(lips_backend *be, const lips_bn_args *a, const lips_tensor *out,
                              const lips_tensor *u)
{
    for (int64_t c = 0; c < u->c; c++) {
        lips_cpu_bn_channel n = lips_cpu_bn_statistics(a, c);
        double scale = (double)((const float *)a->gamma)[c] * n.inv;
        if (!a->training)
            scale_channel(be, out, u, c, scale);
        for (int64_t t = 0; a->training && t < u->t; t++)
            project_channel(be, out, u, a->in, c, t, n, scale);
    }
    return LIPS_OK;
}

lips_status lips_cpu_bn_jvp(lips_backend *be, const lips_bn_args *a)
{
    LIPS_TRY(lips_check_bn(LIPS_JVP, a));
    LIPS_TRY(lips_cpu_layout("bn_jvp", &a->x));
    return derivative(be, a, &a->y, &a->x);
}

lips_status lips_cpu_bn_vjp(lips_backend *be, const lips_bn_args *a)
{
    LIPS_TRY(lips_check_bn(LIPS_VJP, a));
    LIPS_TRY(lips_cpu_layout("bn_vjp", &a->x));
    return derivative(be, a, &a->x, &a->y);
}

lips_status lips_cpu_bn_grad(lips_backend *be, const lips_bn_args *a)
{
    LIPS_TRY(lips_check_bn(LIPS_GRAD, a));
    LIPS_TRY(lips_cpu_layout("bn_grad", &a->x));
    for (int64_t c = 0; c < a->y.c; c++) {
        lips_cpu_bn_channel n = lips_cpu_bn_statistics(a, c);
        lips_cpu_moments m = lips_cpu_channel_moments(be, &a->y, c, 0, &a->x, n.mean);
        if (a->dgamma)
            ((float *)a->dgamma)[c] += (float)(m.dot * n.inv);
        if (a->dbeta)
            ((float *)a->dbeta)[c] += (float)m.sum;
    }
    return LIPS_OK;
}
