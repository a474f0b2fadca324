#include "report/claim_stats.h"

#include <math.h>
#include <stdlib.h>

/* Means of ranks, 1 for the smallest; equal numbers share theirs. */
static double rank_of(const double *v, int64_t n, int64_t i)
{
    double below = 0, same = 0;
    for (int64_t k = 0; k < n; k++) {
        below += v[k] < v[i];
        same += v[k] == v[i];
    }
    return below + (same + 1) / 2;
}

typedef struct pair_sums {
    double x, y, xx, yy, xy;
    int64_t n;
} pair_sums;

/* Sums of products about the means. */
static pair_sums moments(const double *x, const double *y, int64_t n)
{
    pair_sums s = {.n = n};
    for (int64_t i = 0; i < n; i++) {
        s.x += x[i] / (double)n;
        s.y += y[i] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        s.xx += (x[i] - s.x) * (x[i] - s.x);
        s.yy += (y[i] - s.y) * (y[i] - s.y);
        s.xy += (x[i] - s.x) * (y[i] - s.y);
    }
    return s;
}

double lips_rank_correlation(const double *x, const double *y, int64_t n, int64_t least)
{
    double *a = malloc((size_t)(4 * n + 1) * sizeof *a), *b = a + n, *ra = b + n, *rb = ra + n;
    int64_t m = 0;
    if (!a)
        return NAN;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(x[i]) && isfinite(y[i])) {
            a[m] = x[i];
            b[m++] = y[i];
        }
    for (int64_t i = 0; i < m; i++) {
        ra[i] = rank_of(a, m, i);
        rb[i] = rank_of(b, m, i);
    }
    pair_sums s = moments(ra, rb, m);
    free(a);
    return m >= least && s.xx > 0 && s.yy > 0 ? s.xy / sqrt(s.xx * s.yy) : NAN;
}

double lips_log_slope(const double *x, const double *y, int64_t n, int64_t least)
{
    double *a = malloc((size_t)(2 * n + 1) * sizeof *a), *b = a + n;
    int64_t m = 0;
    if (!a)
        return NAN;
    for (int64_t i = 0; i < n; i++)
        if (x[i] > 0 && y[i] > 0 && isfinite(x[i]) && isfinite(y[i])) {
            a[m] = log(x[i]);
            b[m++] = log(y[i]);
        }
    pair_sums s = moments(a, b, m);
    free(a);
    return m >= least && s.xx > 0 ? s.xy / s.xx : NAN;
}

/* The 97.5 % quantile of Student's t: exact to its digits up to 10 degrees of freedom, beyond by
 * the Cornish-Fisher series about the normal quantile (off by less than 0.002). */
static double t_quantile(int64_t df)
{
    static const double exact[] = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706,
                                   2.4469,  2.3646, 2.3060, 2.2622, 2.2281};
    const double z = 1.959964, d = (double)df, z3 = z * z * z;
    if (df <= 10)
        return exact[df - 1];
    return z + (z3 + z) / (4 * d) + (5 * z3 * z * z + 16 * z3 + 3 * z) / (96 * d * d);
}

lips_interval lips_interval_of(const double *v, int64_t n)
{
    lips_interval s = {.mean = NAN, .min = NAN, .max = NAN, .lo = NAN, .hi = NAN};
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(v[i]))
            continue;
        s.min = s.n == 0 || v[i] < s.min ? v[i] : s.min;
        s.max = s.n == 0 || v[i] > s.max ? v[i] : s.max;
        s.n++;
        double off = v[i] - sum;
        sum += off / (double)s.n;
        squares += off * (v[i] - sum);
    }
    if (s.n > 0)
        s.mean = sum;
    if (s.n > 1) {
        double half = t_quantile(s.n - 1) * sqrt(squares / (double)(s.n - 1)) / sqrt((double)s.n);
        s.lo = sum - half;
        s.hi = sum + half;
    }
    return s;
}

/* Place of the least finite number in [from, to); -1: none. */
static int64_t lowest(const double *v, int64_t from, int64_t to)
{
    int64_t best = -1;
    for (int64_t i = from; i < to; i++)
        if (isfinite(v[i]) && (best < 0 || v[i] < v[best]))
            best = i;
    return best;
}

double lips_prominence(const double *v, const double *guide, int64_t n, int64_t *peak)
{
    double most = 0, out = NAN;
    for (int64_t i = 1; i + 1 < n; i++) {
        int64_t left = lowest(guide, 0, i), right = lowest(guide, i + 1, n);
        if (left < 0 || right < 0 || !isfinite(guide[i]))
            continue;
        double rise = fmin(guide[i] - guide[left], guide[i] - guide[right]);
        if (!(rise > most))
            continue;
        most = rise;
        *peak = i;
        out = isfinite(v[left]) && isfinite(v[i]) && isfinite(v[right])
                  ? fmin(v[i] - v[left], v[i] - v[right])
                  : NAN;
    }
    return out;
}
