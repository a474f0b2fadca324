#include "measure/lanczos.h"

#include "base/random.h"

#include <lapacke.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHECK_EVERY = 5, /* the small eigenproblem is solved after so many products */
    DRAWN = 1 << 16, /* places of a starting vector at a time, on their way to the backend */
    GROUP = 32,      /* basis vectors that memory is taken for at a time: most spaces end early */
    GROUPS = (LIPS_LANCZOS_STEPS + GROUP) / GROUP
};

typedef struct search {
    const lips_lanczos_args *a;
    lips_eigenpairs *out;
    int64_t steps;         /* of one space, at most */
    double *basis[GROUPS]; /* (GROUP, n) each, steps + 1 vectors in all; NULL: not needed yet */
    double *alpha, *beta;
    double *ritz, *s; /* (steps) ascending, (steps,steps) eigenvectors of T by column */
    double *off;      /* (steps) for dstev */
    double *shared;   /* what ops give, the host's after a sync: */
    double *along;    /* (1) product with the last vector, */
    double *square;   /* (k) squared lengths, */
    double *on_found; /* (k) products with the found pairs, */
    double *on_basis; /* (steps) and with the basis */
    double scale;     /* largest |eigenvalue| seen */
    int64_t used;     /* steps of the current space */
    bool exhausted;   /* the space is invariant */
} search;

/* ---- vectors ---- */

static lips_status dots(const search *x, double *out, const double *q, const double *w,
                        int64_t count)
{
    return x->a->be->ops->dots(
        x->a->be, &(lips_dots_args){.out = out, .q = q, .w = w, .count = count, .n = x->a->n});
}

/* w -= Q c for count rows q (count,n). */
static lips_status take_away(const search *x, double *w, const double *q, const double *c,
                             int64_t count)
{
    return x->a->be->ops->combine(
        x->a->be,
        &(lips_combine_args){
            .y = w, .keep = 1, .factor = -1, .q = q, .c = c, .count = count, .n = x->a->n});
}

static lips_status scale_by(const search *x, double *v, double f)
{
    return x->a->be->ops->combine(x->a->be, &(lips_combine_args){.y = v, .keep = f, .n = x->a->n});
}

/* Basis vector number j, whose group there is. */
static double *vector_at(const search *x, int64_t j)
{
    return x->basis[j / GROUP] + j % GROUP * x->a->n;
}

/* Of the first count basis vectors, those in group g. */
static int64_t in_group(int64_t count, int64_t g)
{
    return count - g * GROUP < GROUP ? count - g * GROUP : GROUP;
}

/* w -= Q Q'w for the first count basis vectors. */
static lips_status project_out_basis(const search *x, double *w, int64_t count)
{
    for (int64_t g = 0; g * GROUP < count; g++)
        LIPS_TRY(dots(x, x->on_basis + g * GROUP, x->basis[g], w, in_group(count, g)));
    for (int64_t g = 0; g * GROUP < count; g++)
        LIPS_TRY(take_away(x, w, x->basis[g], x->on_basis + g * GROUP, in_group(count, g)));
    return LIPS_OK;
}

/* w -= Q Q'w for count orthonormal rows q; c (count) shared: Q'w. */
static lips_status project_out(const search *x, double *w, const double *q, double *c,
                               int64_t count)
{
    if (count == 0)
        return LIPS_OK;
    LIPS_TRY(dots(x, c, q, w, count));
    return take_away(x, w, q, c, count);
}

static double length(const double *c, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += c[i] * c[i];
    return sqrt(sum);
}

/* w made orthogonal to the found pairs and to `count` basis vectors; twice where the first time
 * cancelled digits. *norm = |w|; whatever was queued before is there, too. */
static lips_status orthogonalise(search *x, double *w, int64_t count, double *norm)
{
    for (int pass = 0; pass < 3; pass++) {
        const int found = x->out->found;
        LIPS_TRY(project_out(x, w, x->out->vector, x->on_found, found));
        LIPS_TRY(project_out_basis(x, w, count));
        LIPS_TRY(dots(x, x->square, w, w, 1));
        LIPS_TRY(x->a->be->ops->sync(x->a->be));
        *norm = sqrt(*x->square);
        if (!(hypot(length(x->on_found, found), length(x->on_basis, count)) > *norm))
            break; /* also when not a number */
    }
    return LIPS_OK;
}

/* ---- one space ---- */

