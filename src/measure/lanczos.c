#include "measure/lanczos.h"

#include "base/random.h"
#include "backend/vector.h"

#include <lapacke.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHECK_EVERY = 5, /* the small eigenproblem is solved after so many products */
    CHUNK = 1024 /* doubles of each basis vector at a time: with the vector worked on, in the first
                    cache */
};

typedef struct search {
    const lips_lanczos_args *a;
    lips_eigenpairs *out;
    int64_t steps; /* of one space, at most */
    double *basis; /* (steps + 1, n) */
    double *alpha, *beta;
    double *ritz, *s; /* (steps) ascending, (steps,steps) eigenvectors of T by column */
    double *off;      /* (steps) for dstev */
    double scale;     /* largest |eigenvalue| seen */
    int64_t used;     /* steps of the current space */
    bool exhausted;   /* the space is invariant */
} search;

/* w -= Q Q'w for count orthonormal rows q (count,n), by chunks that stay in the cache. Returns the
 * removed length. */
static double project_out(double *w, const double *q, int64_t count, int64_t n)
{
    double c[LIPS_LANCZOS_STEPS + 1] = {0}, removed = 0;
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t len = n - at < CHUNK ? n - at : CHUNK;
        for (int64_t i = 0; i < count; i++)
            c[i] += lips_dot(q + i * n + at, w + at, len);
    }
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t len = n - at < CHUNK ? n - at : CHUNK;
        for (int64_t i = 0; i < count; i++)
            lips_axpy(w + at, -c[i], q + i * n + at, len);
    }
    for (int64_t i = 0; i < count; i++)
        removed += c[i] * c[i];
    return sqrt(removed);
}

/* w made orthogonal to the found pairs and to `count` basis vectors; twice where the first time
 * cancelled digits. Returns its norm. */
static double orthogonalise(search *x, double *w, int64_t count)
{
    int64_t n = x->a->n;
    double norm = 0;
    for (int pass = 0; pass < 3; pass++) {
        double a = project_out(w, x->out->vector, x->out->found, n);
        double b = project_out(w, x->basis, count, n);
        norm = sqrt(lips_dot(w, w, n));
        if (!(hypot(a, b) > norm)) /* also when not a number */
            break;
    }
    return norm;
}

static void scale_by(double *v, double f, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        v[i] *= f;
}

/* First basis vector: random, a different one for each space. False: nothing is left beside the
 * found pairs. */
static bool start(search *x, uint32_t space)
{
    const lips_rng rng = {.seed = 0, .stream = LIPS_STREAM_LANCZOS, .epoch = space};
    for (int64_t i = 0; i < x->a->n; i++)
        x->basis[i] = lips_rng_normal(&rng, (uint64_t)i);
    double norm = orthogonalise(x, x->basis, 0);
    if (!(norm > 0))
        return false;
    scale_by(x->basis, 1 / norm, x->a->n);
    x->used = 0;
    x->exhausted = false;
    return true;
}

/* One product: A v_j = beta_{j-1} v_{j-1} + alpha_j v_j + beta_j v_{j+1}. */
static lips_status step(search *x)
{
    int64_t n = x->a->n, j = x->used;
    double *v = x->basis + j * n, *w = v + n;
    LIPS_TRY(x->a->apply(x->a->user, w, v));
    x->out->iterations++;
    x->alpha[j] = lips_dot(v, w, n);
    /* The large part first, so that the full pass rarely needs a second. */
    lips_axpy(w, -x->alpha[j], v, n);
    if (j > 0)
        lips_axpy(w, -x->beta[j - 1], v - n, n);
    x->beta[j] = orthogonalise(x, w, j + 1);
    x->scale = fmax(x->scale, fabs(x->alpha[j]) + x->beta[j]);
    x->used = j + 1;
    x->exhausted = !(x->beta[j] > 1e-14 * x->scale) || x->out->found + x->used == n;
    if (!x->exhausted)
        scale_by(w, 1 / x->beta[j], n);
    return LIPS_OK;
}

