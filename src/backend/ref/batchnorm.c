/*
 * ref: batch normalisation. With n values per channel (over samples and positions), m their mean,
 * v their biased variance, r = 1/sqrt(v + eps) and xhat = (x - m) r:
 *
 *   forward   y = gamma xhat + beta
 *   jvp       dy = gamma r (dx - mean(dx) - xhat mean(xhat dx))          mean over the n values
 *   vjp       dx = gamma r (dy - mean(dy) - xhat mean(xhat dy))          (the map is symmetric)
 *   grad      dgamma = sum dy xhat,   dbeta = sum dy
 *
 * In evaluation mode m and v are the running statistics, constants, and the two means vanish.
 */
#include "backend/ref/ref.h"

#include <math.h>

typedef struct channel {
    double mean, r;
} channel;

static channel statistics(const lips_bn_args *a, int64_t c)
{
    double mean = a->training ? a->batch_mean[c] : ((const double *)a->mean)[c];
    double var = a->training ? a->batch_var[c] : ((const double *)a->var)[c];
    return (channel){mean, 1 / sqrt(var + a->eps)};
}

/* Two passes: E[x^2] - E[x]^2 loses all digits where the mean is large against the deviation. */
static void measure_channel(const lips_bn_args *a, int64_t c)
{
    int64_t area = a->x.h * a->x.w;
    double n = (double)(a->x.b * area), mean = 0, var = 0;
    for (int64_t s = 0; s < a->x.b; s++)
        for (int64_t i = 0; i < area; i++)
            mean += ref_at(&a->x, s, c, 0, 0)[i];
    mean /= n;
    for (int64_t s = 0; s < a->x.b; s++)
        for (int64_t i = 0; i < area; i++) {
            double d = ref_at(&a->x, s, c, 0, 0)[i] - mean;
            var += d * d;
        }
    var /= n;
    double *running_mean = a->mean, *running_var = a->var, m = a->momentum;
    running_mean[c] = (1 - m) * running_mean[c] + m * mean;
    running_var[c] = (1 - m) * running_var[c] + m * (var * n / (n - 1));
    a->batch_mean[c] = mean;
    a->batch_var[c] = var;
}

lips_status ref_bn_forward(lips_backend *be, const lips_bn_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_bn(LIPS_FORWARD, a));
    LIPS_TRY(ref_layout("bn_forward", &a->x));
    const double *gamma = a->gamma, *beta = a->beta;
    for (int64_t c = 0; c < a->x.c; c++) {
        if (a->training)
            measure_channel(a, c);
        channel st = statistics(a, c);
        for (int64_t s = 0; s < a->x.b; s++)
            for (int64_t i = 0; i < a->x.h * a->x.w; i++)
                ref_at(&a->y, s, c, 0, 0)[i] =
                    gamma[c] * (ref_at(&a->x, s, c, 0, 0)[i] - st.mean) * st.r + beta[c];
    }
    if (a->training && a->tracked)
        *(double *)a->tracked += 1;
    return LIPS_OK;
}

/* out = gamma r (in - mean(in) - xhat mean(xhat in)) for one channel and one stacked value. */
static void differential(const lips_bn_args *a, const lips_tensor *out, const lips_tensor *in,
                         int64_t c, int64_t t)
{
    channel st = statistics(a, c);
    double scale = ((const double *)a->gamma)[c] * st.r, mean = 0, along = 0;
    int64_t nt = in->t, area = in->h * in->w;
    double n = (double)(in->b * area);
    for (int64_t s = 0; a->training && s < in->b; s++)
        for (int64_t i = 0; i < area; i++) {
            double v = ref_at(in, s, c, 0, 0)[i * nt + t];
            mean += v / n;
            along += v * (ref_at(a->in, s, c, 0, 0)[i] - st.mean) * st.r / n;
        }
    for (int64_t s = 0; s < in->b; s++)
        for (int64_t i = 0; i < area; i++) {
            double v = ref_at(in, s, c, 0, 0)[i * nt + t];
            if (a->training)
                v -= mean + along * (ref_at(a->in, s, c, 0, 0)[i] - st.mean) * st.r;
            ref_at(out, s, c, 0, 0)[i * nt + t] = scale * v;
        }
}

lips_status ref_bn_jvp(lips_backend *be, const lips_bn_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_bn(LIPS_JVP, a));
    LIPS_TRY(ref_layout("bn_jvp", &a->x));
    for (int64_t c = 0; c < a->x.c; c++)
        for (int64_t t = 0; t < a->x.t; t++)
            differential(a, &a->y, &a->x, c, t);
    return LIPS_OK;
}

lips_status ref_bn_vjp(lips_backend *be, const lips_bn_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_bn(LIPS_VJP, a));
    LIPS_TRY(ref_layout("bn_vjp", &a->x));
    for (int64_t c = 0; c < a->x.c; c++)
        for (int64_t t = 0; t < a->x.t; t++)
            differential(a, &a->x, &a->y, c, t);
    return LIPS_OK;
}

/* Derivatives of <dy_t, y> with respect to gamma and beta of one channel, for one sample. */
static void parameter_derivatives(const lips_bn_args *a, int64_t s, int64_t c, int64_t t,
                                  double *dgamma, double *dbeta)
{
    channel st = statistics(a, c);
    *dgamma = *dbeta = 0;
    for (int64_t i = 0; i < a->x.h * a->x.w; i++) {
        double dy = ref_at(&a->y, s, c, 0, 0)[i * a->y.t + t];
        *dgamma += dy * (ref_at(&a->x, s, c, 0, 0)[i] - st.mean) * st.r;
        *dbeta += dy;
    }
}

lips_status ref_bn_grad(lips_backend *be, const lips_bn_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_bn(LIPS_GRAD, a));
    LIPS_TRY(ref_layout("bn_grad", &a->x));
    double *dgamma = a->dgamma, *dbeta = a->dbeta;
    for (int64_t c = 0; c < a->x.c; c++)
        for (int64_t s = 0; s < a->x.b; s++) {
            double dg, db;
            parameter_derivatives(a, s, c, 0, &dg, &db);
            if (dgamma)
                dgamma[c] += dg;
            if (dbeta)
                dbeta[c] += db;
        }
    return LIPS_OK;
}

lips_status ref_bn_gram(lips_backend *be, const lips_bn_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_bn(LIPS_GRAM, a));
    LIPS_TRY(ref_layout("bn_gram", &a->x));
    int64_t nt = a->y.t;
    for (int64_t s = 0; s < a->x.b; s++)
        for (int64_t c = 0; c < a->x.c; c++)
            for (int64_t t = 0; t < nt; t++)
                for (int64_t u = 0; u < nt; u++) {
                    double gt, bt, gu, bu;
                    parameter_derivatives(a, s, c, t, &gt, &bt);
                    parameter_derivatives(a, s, c, u, &gu, &bu);
                    a->theta[(s * nt + t) * nt + u] += gt * gu + bt * bu;
                }
    return LIPS_OK;
}