static lips_status draw(search *x, uint32_t space)
{
    const lips_rng rng = {.seed = 0, .stream = LIPS_STREAM_LANCZOS, .epoch = space};
    const lips_ops *ops = x->a->be->ops;
    lips_status st = LIPS_OK;
    double *v = malloc(DRAWN * sizeof *v);
    if (!v)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a starting vector");
    for (int64_t at = 0; at < x->a->n; at += DRAWN) {
        const int64_t count = x->a->n - at < DRAWN ? x->a->n - at : DRAWN;
        for (int64_t i = 0; i < count; i++)
            v[i] = lips_rng_normal(&rng, (uint64_t)(at + i));
        LIPS_TRY_GOTO(st, ops->put(x->a->be, vector_at(x, 0) + at, v, (size_t)count * sizeof *v),
                      out);
    }
out:
    free(v);
    return st;
}

/* Memory of basis vector number j. */
static lips_status need_group(search *x, int64_t j)
{
    const int64_t count = in_group(x->steps + 1, j / GROUP);
    void *memory = NULL;
    if (x->basis[j / GROUP])
        return LIPS_OK;
    LIPS_TRY(x->a->be->ops->alloc(x->a->be, &memory, (size_t)(count * x->a->n) * sizeof(double)));
    x->basis[j / GROUP] = memory;
    return LIPS_OK;
}

/* First basis vector: random, a different one for each space. *left = false: nothing is left beside
 * the found pairs. */
static lips_status start(search *x, uint32_t space, bool *left)
{
    double norm;
    LIPS_TRY(need_group(x, 0));
    LIPS_TRY(draw(x, space));
    LIPS_TRY(orthogonalise(x, vector_at(x, 0), 0, &norm));
    *left = norm > 0;
    x->used = 0;
    x->exhausted = false;
    return *left ? scale_by(x, vector_at(x, 0), 1 / norm) : LIPS_OK;
}