/* Eigenpairs of T (used,used). */
static lips_status solve(search *x)
{
    int64_t m = x->used;
    memcpy(x->ritz, x->alpha, (size_t)m * sizeof *x->ritz);
    memcpy(x->off, x->beta, (size_t)m * sizeof *x->off); /* destroyed */
    lapack_int info =
        LAPACKE_dstev(LAPACK_COL_MAJOR, 'V', (lapack_int)m, x->ritz, x->off, x->s, (lapack_int)m);
    if (info != 0)
        return lips_fail(LIPS_ERR_RUNTIME, "eigenvalues: dstev failed (%d)", (int)info);
    return LIPS_OK;
}

/* |A y - theta y| of Ritz pair number i from above, but for the products' rounding. */
static double residual(const search *x, int64_t i)
{
    int64_t m = x->used;
    return x->exhausted ? 0 : fabs(x->beta[m - 1] * x->s[(m - 1 - i) * m + m - 1]);
}

static double theta(const search *x, int64_t i)
{
    return x->ritz[x->used - 1 - i];
}

static bool converged(const search *x, int64_t i)
{
    return residual(x, i) <= fmax(x->a->tolerance * fabs(theta(x, i)), x->a->noise * x->scale);
}

/* Is there enough in the current space? */
static bool enough(const search *x)
{
    int missing = x->a->k - x->out->found;
    if (missing <= 0)
        return converged(x, 0);
    for (int64_t i = 0; i < missing; i++)
        if (i >= x->used || !converged(x, i))
            return false;
    return true;
}

/* Ritz pairs from..from+count-1 from above become pairs number at.. */
static void put(search *x, int64_t from, int64_t count, int at)
{
    int64_t n = x->a->n, m = x->used;
    double *y = x->out->vector + at * n;
    memset(y, 0, (size_t)(count * n) * sizeof *y);
    for (int64_t c = 0; c < n; c += CHUNK)
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = 0; j < m; j++)
                lips_axpy(y + i * n + c, x->s[(m - 1 - from - i) * m + j], x->basis + j * n + c,
                          n - c < CHUNK ? n - c : CHUNK);
    for (int64_t i = 0; i < count; i++) {
        scale_by(y + i * n, 1 / sqrt(lips_dot(y + i * n, y + i * n, n)), n);
        x->out->value[at + i] = theta(x, from + i);
    }
    x->out->found = (int)(at + count);
}

/* Pair `at` moves up to its place among the larger ones before it. */
static void sift(lips_eigenpairs *e, int at)
{
    for (; at > 0 && e->value[at] > e->value[at - 1]; at--) {
        double *a = e->vector + (at - 1) * e->n, *b = a + e->n, value = e->value[at];
        e->value[at] = e->value[at - 1];
        e->value[at - 1] = value;
        for (int64_t i = 0; i < e->n; i++) {
            double t = a[i];
            a[i] = b[i];
            b[i] = t;
        }
    }
}

/* Takes over what the space has found. Returns whether another space may hold more. */
static bool merge(search *x)
{
    lips_eigenpairs *e = x->out;
    int old = e->found, missing = x->a->k - old;
    if (missing > 0) {
        put(x, 0, missing < x->used ? missing : x->used, old);
        for (int i = old; i < e->found; i++)
            sift(e, i);
        return true;
    }
    bool better = false;
    /* The pair that is pushed out was orthogonal to the new one: nothing else changes. A Ritz value
     * is never above the eigenvalue, so a larger one is nearer, converged or not. */
    for (int64_t i = 0; i < x->a->k && i < x->used; i++) {
        if (theta(x, i) <= e->value[old - 1] + x->a->noise * x->scale)
            break;
        put(x, i, 1, old - 1);
        sift(e, old - 1);
        better = true;
    }
    return better;
}

/* |A y - l y| / |l| of every pair, by one product each: with the rounding that the products have.
 */
