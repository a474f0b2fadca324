#include "measure/eigen.h"

#include "base/per_isa.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
    LANES = 8,       /* matrices side by side: one AVX-512 register of doubles */
    BISECTIONS = 57, /* Gershgorin's interval is at most 6 |A| wide: 6 * 2^-57 is below rounding */
    PRODUCT_MAX = 16 /* up to here the determinants of T - x's leading blocks stay far from over-
                        and underflow */
};

/* One double of each of the LANES matrices; aligned as a double, scratch is the caller's. */
typedef double lane __attribute__((vector_size(LANES * sizeof(double)), aligned(8), may_alias));

/* Squared columns below this, of a matrix scaled to entries in [1/2,1], count as zero: a relative
 * change of 1e-145, and the reflection's 2 / (v'v) stays finite. */
static const double NEGLIGIBLE = 1e-290;

typedef struct tridiagonal {
    lane *d, *e2;        /* diagonal (k), squared off-diagonal (k): e2[0] = 0 couples nothing */
    double scale[LANES]; /* power of two taken out */
    bool finite[LANES], zero[LANES];
} tridiagonal;

size_t lips_eigen_scratch(int64_t k)
{
    /* matrix (k,k), d, e2, v, p: all per lane */
    return (size_t)(k * k + 4 * k) * LANES;
}

/* Interleaves up to LANES matrices into m, each scaled by a power of two to a largest entry in
 * [1/2, 1). */
static void load(tridiagonal *t, lane *m, const double *a, int64_t count, int64_t k)
{
    for (int l = 0; l < LANES; l++) {
        const double *src = a + (l < count ? l : 0) * k * k;
        double largest = 0;
        bool finite = true;
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j <= i; j++) {
                double v = fabs(src[i * k + j]);
                finite = finite && v <= DBL_MAX;
                largest = v > largest ? v : largest;
            }
        int exponent = 0;
        if (finite)
            frexp(largest, &exponent);
        /* Both powers must be numbers. An entry beyond 2^1000 or below 2^-1000 leaves room to
         * spare. */
        exponent = exponent > 1000 ? 1000 : exponent < -1000 ? -1000 : exponent;
        double down = ldexp(1.0, -exponent);
        t->finite[l] = finite;
        t->zero[l] = largest == 0;
        t->scale[l] = ldexp(1.0, exponent);
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j <= i; j++) {
                double v = finite ? src[i * k + j] * down : 0.0;
                ((double *)&m[i * k + j])[l] = v;
                ((double *)&m[j * k + i])[l] = v;
            }
    }
}

/* The Householder vector v (n) that maps the column x (n) onto -sign(x_0) |x| e_1, in every lane; v
 * is scaled so that the reflection is 1 - v v' * beta. Lanes whose column is zero below its first
 * entry get beta = 0. */
static void reflector(lane *v, lane *beta, lane *e, const lane *x, int64_t stride, int64_t n)
{
    lane below = {0};
    for (int64_t i = 1; i < n; i++) {
        v[i] = x[i * stride];
        below += v[i] * v[i];
    }
    for (int l = 0; l < LANES; l++) {
        double x0 = ((const double *)x)[l];
        double rest = ((double *)&below)[l], all = rest + x0 * x0;
        bool reflect = rest > 0 && all > NEGLIGIBLE;
        double alpha = x0 > 0 ? -sqrt(all) : sqrt(all);
        double v0 = x0 - alpha;
        ((double *)e)[l] = reflect ? alpha : (all > NEGLIGIBLE ? x0 : 0.0);
        ((double *)v)[l] = reflect ? v0 : 0.0;
        ((double *)beta)[l] = reflect ? 2.0 / (rest + v0 * v0) : 0.0;
    }
}

/* Householder reduction of m (k,k, destroyed); work (2k). */
static void reduce(tridiagonal *t, lane *m, lane *work, int64_t k)
{
    lane *v = work, *p = work + k;
    t->e2[0] = (lane){0};
    for (int64_t j = 0; j < k; j++) {
        t->d[j] = m[j * k + j];
        int64_t n = k - j - 1;
        if (n == 0)
            break;
        lane *sub = m + (j + 1) * k + j + 1, beta, e;
        reflector(v, &beta, &e, m + (j + 1) * k + j, k, n);
        t->e2[j + 1] = e * e;
        /* sub -= v w' + w v' with p = beta sub v, w = p - (beta/2)(p'v) v */
        lane pv = {0};
        for (int64_t r = 0; r < n; r++) {
            lane s = {0};
            for (int64_t c = 0; c < n; c++)
                s += sub[r * k + c] * v[c];
            p[r] = s * beta;
            pv += p[r] * v[r];
        }
        lane half = pv * beta * 0.5;
        for (int64_t r = 0; r < n; r++)
            p[r] -= half * v[r];
        for (int64_t r = 0; r < n; r++)
            for (int64_t c = 0; c < n; c++)
                sub[r * k + c] -= v[r] * p[c] + p[r] * v[c];
    }
}