/* One product: A v_j = beta_{j-1} v_{j-1} + alpha_j v_j + beta_j v_{j+1}. */
static lips_status step(search *x)
{
    const int64_t j = x->used;
    LIPS_TRY(need_group(x, j + 1));
    double *v = vector_at(x, j), *w = vector_at(x, j + 1);
    LIPS_TRY(x->a->apply(x->a->user, w, v));
    x->out->iterations++;
    /* The large part first, so that the full pass rarely needs a second. */
    LIPS_TRY(project_out(x, w, v, x->along, 1));
    if (j > 0)
        LIPS_TRY(take_away(x, w, vector_at(x, j - 1), &x->beta[j - 1], 1));
    LIPS_TRY(orthogonalise(x, w, j + 1, &x->beta[j]));
    x->alpha[j] = *x->along;
    x->scale = fmax(x->scale, fabs(x->alpha[j]) + x->beta[j]);
    x->used = j + 1;
    x->exhausted = !(x->beta[j] > 1e-14 * x->scale) || x->out->found + x->used == x->a->n;
    return x->exhausted ? LIPS_OK : scale_by(x, w, 1 / x->beta[j]);
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
static lips_status put(search *x, int64_t from, int64_t count, int at)
{
    int64_t n = x->a->n, m = x->used;
    double *y = x->out->vector + at * n;
    for (int64_t i = 0; i < count; i++) {
        for (int64_t g = 0; g * GROUP < m; g++)
            LIPS_TRY(x->a->be->ops->combine(
                x->a->be, &(lips_combine_args){.y = y + i * n,
                                               .keep = g > 0,
                                               .factor = 1,
                                               .q = x->basis[g],
                                               .c = &x->s[(m - 1 - from - i) * m + g * GROUP],
                                               .count = in_group(m, g),
                                               .n = n}));
        LIPS_TRY(dots(x, &x->square[i], y + i * n, y + i * n, 1));
    }
    LIPS_TRY(x->a->be->ops->sync(x->a->be));
    for (int64_t i = 0; i < count; i++) {
        LIPS_TRY(scale_by(x, y + i * n, 1 / sqrt(x->square[i])));
        x->out->value[at + i] = theta(x, from + i);
    }
    x->out->found = (int)(at + count);
    return LIPS_OK;
}

/* Pair `at` moves up to its place among the larger ones before it; through the basis vector that
 * the last product left. */
static lips_status sift(const search *x, int at)
{
    const lips_eigenpairs *e = x->out;
    const lips_ops *ops = x->a->be->ops;
    const size_t bytes = (size_t)e->n * sizeof(double);
    double *spare = vector_at(x, x->used);
    for (; at > 0 && e->value[at] > e->value[at - 1]; at--) {
        double *a = e->vector + (at - 1) * e->n, *b = a + e->n, value = e->value[at];
        e->value[at] = e->value[at - 1];
        e->value[at - 1] = value;
        LIPS_TRY(ops->copy(x->a->be, spare, a, bytes));
        LIPS_TRY(ops->copy(x->a->be, a, b, bytes));
        LIPS_TRY(ops->copy(x->a->be, b, spare, bytes));
    }
    return LIPS_OK;
}

/* Takes over what the space has found. *better: another space may hold more. */
static lips_status merge(search *x, bool *better)
{
    lips_eigenpairs *e = x->out;
    int old = e->found, missing = x->a->k - old;
    *better = missing > 0;
    if (missing > 0) {
        LIPS_TRY(put(x, 0, missing < x->used ? missing : x->used, old));
        for (int i = old; i < e->found; i++)
            LIPS_TRY(sift(x, i));
        return LIPS_OK;
    }
    /* The pair that is pushed out was orthogonal to the new one: nothing else changes. A Ritz value
     * is never above the eigenvalue, so a larger one is nearer, converged or not. */
    for (int64_t i = 0; i < x->a->k && i < x->used; i++) {
        if (theta(x, i) <= e->value[old - 1] + x->a->noise * x->scale)
            break;
        LIPS_TRY(put(x, i, 1, old - 1));
        LIPS_TRY(sift(x, old - 1));
        *better = true;
    }
    return LIPS_OK;
}

/* |A y - l y| / |l| of every pair, by one product each: with the rounding that the products have.
 */
static lips_status measure_residuals(search *x)
{
    lips_eigenpairs *e = x->out;
    double *w = vector_at(x, 0);
    for (int i = 0; i < e->found; i++) {
        LIPS_TRY(x->a->apply(x->a->user, w, e->vector + i * e->n));
        LIPS_TRY(take_away(x, w, e->vector + i * e->n, &e->value[i], 1));
        LIPS_TRY(dots(x, &x->square[i], w, w, 1));
    }
    LIPS_TRY(x->a->be->ops->sync(x->a->be));
    for (int i = 0; i < e->found; i++) {
        double r = sqrt(x->square[i]);
        e->residual[i] = r == 0 ? 0 : e->value[i] == 0 ? NAN : r / fabs(e->value[i]);
    }
    return LIPS_OK;
}

/* ---- all spaces ---- */

static int64_t shared_count(int64_t steps, int k)
{
    return 1 + 2 * k + steps;
}

static lips_status take(search *x)
{
    const lips_lanczos_args *a = x->a;
    const lips_ops *ops = a->be->ops;
    lips_eigenpairs *e = x->out;
    const size_t m = (size_t)x->steps, n = (size_t)a->n, k = (size_t)a->k;
    void *vector = NULL, *shared = NULL;
    e->be = a->be;
    e->value = calloc(k, sizeof(double));
    e->residual = calloc(k, sizeof(double));
    x->alpha = calloc(m * (m + 4), sizeof(double));
    if (!e->value || !e->residual || !x->alpha)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for eigenvalues");
    LIPS_TRY(ops->alloc(a->be, &vector, k * n * sizeof(double)));
    e->vector = vector;
    LIPS_TRY(
        ops->alloc_shared(a->be, &shared, (size_t)shared_count(x->steps, a->k) * sizeof(double)));
    x->along = x->shared = shared;
    x->square = x->along + 1;
    x->on_found = x->square + k;
    x->on_basis = x->on_found + k;
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
    return 8.0 * ((double)n * (double)(steps_of(n) + 1 + k) + (double)shared_count(steps_of(n), k));
}

int64_t lips_lanczos_vectors(int64_t n, int k)
{
    const int64_t steps = steps_of(n), most = steps < GROUP ? steps : GROUP;
    return most > k ? most : k;
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
        bool left, better;
        LIPS_TRY_GOTO(st, start(&x, space, &left), out);
        if (!left)
            break;
        LIPS_TRY_GOTO(st, run_space(&x, &broken), out);
        if (broken)
            break;
        LIPS_TRY_GOTO(st, merge(&x, &better), out);
        if (a->k == 1 || (!better && out->found >= a->k))
            break;
    }
    if (!broken)
        LIPS_TRY_GOTO(st, measure_residuals(&x), out);
    if (broken) {
        out->found = a->k;
        for (int i = 0; i < a->k; i++)
            out->value[i] = out->residual[i] = NAN;
        LIPS_TRY_GOTO(
            st,
            a->be->ops->zero(a->be, out->vector, (size_t)a->k * (size_t)a->n * sizeof *out->vector),
            out);
    }
out:
    for (int g = 0; g < GROUPS; g++)
        a->be->ops->release(a->be, x.basis[g]);
    a->be->ops->release(a->be, x.shared);
    free(x.alpha);
    if (st != LIPS_OK)
        lips_eigenpairs_free(out);
    return st;
}

void lips_eigenpairs_free(lips_eigenpairs *e)
{
    free(e->value);
    free(e->residual);
    if (e->vector)
        e->be->ops->release(e->be, e->vector);
    *e = (lips_eigenpairs){0};
}
