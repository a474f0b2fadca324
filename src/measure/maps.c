#include "measure/maps.h"

#include <math.h>
#include <stdlib.h>

void lips_softmax(double *p, double *rest, const double *z, int64_t k)
{
    double top = z[0], sum = 0;
    for (int64_t i = 1; i < k; i++)
        top = z[i] > top ? z[i] : top;
    for (int64_t i = 0; i < k; i++) {
        p[i] = exp(z[i] - top); /* a NaN anywhere reaches the sum, and so every p */
        sum += p[i];
    }
    for (int64_t i = 0; i < k; i++)
        p[i] /= sum;
    for (int64_t i = 0; i < k; i++) {
        rest[i] = isnan(p[i]) ? NAN : 0;
        for (int64_t j = 0; j < k; j++)
            rest[i] += j == i ? 0 : p[j];
    }
}

double lips_cross_entropy(const double *z, int64_t k, int64_t y)
{
    double top = z[0], others = 0;
    for (int64_t i = 1; i < k; i++)
        top = z[i] > top ? z[i] : top;
    if (z[y] == top) {
        for (int64_t i = 0; i < k; i++)
            others += i == y ? 0 : exp(z[i] - top);
        return log1p(others);
    }
    for (int64_t i = 0; i < k; i++)
        others += exp(z[i] - top);
    return log(others) + (top - z[y]);
}

void lips_map_log_softmax(double *out, const double *g, const double *p, int64_t k, double *work)
{
    int64_t r = 0;
    double both = 0; /* p' G' p */
    for (int64_t i = 1; i < k; i++)
        r = p[i] > p[r] ? i : r;
    /* A does not see a common shift of J's rows: with J_r taken off, row r of G' is 0 and what is
     * left of it below is of the size of 1 - p_r, to full relative precision. */
    for (int64_t i = 0; i < k; i++) {
        double s = 0;
        for (int64_t j = 0; j < k; j++) {
            double shifted = (g[i * k + j] - g[i * k + r]) - (g[r * k + j] - g[r * k + r]);
            out[i * k + j] = shifted;
            s += shifted * p[j];
        }
        work[i] = s;
        both += s * p[i];
    }
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++)
            out[i * k + j] = out[i * k + j] - (work[i] + work[j] - both);
}

void lips_map_softmax(double *out, const double *g, const double *p, int64_t k, double *work)
{
    /* S = diag(p) A and S = S', so S G S = diag(p) (A G A') diag(p). */
    lips_map_log_softmax(out, g, p, k, work);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++)
            out[i * k + j] *= p[i] * p[j];
}

double lips_trace_of(const double *g, int64_t k)
{
    double t = 0;
    for (int64_t i = 0; i < k; i++)
        t += g[i * k + i];
    return t;
}

double lips_quadratic(const double *g, const double *u, int64_t k)
{
    double q = 0;
    for (int64_t i = 0; i < k; i++) {
        double s = 0;
        for (int64_t j = 0; j < k; j++)
            s += g[i * k + j] * u[j];
        q += u[i] * s;
    }
    return q < 0 ? 0 : q; /* rounding may go below; NaN stays */
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The root in (sorted[i], sorted[i+1]) of the secular function, which rises from -inf to inf there.
 * The unknown is the distance from the left end, so that close probabilities lose nothing. */
static double secular_root(const double *sorted, int64_t k, int64_t i)
{
    double base = sorted[i], lo = 0, hi = sorted[i + 1] - base;
    for (;;) {
        double mid = lo + (hi - lo) * 0.5, f = 0;
        if (mid <= lo || mid >= hi)
            break; /* neighbours: every digit is settled, also of a root far below hi */
        for (int64_t j = 0; j < k; j++)
            f += sorted[j] / ((sorted[j] - base) - mid);
        if (f > 0)
            hi = mid;
        else
            lo = mid;
    }
    return base + lo;
}

lips_logit_hessian lips_logit_hessian_of(const double *p, const double *rest, int64_t k,
                                         double *work)
{
    lips_logit_hessian h = {.min_nonzero = NAN};
    for (int64_t i = 0; i < k; i++) {
        work[i] = p[i];
        h.trace += p[i] * rest[i];
    }
    if (isnan(h.trace)) {
        h.max = NAN;
        return h;
    }
    qsort(work, (size_t)k, sizeof *work, ascending);
    if (k > 1) {
        h.max = secular_root(work, k, k - 2);
        h.min_nonzero = k == 2 ? h.max : secular_root(work, k, 0);
    }
    return h;
}
