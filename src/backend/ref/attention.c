/*
 * ref: dot-product attention. For one head of one sample, with a = 1/sqrt(d), i queries, j keys,
 * S[i][j] = a sum_c q[c][i] k[c][j], P = softmax over j, and D(P,u) = P (u - sum_j P u):
 *
 *   forward   y[c][i] = sum_j P[i][j] v[c][j]
 *   jvp       P' = D(P, S'),  y' = P' v + P v'
 *   vjp       dP[i][j] = sum_c dy[c][i] v[c][j],  dS = D(P, dP);
 *             dq = a dS k,  dk = a dS'q,  dv = P'dy           (here ' transposes)
 *   vjp_dot   the derivative of these three along (q',k',v'), dy held: with P' of the jvp,
 *             dP' = dy v' and r = sum_j P dP:
 *             dS' = P' (dP - r) + P (dP' - sum_j (P' dP + P dP')), then by the product rule
 */
#include "backend/ref/ref.h"

#include <math.h>

enum { Q, K, V, MATRICES = 4 };

typedef struct head {
    const lips_attn_args *a;
    int64_t s, first, d, n; /* sample; its first channel of q; channels; tokens */
    double scale;
    double *p, *ds, *p_dot, *ds_dot; /* (N,N) */
} head;

/* Stacked value t of part (Q, K or V) of a (3C,H,W) tensor: channel c of the head, token i. */
static double *part(const head *h, const lips_tensor *x, int which, int64_t c, int64_t i, int64_t t)
{
    return ref_at(x, h->s, which * (x->c / 3) + h->first + c, 0, 0) + i * x->t + t;
}

/* The same of a (C,H,W) tensor. */
static double *out(const head *h, const lips_tensor *y, int64_t c, int64_t i, int64_t t)
{
    return ref_at(y, h->s, h->first + c, 0, 0) + i * y->t + t;
}

static head head_at(const lips_attn_args *a, int64_t s, int64_t number)
{
    int64_t n = a->y.h * a->y.w, d = a->y.c / a->heads;
    double *work = a->work;
    return (head){.a = a,
                  .s = s,
                  .first = number * d,
                  .d = d,
                  .n = n,
                  .scale = 1 / sqrt((double)d),
                  .p = work,
                  .ds = work + n * n,
                  .p_dot = work + 2 * n * n,
                  .ds_dot = work + 3 * n * n};
}

size_t ref_attn_workspace(lips_backend *be, const lips_attn_args *a)
{
    (void)be;
    size_t n = (size_t)(a->y.h * a->y.w);
    return lips_check_attn_plan(a) == LIPS_OK ? MATRICES * n * n * sizeof(double) : 0;
}

/* p = softmax of the scores of in. */
static void probabilities(const head *h, const lips_tensor *in)
{
    for (int64_t i = 0; i < h->n; i++) {
        double *p = h->p + i * h->n, most = -INFINITY, sum = 0;
        for (int64_t j = 0; j < h->n; j++) {
            p[j] = 0;
            for (int64_t c = 0; c < h->d; c++)
                p[j] += h->scale * *part(h, in, Q, c, i, 0) * *part(h, in, K, c, j, 0);
            most = p[j] > most ? p[j] : most;
        }
        for (int64_t j = 0; j < h->n; j++)
            sum += p[j] = exp(p[j] - most);
        for (int64_t j = 0; j < h->n; j++)
            p[j] /= sum;
    }
}

/* u = D(P, u), row by row. */
static void soften(const head *h, double *u)
{
    for (int64_t i = 0; i < h->n; i++, u += h->n) {
        const double *p = h->p + i * h->n;
        double mean = 0;
        for (int64_t j = 0; j < h->n; j++)
            mean += p[j] * u[j];
        for (int64_t j = 0; j < h->n; j++)
            u[j] = p[j] * (u[j] - mean);
    }
}

/* m = P' along stacked value t of dot. */
static void probabilities_dot(const head *h, double *m, const lips_tensor *in,
                              const lips_tensor *dot, int64_t t)
{
    for (int64_t i = 0; i < h->n; i++)
        for (int64_t j = 0; j < h->n; j++) {
            double s = 0;
            for (int64_t c = 0; c < h->d; c++)
                s += *part(h, dot, Q, c, i, t) * *part(h, in, K, c, j, 0) +
                     *part(h, in, Q, c, i, 0) * *part(h, dot, K, c, j, t);
            m[i * h->n + j] = h->scale * s;
        }
    soften(h, m);
}

/* m[i][j] = sum_c dy[c][i] v[c][j] */
static void pull_values(const head *h, double *m, const lips_tensor *values, int64_t t)
{
    for (int64_t i = 0; i < h->n; i++)
        for (int64_t j = 0; j < h->n; j++) {
            m[i * h->n + j] = 0;
            for (int64_t c = 0; c < h->d; c++)
                m[i * h->n + j] += *out(h, &h->a->y, c, i, t) * *part(h, values, V, c, j, 0);
        }
}

/* Calls run for every head of every sample. */
static lips_status each_head(const lips_attn_args *a, void (*run)(const head *h))
{
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t number = 0; number < a->heads; number++) {
            head h = head_at(a, s, number);
            run(&h);
        }
    return LIPS_OK;
}

