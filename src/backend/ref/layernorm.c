/*
 * ref: layer normalisation. For one place of one sample, over its C channels, with m their mean, v
 * their biased variance, r = 1/sqrt(v + eps), xhat = (x - m) r and P(u) = u - mean(u) - xhat
 * mean(xhat u):
 *
 *   forward   y = gamma xhat + beta
 *   jvp       ydot = gamma r P(xdot)
 *   vjp       dx = r P(gamma dy)
 *   grad      dgamma = sum dy xhat,   dbeta = sum dy            over samples and places
 *   vjp_dot   with u = gamma dy, xhat' = r P(dot), r' = -r^2 mean(xhat dot):
 *             (r'/r) dx - r (xhat' mean(xhat u) + xhat mean(xhat' u))
 *   grad_dot  dgamma = sum dy xhat'
 */
#include "backend/ref/ref.h"

#include <math.h>

typedef struct place {
    double mean, r;
} place;

/* Stacked value t of channel c at the place p of sample s. */
static double *at(const lips_tensor *x, int64_t s, int64_t c, int64_t p, int64_t t)
{
    return ref_at(x, s, c, 0, 0) + p * x->t + t;
}

/* Two passes: E[x^2] - E[x]^2 loses all digits where the mean is large against the deviation. */
static place statistics(const lips_tensor *x, double eps, int64_t s, int64_t p)
{
    double mean = 0, var = 0;
    for (int64_t c = 0; c < x->c; c++)
        mean += *at(x, s, c, p, 0);
    mean /= (double)x->c;
    for (int64_t c = 0; c < x->c; c++)
        var += (*at(x, s, c, p, 0) - mean) * (*at(x, s, c, p, 0) - mean);
    return (place){mean, 1 / sqrt(var / (double)x->c + eps)};
}

static double hat(const lips_tensor *x, const place *st, int64_t s, int64_t c, int64_t p)
{
    return (*at(x, s, c, p, 0) - st->mean) * st->r;
}

lips_status ref_ln_forward(lips_backend *be, const lips_ln_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_ln(LIPS_FORWARD, a));
    LIPS_TRY(ref_layout("ln_forward", &a->x));
    const double *gamma = a->gamma, *beta = a->beta;
    for (int64_t s = 0; s < a->x.b; s++)
        for (int64_t p = 0; p < a->x.h * a->x.w; p++) {
            place st = statistics(&a->x, a->eps, s, p);
            for (int64_t c = 0; c < a->x.c; c++)
                *at(&a->y, s, c, p, 0) = gamma[c] * hat(&a->x, &st, s, c, p) + beta[c];
        }
    return LIPS_OK;
}

/* out = after r P(before in) for one place and one stacked value; before, after: gamma or NULL for
 * 1. */
static void project(const lips_ln_args *a, const lips_tensor *out, const lips_tensor *in,
                    const double *before, const double *after, int64_t s, int64_t p, int64_t t)
{
    place st = statistics(a->in, a->eps, s, p);
    double mean = 0, along = 0, n = (double)in->c;
    for (int64_t c = 0; c < in->c; c++) {
        double u = (before ? before[c] : 1) * *at(in, s, c, p, t);
        mean += u / n;
        along += u * hat(a->in, &st, s, c, p) / n;
    }
    for (int64_t c = 0; c < in->c; c++) {
        double u = (before ? before[c] : 1) * *at(in, s, c, p, t);
        *at(out, s, c, p, t) =
            (after ? after[c] : 1) * st.r * (u - mean - hat(a->in, &st, s, c, p) * along);
    }
}

lips_status ref_ln_jvp(lips_backend *be, const lips_ln_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_ln(LIPS_JVP, a));
    LIPS_TRY(ref_layout("ln_jvp", &a->x));
    for (int64_t s = 0; s < a->x.b; s++)
        for (int64_t p = 0; p < a->x.h * a->x.w; p++)
            for (int64_t t = 0; t < a->x.t; t++)
                project(a, &a->y, &a->x, NULL, a->gamma, s, p, t);
    return LIPS_OK;
}

