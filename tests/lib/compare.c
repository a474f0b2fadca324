#include "compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#ifdef __FAST_MATH__
#error "under fast-math isfinite() is always true and this file accepts NaN"
#endif

cmp_result cmp_vectors(const double *got, const double *want, int64_t n)
{
    cmp_result c = {.n = n, .index = -1};
    double scale = 0, norm = 0, error = 0, worst = -1;
    for (int64_t i = 0; i < n; i++) {
        bool finite = isfinite(got[i]) && isfinite(want[i]);
        double e = finite ? fabs(got[i] - want[i]) : INFINITY;
        c.nonfinite += !finite;
        c.zeros += want[i] == 0;
        if (e > worst) {
            worst = e;
            c.index = i;
            c.got = got[i];
            c.want = want[i];
        }
        scale = fmax(scale, fabs(want[i]));
        norm = hypot(norm, want[i]);
        error = hypot(error, e);
    }
    c.worst = worst <= 0 ? 0 : worst / scale;
    c.rel_l2 = error == 0 ? 0 : error / norm;
    return c;
}

bool cmp_pass(const cmp_result *c, double tol)
{
    /* Says what passing is. Said the other way round ("fail if x > tol"), NaN passes. */
    return c->n > 0 && c->nonfinite == 0 && c->worst <= 10 * tol && c->rel_l2 <= tol;
}

bool cmp_weak(const cmp_result *c)
{
    return c->n >= 20 && (double)c->zeros > 0.9 * (double)c->n;
}

bool cmp_check(const char *what, const double *got, const double *want, int64_t n, double tol)
{
    cmp_result c = cmp_vectors(got, want, n);
    bool pass = cmp_pass(&c, tol);
    if (pass && !cmp_weak(&c))
        return true;
    fprintf(stderr,
            "%s %s: index %" PRId64 " of %" PRId64 ", expected %.17g, got %.17g; worst %.3g, rel "
            "L2 %.3g, tolerance %.3g, non-finite %" PRId64 ", zeros %" PRId64 "\n",
            pass ? "WEAK" : "FAIL", what, c.index, n, c.want, c.got, c.worst, c.rel_l2, tol,
            c.nonfinite, c.zeros);
    return pass;
}