static void forward(const head *h)
{
    probabilities(h, &h->a->x);
    for (int64_t c = 0; c < h->d; c++)
        for (int64_t i = 0; i < h->n; i++) {
            double sum = 0;
            for (int64_t j = 0; j < h->n; j++)
                sum += h->p[i * h->n + j] * *part(h, &h->a->x, V, c, j, 0);
            *out(h, &h->a->y, c, i, 0) = sum;
        }
}

lips_status ref_attn_forward(lips_backend *be, const lips_attn_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_attn(LIPS_FORWARD, a));
    LIPS_TRY(ref_layout("attn_forward", &a->x));
    return each_head(a, forward);
}

static void jvp(const head *h)
{
    const lips_tensor *in = h->a->in, *xdot = &h->a->x;
    probabilities(h, in);
    for (int64_t t = 0; t < xdot->t; t++) {
        probabilities_dot(h, h->p_dot, in, xdot, t);
        for (int64_t c = 0; c < h->d; c++)
            for (int64_t i = 0; i < h->n; i++) {
                double sum = 0;
                for (int64_t j = 0; j < h->n; j++)
                    sum += h->p_dot[i * h->n + j] * *part(h, in, V, c, j, 0) +
                           h->p[i * h->n + j] * *part(h, xdot, V, c, j, t);
                *out(h, &h->a->y, c, i, t) = sum;
            }
    }
}

lips_status ref_attn_jvp(lips_backend *be, const lips_attn_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_attn(LIPS_JVP, a));
    LIPS_TRY(ref_layout("attn_jvp", &a->x));
    return each_head(a, jvp);
}

static void vjp(const head *h)
{
    const lips_tensor *in = h->a->in, *dx = &h->a->x;
    probabilities(h, in);
    for (int64_t t = 0; t < dx->t; t++) {
        pull_values(h, h->ds, in, t);
        soften(h, h->ds);
        for (int64_t c = 0; c < h->d; c++)
            for (int64_t i = 0; i < h->n; i++) {
                double dq = 0, dk = 0, dv = 0;
                for (int64_t j = 0; j < h->n; j++) {
                    dq += h->ds[i * h->n + j] * *part(h, in, K, c, j, 0);
                    dk += h->ds[j * h->n + i] * *part(h, in, Q, c, j, 0);
                    dv += h->p[j * h->n + i] * *out(h, &h->a->y, c, j, t);
                }
                *part(h, dx, Q, c, i, t) = h->scale * dq;
                *part(h, dx, K, c, i, t) = h->scale * dk;
                *part(h, dx, V, c, i, t) = dv;
            }
    }
}

lips_status ref_attn_vjp(lips_backend *be, const lips_attn_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_attn(LIPS_VJP, a));
    LIPS_TRY(ref_layout("attn_vjp", &a->x));
    return each_head(a, vjp);
}

/* ds = dP and ds_dot = dP' become dS and dS'. */
static void soften_dot(const head *h)
{
    for (int64_t i = 0; i < h->n; i++) {
        const double *p = h->p + i * h->n, *p_dot = h->p_dot + i * h->n;
        double *u = h->ds + i * h->n, *u_dot = h->ds_dot + i * h->n, mean = 0, mean_dot = 0;
        for (int64_t j = 0; j < h->n; j++) {
            mean += p[j] * u[j];
            mean_dot += p_dot[j] * u[j] + p[j] * u_dot[j];
        }
        for (int64_t j = 0; j < h->n; j++) {
            u_dot[j] = p_dot[j] * (u[j] - mean) + p[j] * (u_dot[j] - mean_dot);
            u[j] = p[j] * (u[j] - mean);
        }
    }
}

static void vjp_dot(const head *h)
{
    const lips_tensor *in = h->a->in, *dot = h->a->dot, *dx = &h->a->x;
    probabilities(h, in);
    probabilities_dot(h, h->p_dot, in, dot, 0);
    pull_values(h, h->ds, in, 0);
    pull_values(h, h->ds_dot, dot, 0);
    soften_dot(h);
    for (int64_t c = 0; c < h->d; c++)
        for (int64_t i = 0; i < h->n; i++) {
            double dq = 0, dk = 0, dv = 0;
            for (int64_t j = 0; j < h->n; j++) {
                int64_t ij = i * h->n + j, ji = j * h->n + i;
                dq += h->ds_dot[ij] * *part(h, in, K, c, j, 0) +
                      h->ds[ij] * *part(h, dot, K, c, j, 0);
                dk += h->ds_dot[ji] * *part(h, in, Q, c, j, 0) +
                      h->ds[ji] * *part(h, dot, Q, c, j, 0);
                dv += h->p_dot[ji] * *out(h, &h->a->y, c, j, 0);
            }
            *part(h, dx, Q, c, i, 0) = h->scale * dq;
            *part(h, dx, K, c, i, 0) = h->scale * dk;
            *part(h, dx, V, c, i, 0) = dv;
        }
}

lips_status ref_attn_vjp_dot(lips_backend *be, const lips_attn_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_attn(LIPS_VJP_DOT, a));
    LIPS_TRY(ref_layout("attn_vjp_dot", &a->x));
    return each_head(a, vjp_dot);
}
