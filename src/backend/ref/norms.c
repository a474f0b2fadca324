/* ref: norms from small Gram matrices; eigenvalues by Jacobi's rotations. */
#include "backend/ref/ref.h"

#include <math.h>
#include <stdbool.h>

enum { K = LIPS_NORMS_MAX, SWEEPS = 60 };

typedef struct matrix {
    double v[K][K];
    int64_t k;
} matrix;

/* Largest entry off the diagonal against the largest on it. */
static bool diagonal(const matrix *m)
{
    double on = 0, off = 0;
    for (int64_t i = 0; i < m->k; i++)
        for (int64_t j = 0; j <= i; j++) {
            double *most = i == j ? &on : &off;
            *most = fmax(*most, fabs(m->v[i][j]));
        }
    return !(off > 1e-17 * on);
}

/* The rotation in the plane of i and j that makes entry (i,j) zero (Golub & Van Loan 8.5). */
static void rotate(matrix *m, int64_t i, int64_t j)
{
    if (m->v[i][j] == 0)
        return;
    double tau = (m->v[j][j] - m->v[i][i]) / (2 * m->v[i][j]);
    double t = (tau >= 0 ? 1 : -1) / (fabs(tau) + sqrt(1 + tau * tau));
    double c = 1 / sqrt(1 + t * t), s = t * c;
    for (int64_t r = 0; r < m->k; r++) {
        double a = m->v[r][i], b = m->v[r][j];
        m->v[r][i] = c * a - s * b;
        m->v[r][j] = s * a + c * b;
    }
    for (int64_t r = 0; r < m->k; r++) {
        double a = m->v[i][r], b = m->v[j][r];
        m->v[i][r] = c * a - s * b;
        m->v[j][r] = s * a + c * b;
    }
    m->v[i][j] = m->v[j][i] = 0;
}

static double largest_eigenvalue(matrix *m)
{
    double most = m->v[0][0];
    for (int64_t i = 0; i < m->k; i++)
        for (int64_t j = 0; j < m->k; j++)
            if (!isfinite(m->v[i][j]))
                return NAN;
    for (int sweep = 0; sweep < SWEEPS && !diagonal(m); sweep++)
        for (int64_t i = 0; i < m->k; i++)
            for (int64_t j = i + 1; j < m->k; j++)
                rotate(m, i, j);
    for (int64_t i = 0; i < m->k; i++)
        most = fmax(i ? most : m->v[0][0], m->v[i][i]);
    return most;
}

/* A g A' with A = I - 1 p'. A does not see a common shift of J's rows: with the likeliest row taken
 * off, what is left is of the size of the result, also where p is near a unit vector. */
static void centre(matrix *m, const double *p)
{
    int64_t k = m->k, r = 0;
    double mean[K], both = 0;
    matrix g = *m;
    for (int64_t i = 1; i < k; i++)
        r = p[i] > p[r] ? i : r;
    for (int64_t i = 0; i < k; i++) {
        mean[i] = 0;
        for (int64_t j = 0; j < k; j++) {
            m->v[i][j] = (g.v[i][j] - g.v[i][r]) - (g.v[r][j] - g.v[r][r]);
            mean[i] += m->v[i][j] * p[j];
        }
        both += mean[i] * p[i];
    }
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++)
            m->v[i][j] -= mean[i] + mean[j] - both;
}

static void map(matrix *m, lips_output_map kind, const double *p)
{
    int64_t k = m->k;
    if (kind == LIPS_MAP_VECTOR) {
        double sum = 0;
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < k; j++)
                sum += p[i] * m->v[i][j] * p[j];
        m->v[0][0] = sum;
        m->k = 1;
    }
    if (kind == LIPS_MAP_SOFTMAX || kind == LIPS_MAP_LOG_SOFTMAX || kind == LIPS_MAP_TRACE)
        centre(m, p);
    if (kind == LIPS_MAP_TRACE) { /* S = A' diag(p) A */
        double sum = 0;
        for (int64_t i = 0; i < k; i++)
            sum += p[i] * m->v[i][i];
        m->v[0][0] = sum;
        m->k = 1;
    }
    for (int64_t i = 0; kind == LIPS_MAP_SOFTMAX && i < k; i++)
        for (int64_t j = 0; j < k; j++)
            m->v[i][j] *= p[i] * p[j];
}

static double root(double x)
{
    return x < 0 ? 0 : sqrt(x);
}

lips_status ref_norms(lips_backend *be, const lips_norms_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_norms(a));
    const int64_t rows = a->rows ? a->rows : a->n;
    for (int64_t s = 0; s < a->n; s++) {
        matrix m = {.k = a->k};
        double trace = 0;
        for (int64_t i = 0; i < a->k * a->k; i++)
            m.v[i / a->k][i % a->k] = a->g[s * a->k * a->k + i];
        map(&m, a->map, a->p ? a->p + s % rows * a->k : NULL);
        for (int64_t i = 0; i < m.k; i++)
            trace += m.v[i][i];
        a->op[s] = root(largest_eigenvalue(&m));
        a->fro[s] = root(trace);
    }
    return LIPS_OK;
}
