#include "measure/operator.h"

#include "base/random.h"
#include "measure/conv_map.h"
#include "backend/vector.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    ITERATIONS_MAX = 300,
    CHECK_EVERY = 4 /* the small eigenproblem costs more than a product of a narrow layer */
};

/* The squared norm's error is at most this, relative; usually this squared over the gap to the next
 * singular value: Ritz values converge twice as fast as their vectors. */
static const double TOLERANCE = 1e-5;

typedef struct linear_map {
    int64_t rows, cols;
    const double *w;
    lips_conv_map *conv; /* NULL: w is the rows x cols matrix itself */
} linear_map;

static void apply(const linear_map *m, double *y, const double *x, bool transposed)
{
    if (m->conv && transposed)
        lips_conv_map_apply_t(m->conv, y, x);
    else if (m->conv)
        lips_conv_map_apply(m->conv, y, x);
    else if (transposed) {
        memset(y, 0, (size_t)m->cols * sizeof *y);
        for (int64_t i = 0; i < m->rows; i++)
            lips_axpy(y, x[i], m->w + i * m->cols, m->cols);
    } else
        for (int64_t i = 0; i < m->rows; i++)
            y[i] = lips_dot(m->w + i * m->cols, x, m->cols);
}

/* Largest eigenvalue of the Lanczos matrix B'B (k,k tridiagonal: alpha_j^2 + beta_{j-1}^2, alpha_j
 * beta_j) and its residual. */
static lips_status ritz(lips_spectral *out, const double *alpha, const double *beta, int64_t k)
{
    double *d = malloc((size_t)(k * (k + 2)) * sizeof *d);
    if (!d)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a spectral norm");
    double *e = d + k, *z = e + k;
    for (int64_t j = 0; j < k; j++) {
        d[j] = alpha[j] * alpha[j] + (j > 0 ? beta[j - 1] * beta[j - 1] : 0);
        e[j] = alpha[j] * beta[j];
    }
    double last = e[k - 1];
    lapack_int info = LAPACKE_dstev(LAPACK_COL_MAJOR, 'V', (lapack_int)k, d, e, z, (lapack_int)k);
    if (info == 0) {
        double top = d[k - 1];
        out->value = top > 0 ? sqrt(top) : 0;
        out->residual = top > 0 ? fabs(last * z[(k - 1) * k + k - 1]) / top : 0;
        out->iterations = k;
    }
    free(d);
    if (info != 0)
        return lips_fail(LIPS_ERR_RUNTIME, "spectral norm: dstev failed (%d)", (int)info);
    return LIPS_OK;
}

static double normalise(double *v, int64_t n)
{
    double norm = sqrt(lips_dot(v, v, n));
    for (int64_t i = 0; norm > 0 && i < n; i++)
        v[i] /= norm;
    return norm;
}

/* Takes from v its parts along the k basis vectors; once more if little of it was left, since the
 * first pass's rounding is then not small beside what remains ("twice is enough"; Parlett, Kahan).
 */
static void orthogonalise(double *v, const double *basis, int64_t k, int64_t n)
{
    double before = lips_dot(v, v, n), after = 0;
    for (int pass = 0; pass < 2 && after < 0.5 * before; pass++) {
        for (int64_t i = 0; i < k; i++)
            lips_axpy(v, -lips_dot(v, basis + i * n, n), basis + i * n, n);
        after = lips_dot(v, v, n);
    }
}

/* Doubles that golub_kahan takes at most for steps steps: the basis, and two vectors of the larger
 * side. */
static int64_t golub_kahan_count(int64_t steps, int64_t smaller, int64_t larger)
{
    return (steps + 1) * smaller + 2 * larger;
}

static int64_t steps_max(int64_t smaller)
{
    return smaller < ITERATIONS_MAX ? smaller : ITERATIONS_MAX;
}

/* Golub-Kahan: A v_j = alpha_j u_j + beta_{j-1} u_{j-1}, A'u_j = alpha_j v_j + beta_j v_{j+1}, the
 * v_j (on the smaller side) re-orthogonalised in full. flip: A is the transposed map. */