static lips_status measure_residuals(search *x)
{
    lips_eigenpairs *e = x->out;
    double *w = x->basis;
    for (int i = 0; i < e->found; i++) {
        LIPS_TRY(x->a->apply(x->a->user, w, e->vector + i * e->n));
        lips_axpy(w, -e->value[i], e->vector + i * e->n, e->n);
        double r = sqrt(lips_dot(w, w, e->n));
        e->residual[i] = r == 0 ? 0 : e->value[i] == 0 ? NAN : r / fabs(e->value[i]);
    }
    return LIPS_OK;
}

static lips_status take(search *x)
{
    const lips_lanczos_args *a = x->a;
    lips_eigenpairs *e = x->out;
    size_t m = (size_t)x->steps, n = (size_t)a->n, k = (size_t)a->k;
    e->value = calloc(k, sizeof(double));
    e->residual = calloc(k, sizeof(double));
    e->vector = malloc(k * n * sizeof(double));
    x->basis = malloc((m + 1) * n * sizeof(double));
    x->alpha = calloc(m * (m + 4), sizeof(double));
    if (!e->value || !e->residual || !e->vector || !x->basis || !x->alpha)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for eigenvectors: %.0f MB",
                         lips_lanczos_bytes(a->n, a->k) / 1e6);
    x->beta = x->alpha + m;
    x->ritz = x->beta + m;
    x->off = x->ritz + m;
    x->s = x->off + m;
    return LIPS_OK;
}

static int64_t steps_of(int64_t n)
{
    int64_t steps = (int64_t)(LIPS_LANCZOS_BYTES / (8.0 * (double)n)) - 1;
    steps = steps < LIPS_LANCZOS_STEPS ? steps : LIPS_LANCZOS_STEPS;
    steps = steps < n ? steps : n;
    return steps < 1 ? 1 : steps;
}

double lips_lanczos_bytes(int64_t n, int k)
{
    return 8.0 * (double)n * (double)(steps_of(n) + 1 + k);
}

/* One Krylov space. *broken: a product was not a number. */
static lips_status run_space(search *x, bool *broken)
{
    for (;;) {
        LIPS_TRY(step(x));
        *broken = !isfinite(x->alpha[x->used - 1]) || !isfinite(x->beta[x->used - 1]);
        if (*broken)
            return LIPS_OK;
        bool last =
            x->exhausted || x->used == x->steps || x->out->iterations == LIPS_LANCZOS_PRODUCTS;
        if (!last && x->used % CHECK_EVERY)
            continue;
        LIPS_TRY(solve(x));
        if (last || enough(x))
            return LIPS_OK;
    }
}

lips_status lips_lanczos(lips_eigenpairs *out, const lips_lanczos_args *a)
{
    search x = {.a = a, .out = out, .steps = steps_of(a->n)};
    lips_status st = LIPS_OK;
    bool broken = false;
    *out = (lips_eigenpairs){.n = a->n};
    LIPS_TRY_GOTO(st, take(&x), out);
    for (uint32_t space = 0; out->iterations < LIPS_LANCZOS_PRODUCTS && out->found < a->n;
         space++) {
        if (!start(&x, space))
            break;
        LIPS_TRY_GOTO(st, run_space(&x, &broken), out);
        if (broken)
            break;
        bool better = merge(&x);
        if (a->k == 1 || (!better && out->found >= a->k))
            break;
    }
    if (!broken)
        LIPS_TRY_GOTO(st, measure_residuals(&x), out);
    if (broken) {
        out->found = a->k;
        for (int i = 0; i < a->k; i++)
            out->value[i] = out->residual[i] = NAN;
        memset(out->vector, 0, (size_t)a->k * (size_t)a->n * sizeof *out->vector);
    }
out:
    free(x.basis);
    free(x.alpha);
    if (st != LIPS_OK)
        lips_eigenpairs_free(out);
    return st;
}

void lips_eigenpairs_free(lips_eigenpairs *e)
{
    free(e->value);
    free(e->residual);
    free(e->vector);
    *e = (lips_eigenpairs){0};
}