/* Gershgorin's interval, a little wider than rounding needs. */
static void enclose(double lo[LANES], double hi[LANES], const tridiagonal *t, int64_t k)
{
    for (int l = 0; l < LANES; l++) {
        double least = INFINITY, most = -INFINITY, left = 0;
        for (int64_t i = 0; i < k; i++) {
            double right = i + 1 < k ? sqrt(((const double *)&t->e2[i + 1])[l]) : 0;
            double d = ((const double *)&t->d[i])[l];
            least = d - left - right < least ? d - left - right : least;
            most = d + left + right > most ? d + left + right : most;
            left = right;
        }
        double slack = 0x1p-50 * (fabs(least) > fabs(most) ? fabs(least) : fabs(most));
        lo[l] = least - slack;
        hi[l] = most + slack;
    }
}

/* below = number of eigenvalues of T that are less than x: sign changes in the determinants of the
 * leading blocks of T - x (a Sturm chain), without a division. Plain loops over the lanes, the
 * count in doubles: what compilers turn into SSE2, where a comparison of wide vector types is taken
 * apart. */
static void count_by_products(double below[LANES], const tridiagonal *t, const double x[LANES],
                              int64_t k)
{
    double last[LANES], before[LANES], n[LANES];
    const double *d = (const double *)t->d, *e2 = (const double *)t->e2;
    for (int l = 0; l < LANES; l++) {
        last[l] = d[l] - x[l];
        before[l] = 1;
        n[l] = last[l] < 0 ? 1.0 : 0.0;
    }
    for (int64_t i = 1; i < k; i++)
        for (int l = 0; l < LANES; l++) {
            double now = (d[i * LANES + l] - x[l]) * last[l] - e2[i * LANES + l] * before[l];
            before[l] = last[l];
            last[l] = now;
            n[l] += now * before[l] < 0 ? 1.0 : 0.0;
        }
    memcpy(below, n, sizeof n);
}

/* The same by the ratios of neighbours: negative pivots. A zero pivot makes the next one -inf,
 * which IEEE arithmetic carries through correctly because e2 is kept away from 0. */
static void count_by_pivots(double below[LANES], const tridiagonal *t, const double x[LANES],
                            int64_t k)
{
    double q[LANES], n[LANES] = {0};
    const double *d = (const double *)t->d, *e2 = (const double *)t->e2;
    for (int l = 0; l < LANES; l++)
        q[l] = INFINITY;
    for (int64_t i = 0; i < k; i++)
        for (int l = 0; l < LANES; l++) {
            q[l] = d[i * LANES + l] - x[l] - (e2[i * LANES + l] + 1e-300) / q[l];
            n[l] += q[l] < 0 ? 1.0 : 0.0;
        }
    memcpy(below, n, sizeof n);
}

/* Eigenvalue number nth (0 = smallest) of the tridiagonal matrices. */
static void bisect(double out[LANES], const tridiagonal *t, int64_t k, int64_t nth)
{
    double lo[LANES], hi[LANES], mid[LANES], below[LANES];
    enclose(lo, hi, t, k);
    for (int step = 0; step < BISECTIONS; step++) {
        for (int l = 0; l < LANES; l++)
            mid[l] = lo[l] + (hi[l] - lo[l]) * 0.5;
        if (k <= PRODUCT_MAX)
            count_by_products(below, t, mid, k);
        else
            count_by_pivots(below, t, mid, k);
        for (int l = 0; l < LANES; l++) {
            bool left = below[l] > (double)nth;
            hi[l] = left ? mid[l] : hi[l];
            lo[l] = left ? lo[l] : mid[l];
        }
    }
    for (int l = 0; l < LANES; l++)
        out[l] = lo[l] + (hi[l] - lo[l]) * 0.5;
}

static double unscale(const tridiagonal *t, int l, double x)
{
    if (!t->finite[l])
        return NAN;
    return t->zero[l] ? 0.0 : x * t->scale[l];
}

static void split_scratch(tridiagonal *t, lane **m, lane **work, double *scratch, int64_t k)
{
    *m = (lane *)scratch;
    t->d = *m + k * k;
    t->e2 = t->d + k;
    *work = t->e2 + k;
}

PER_ISA void lips_eigen_max(double *out, const double *a, int64_t n, int64_t k, double *scratch)
{
    for (int64_t first = 0; first < n; first += LANES) {
        int64_t count = n - first < LANES ? n - first : LANES;
        tridiagonal t;
        lane *m, *work;
        double top[LANES];
        split_scratch(&t, &m, &work, scratch, k);
        load(&t, m, a + first * k * k, count, k);
        reduce(&t, m, work, k);
        bisect(top, &t, k, k - 1);
        for (int l = 0; l < count; l++)
            out[first + l] = k == 1 && t.finite[l] ? a[first + l] : unscale(&t, l, top[l]);
    }
}

void lips_eigen_all(double *out, const double *a, int64_t k, double *scratch)
{
    tridiagonal t;
    lane *m, *work;
    double value[LANES];
    split_scratch(&t, &m, &work, scratch, k);
    load(&t, m, a, 1, k);
    reduce(&t, m, work, k);
    for (int64_t i = 0; i < k; i++) {
        bisect(value, &t, k, i);
        out[i] = unscale(&t, 0, value[0]);
    }
}