lips_status ref_ln_vjp(lips_backend *be, const lips_ln_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_ln(LIPS_VJP, a));
    LIPS_TRY(ref_layout("ln_vjp", &a->x));
    for (int64_t s = 0; s < a->x.b; s++)
        for (int64_t p = 0; p < a->x.h * a->x.w; p++)
            for (int64_t t = 0; t < a->x.t; t++)
                project(a, &a->x, &a->y, a->gamma, NULL, s, p, t);
    return LIPS_OK;
}

/* Derivatives of <dy_t, y> with respect to gamma and beta of channel c, for one sample. */
static void parameter_derivatives(const lips_ln_args *a, int64_t s, int64_t c, int64_t t,
                                  double *dgamma, double *dbeta)
{
    *dgamma = *dbeta = 0;
    for (int64_t p = 0; p < a->x.h * a->x.w; p++) {
        place st = statistics(&a->x, a->eps, s, p);
        *dgamma += *at(&a->y, s, c, p, t) * hat(&a->x, &st, s, c, p);
        *dbeta += *at(&a->y, s, c, p, t);
    }
}

lips_status ref_ln_grad(lips_backend *be, const lips_ln_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_ln(LIPS_GRAD, a));
    LIPS_TRY(ref_layout("ln_grad", &a->x));
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

lips_status ref_ln_gram(lips_backend *be, const lips_ln_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_ln(LIPS_GRAM, a));
    LIPS_TRY(ref_layout("ln_gram", &a->x));
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

/* What moves with the input's tangent at one place: means over its channels. */
typedef struct moving {
    place st;
    double dot, hat_dot; /* mean(dot), mean(xhat dot) */
} moving;

static moving motion(const lips_ln_args *a, int64_t s, int64_t p)
{
    moving m = {.st = statistics(a->in, a->eps, s, p)};
    for (int64_t c = 0; c < a->in->c; c++) {
        double v = *at(a->dot, s, c, p, 0) / (double)a->in->c;
        m.dot += v;
        m.hat_dot += v * hat(a->in, &m.st, s, c, p);
    }
    return m;
}

/* xhat' = r P(dot) */
static double moved_hat(const lips_ln_args *a, const moving *m, int64_t s, int64_t c, int64_t p)
{
    return m->st.r * (*at(a->dot, s, c, p, 0) - m->dot - hat(a->in, &m->st, s, c, p) * m->hat_dot);
}

lips_status ref_ln_vjp_dot(lips_backend *be, const lips_ln_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_ln(LIPS_VJP_DOT, a));
    LIPS_TRY(ref_layout("ln_vjp_dot", &a->x));
    const double *gamma = a->gamma;
    double n = (double)a->x.c;
    for (int64_t s = 0; s < a->x.b; s++)
        for (int64_t p = 0; p < a->x.h * a->x.w; p++) {
            moving m = motion(a, s, p);
            double mean = 0, along = 0, along_moved = 0; /* of u, xhat u, xhat' u */
            for (int64_t c = 0; c < a->x.c; c++) {
                double u = gamma[c] * *at(&a->y, s, c, p, 0) / n;
                mean += u;
                along += u * hat(a->in, &m.st, s, c, p);
                along_moved += u * moved_hat(a, &m, s, c, p);
            }
            for (int64_t c = 0; c < a->x.c; c++) {
                double h = hat(a->in, &m.st, s, c, p), u = gamma[c] * *at(&a->y, s, c, p, 0);
                double scale = -m.st.r * m.hat_dot; /* r'/r */
                *at(&a->x, s, c, p, 0) =
                    m.st.r * (scale * (u - mean - h * along) - moved_hat(a, &m, s, c, p) * along -
                              h * along_moved);
            }
        }
    return LIPS_OK;
}

lips_status ref_ln_grad_dot(lips_backend *be, const lips_ln_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_ln(LIPS_GRAD_DOT, a));
    LIPS_TRY(ref_layout("ln_grad_dot", &a->y));
    double *dgamma = a->dgamma;
    for (int64_t c = 0; c < a->y.c; c++)
        for (int64_t s = 0; s < a->y.b; s++)
            for (int64_t p = 0; p < a->y.h * a->y.w; p++) {
                moving m = motion(a, s, p);
                dgamma[c] += *at(&a->y, s, c, p, 0) * moved_hat(a, &m, s, c, p);
            }
    return LIPS_OK;
}
