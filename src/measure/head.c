#include "measure/head.h"

#include "measure/maps.h"

#include <math.h>

static bool squared(const lips_survey *s)
{
    return s->args->network.loss == LIPS_LOSS_MSE;
}

double lips_head(const lips_survey *s, int64_t i, const double *z, double *p, double *rest,
                 double *u)
{
    const lips_inputs *in = &s->args->inputs;
    int64_t k = s->k, y = s->no_class ? -1 : lips_survey_class(s, i);
    double loss = 0;
    lips_softmax(p, rest, z, k);
    if (!u)
        return 0;
    for (int64_t j = 0; j < k; j++) {
        double target =
            in->target ? (double)in->target[lips_survey_row(s, i) * k + j] : (double)(j == y);
        if (squared(s))
            u[j] = z[j] - target;
        else
            u[j] = j == y ? -rest[j] : p[j];
        loss += 0.5 * u[j] * u[j];
    }
    return squared(s) ? loss : lips_cross_entropy(z, k, y);
}

void lips_head_curve(const lips_survey *s, const double *p, double *d)
{
    int64_t r = 0;
    double mean = 0;
    if (squared(s))
        return;
    /* A common shift of d changes nothing; with the likeliest class at 0, what is left near
     * interpolation is of the size of 1 - p_r, to full relative precision. */
    for (int64_t j = 1; j < s->k; j++)
        r = p[j] > p[r] ? j : r;
    double shift = d[r];
    for (int64_t j = 0; j < s->k; j++) {
        d[j] -= shift;
        mean += p[j] * d[j];
    }
    for (int64_t j = 0; j < s->k; j++)
        d[j] = p[j] * (d[j] - mean);
}

double lips_head_trace(const lips_survey *s, const double *p, const double *theta, double *maps,
                       double *work)
{
    int64_t k = s->k;
    double sum = 0;
    if (squared(s))
        return lips_trace_of(theta, k);
    /* S = A' diag(p) A with A = I - 1 p': tr(S theta) = sum_j p_j (A theta A')_jj, no term
     * negative. */
    lips_map_log_softmax(maps, theta, p, k, work);
    for (int64_t j = 0; j < k; j++)
        sum += p[j] * maps[j * k + j];
    return sum < 0 ? 0 : sum;
}

double lips_head_curvature(const lips_survey *s, const double *p, const double *rest)
{
    double most = 0;
    for (int64_t j = 0; j < s->k; j++)
        most = fmax(most, p[j] * rest[j]);
    return squared(s) ? 1 : most;
}