static lips_status golub_kahan(lips_spectral *out, const linear_map *m, bool flip)
{
    int64_t n = flip ? m->rows : m->cols, rows = flip ? m->cols : m->rows;
    int64_t steps = steps_max(n);
    double alpha[ITERATIONS_MAX], beta[ITERATIONS_MAX];
    lips_rng rng = {.seed = 0, .stream = LIPS_STREAM_LANCZOS};
    lips_status st = LIPS_OK;
    double *basis = malloc((size_t)golub_kahan_count(steps, n, rows) * sizeof *basis);
    if (!basis)
        return lips_fail(LIPS_ERR_MEMORY,
                         "out of memory for a spectral norm (%lld basis vectors of %lld)",
                         (long long)steps, (long long)n);
    double *u = basis + (steps + 1) * n, *au = u + rows;
    memset(u, 0, (size_t)rows * sizeof *u);
    for (int64_t i = 0; i < n; i++)
        basis[i] = lips_rng_normal(&rng, (uint64_t)i);
    normalise(basis, n);
    for (int64_t j = 0; j < steps; j++) {
        double *v = basis + j * n, *next = v + n;
        apply(m, au, v, flip);
        if (j > 0)
            lips_axpy(au, -beta[j - 1], u, rows);
        memcpy(u, au, (size_t)rows * sizeof *u);
        alpha[j] = normalise(u, rows);
        apply(m, next, u, !flip);
        orthogonalise(next, basis, j + 1, n);
        beta[j] = normalise(next, n);
        bool ended = j + 1 == steps || !(beta[j] > 1e-14 * alpha[0]);
        if (ended || (j + 1) % CHECK_EVERY == 0) {
            LIPS_TRY_GOTO(st, ritz(out, alpha, beta, j + 1), out);
            if (ended || out->residual <= TOLERANCE)
                break;
        }
    }
out:
    free(basis);
    return st;
}

static lips_status spectral(lips_spectral *out, const linear_map *m, int64_t weights)
{
    double largest = 0;
    *out = (lips_spectral){.value = 0};
    for (int64_t i = 0; i < weights; i++) {
        if (!isfinite(m->w[i])) {
            *out = (lips_spectral){.value = NAN, .residual = NAN};
            return LIPS_OK;
        }
        largest = fmax(largest, fabs(m->w[i]));
    }
    if (largest == 0)
        return LIPS_OK;
    return golub_kahan(out, m, m->rows < m->cols);
}

lips_status lips_matrix_spectral(lips_spectral *out, const double *w, int64_t rows, int64_t cols)
{
    linear_map m = {.rows = rows, .cols = cols, .w = w};
    return spectral(out, &m, rows * cols);
}

lips_status lips_layer_spectral(lips_spectral *out, const lips_layer_info *g, const double *w)
{
    if (!g->conv)
        return lips_matrix_spectral(out, w, g->o, g->c * g->h * g->w);
    /* Patches apart: the operator is the kernel's matrix, once for each patch. */
    if (g->geom.pad == 0 && g->geom.stride >= g->geom.r)
        return lips_matrix_spectral(out, w, g->o, g->c * g->geom.r * g->geom.r);
    linear_map m = {.rows = g->o * g->oh * g->ow, .cols = g->c * g->h * g->w, .w = w};
    LIPS_TRY(lips_conv_map_create(&m.conv, g, w));
    lips_status st = spectral(out, &m, g->o * g->c * g->geom.r * g->geom.r);
    lips_conv_map_free(m.conv);
    return st;
}

size_t lips_layer_spectral_bytes(const lips_layer_info *g)
{
    int64_t in = g->c * g->h * g->w, out = g->o * g->oh * g->ow;
    int64_t smaller = in < out ? in : out, steps = steps_max(smaller);
    /* The reshaped kernel is smaller on either side. */
    int64_t count = golub_kahan_count(steps, smaller, in < out ? out : in) + steps * (steps + 2);
    return (size_t)count * sizeof(double) + (g->conv ? lips_conv_map_bytes(g) : 0);
}
