/* cpu/layernorm.c - layer normalisation over the channels of each place (isa/layernorm.c). */
#include "backend/cpu/ops.h"
#include "backend/cpu/tokens.h"

#include <string.h>

/* Block of 16 lanes number i of t; NULL for none. */
static float *block_of(const lips_tensor *t, int64_t i)
{
    int64_t first = i * LIPS_CPU_LANES;
    return t ? lips_cpu_slab(t, first / t->lanes) + first % t->lanes : NULL;
}

static int64_t blocks_in_use(const lips_tensor *t)
{
    return lips_cpu_slabs(t) * (t->lanes / LIPS_CPU_LANES);
}

/* Samples of block i that are in use. */
static int64_t samples_of(const lips_tensor *t, int64_t i)
{
    int64_t left = t->b - i * LIPS_CPU_LANES;
    return left < 0 ? 0 : left < LIPS_CPU_LANES ? left : LIPS_CPU_LANES;
}

/* Block i; `in` is the primal input, shaped as x but for t. */
static lips_ln_run run_of(const lips_ln_args *a, const lips_tensor *in, const lips_tensor *stacked,
                          int64_t i)
{
    return (lips_ln_run){.in = block_of(in, i),
                         .dot = block_of(a->dot, i),
                         .channels = in->c,
                         .places = in->h * in->w,
                         .t = stacked->t,
                         .lanes = in->lanes,
                         .eps = a->eps};
}

lips_status lips_cpu_ln_forward(lips_backend *be, const lips_ln_args *a)
{
    LIPS_TRY(lips_check_ln(LIPS_FORWARD, a));
    LIPS_TRY(lips_cpu_layout("ln_forward", &a->x));
    for (int64_t i = 0; i < blocks_in_use(&a->x); i++) {
        lips_ln_run run = run_of(a, &a->x, &a->x, i);
        run.y = block_of(&a->y, i);
        run.after = a->gamma;
        run.beta = a->beta;
        lips_cpu_k(be)->tokens->ln_forward(&run);
    }
    return LIPS_OK;
}

lips_status lips_cpu_ln_jvp(lips_backend *be, const lips_ln_args *a)
{
    LIPS_TRY(lips_check_ln(LIPS_JVP, a));
    LIPS_TRY(lips_cpu_layout("ln_jvp", &a->x));
    for (int64_t i = 0; i < blocks_in_use(&a->x); i++) {
        lips_ln_run run = run_of(a, a->in, &a->x, i);
        run.y = block_of(&a->y, i);
        run.x = block_of(&a->x, i);
        run.after = a->gamma;
        lips_cpu_k(be)->tokens->ln_map(&run);
    }
    return LIPS_OK;
}

lips_status lips_cpu_ln_vjp(lips_backend *be, const lips_ln_args *a)
{
    LIPS_TRY(lips_check_ln(LIPS_VJP, a));
    LIPS_TRY(lips_cpu_layout("ln_vjp", &a->x));
    for (int64_t i = 0; i < blocks_in_use(&a->x); i++) {
        lips_ln_run run = run_of(a, a->in, &a->x, i);
        run.y = block_of(&a->x, i);
        run.x = block_of(&a->y, i);
        run.before = a->gamma;
        lips_cpu_k(be)->tokens->ln_map(&run);
    }
    return LIPS_OK;
}

lips_status lips_cpu_ln_vjp_dot(lips_backend *be, const lips_ln_args *a)
{
    LIPS_TRY(lips_check_ln(LIPS_VJP_DOT, a));
    LIPS_TRY(lips_cpu_layout("ln_vjp_dot", &a->x));
    for (int64_t i = 0; i < blocks_in_use(&a->x); i++) {
        lips_ln_run run = run_of(a, a->in, &a->x, i);
        run.y = block_of(&a->x, i);
        run.x = block_of(&a->y, i);
        run.before = a->gamma;
        lips_cpu_k(be)->tokens->ln_vjp_dot(&run);
    }
    return LIPS_OK;
}

static double add_used(const double lane[LIPS_CPU_LANES], int64_t samples)
{
    double total = 0;
    for (int64_t l = 0; l < samples; l++)
        total += lane[l];
    return total;
}

static int64_t part(int64_t places, int64_t first)
{
    return places - first < LIPS_LN_PLACES ? places - first : LIPS_LN_PLACES;
}

lips_status lips_cpu_ln_grad(lips_backend *be, const lips_ln_args *a)
{
    LIPS_TRY(lips_check_ln(LIPS_GRAD, a));
    LIPS_TRY(lips_cpu_layout("ln_grad", &a->x));
    const lips_token_kernels *k = lips_cpu_k(be)->tokens;
    lips_ln_stats st[LIPS_LN_PLACES];
    for (int64_t i = 0; i < blocks_in_use(&a->x); i++) {
        lips_ln_run run = run_of(a, &a->x, &a->y, i);
        const float *dy = block_of(&a->y, i);
        int64_t samples = samples_of(&a->x, i);
        for (int64_t p = 0; p < run.places; p += LIPS_LN_PLACES) {
            int64_t n = part(run.places, p);
            k->ln_stats(st, &run, p, n);
            for (int64_t c = 0; c < run.channels; c++) {
                double s[LIPS_CPU_LANES] = {0}, d[LIPS_CPU_LANES] = {0};
                int64_t at = (c * run.places + p) * run.lanes;
                k->ln_moments(s, d, dy + at, run.lanes, run.in + at, run.lanes, st, n);
                if (a->dgamma)
                    ((float *)a->dgamma)[c] += (float)add_used(d, samples);
                if (a->dbeta)
                    ((float *)a->dbeta)[c] += (float)add_used(s, samples);
            }
        }
    }
    return LIPS_OK;
}

lips_status lips_cpu_ln_grad_dot(lips_backend *be, const lips_ln_args *a)
{
    LIPS_TRY(lips_check_ln(LIPS_GRAD_DOT, a));
    LIPS_TRY(lips_cpu_layout("ln_grad_dot", &a->y));
    const lips_token_kernels *k = lips_cpu_k(be)->tokens;
    lips_ln_stats st[LIPS_LN_PLACES];
    lips_ln_motion motion[LIPS_LN_PLACES];
    for (int64_t i = 0; i < blocks_in_use(&a->y); i++) {
        lips_ln_run run = run_of(a, a->in, &a->y, i);
        const float *dy = block_of(&a->y, i);
        for (int64_t p = 0; p < run.places; p += LIPS_LN_PLACES) {
            int64_t n = part(run.places, p);
            k->ln_stats(st, &run, p, n);
            k->ln_motion(motion, st, &run, p, n);
            for (int64_t c = 0; c < run.channels; c++) {
                double d[LIPS_CPU_LANES] = {0};
                k->ln_grad_dot(d, dy + c * run.places * run.lanes, &run, st, motion, c, p, n);
                ((float *)a->dgamma)[c] += (float)add_used(d, samples_of(&a->y, i));
            }
        }
    }
    return LIPS_OK;
}

/* Stacked values whose sums over places are held at once, as in gram.c. */
enum { T_TILE = 32 };

typedef struct sums {
    double gamma[T_TILE][LIPS_CPU_LANES], beta[T_TILE][LIPS_CPU_LANES];
} sums;

typedef struct gram {
    const lips_token_kernels *k;
    lips_ln_run run;
    const float *dy;
    lips_ln_stats *st; /* of the last part of the places that was asked for */
    int64_t st_first;
} gram;

/* Sums over the places of channel c for stacked values t0..t0+nt. */
static void sum_places(gram *g, sums *out, int64_t c, int64_t t0, int64_t nt)
{
    const lips_ln_run *r = &g->run;
    memset(out, 0, sizeof *out);
    for (int64_t p = 0; p < r->places; p += LIPS_LN_PLACES) {
        int64_t n = part(r->places, p), at = c * r->places + p;
        if (g->st_first != p)
            g->k->ln_stats(g->st, r, p, n);
        g->st_first = p;
        for (int64_t i = 0; i < nt; i++)
            g->k->ln_moments(out->beta[i], out->gamma[i], g->dy + (at * r->t + t0 + i) * r->lanes,
                             r->t * r->lanes, r->in + at * r->lanes, r->lanes, g->st, n);
    }
}

/* theta[l][i0+i][j0+j] += the products of u's and v's sums. */
static void add_products(double *theta, int64_t t, int64_t samples, const sums *u, int64_t i0,
                         int64_t ni, const sums *v, int64_t j0, int64_t nj)
{
    for (int64_t l = 0; l < samples; l++)
        for (int64_t i = 0; i < ni; i++)
            for (int64_t j = 0; j < nj; j++)
                theta[(l * t + i0 + i) * t + j0 + j] +=
                    u->gamma[i][l] * v->gamma[j][l] + u->beta[i][l] * v->beta[j][l];
}

lips_status lips_cpu_ln_gram(lips_backend *be, const lips_ln_args *a)
{
    LIPS_TRY(lips_check_ln(LIPS_GRAM, a));
    LIPS_TRY(lips_cpu_layout("ln_gram", &a->x));
    const int64_t t = a->y.t;
    lips_ln_stats st[LIPS_LN_PLACES];
    sums u, v;
    for (int64_t b = 0; b * LIPS_CPU_LANES < a->x.b; b++) {
        gram g = {.k = lips_cpu_k(be)->tokens,
                  .run = run_of(a, &a->x, &a->y, b),
                  .dy = block_of(&a->y, b),
                  .st = st,
                  .st_first = -1};
        double *theta = a->theta + b * LIPS_CPU_LANES * t * t;
        for (int64_t c = 0; c < a->x.c; c++)
            for (int64_t i = 0; i < t; i += T_TILE) {
                int64_t ni = t - i < T_TILE ? t - i : T_TILE;
                sum_places(&g, &u, c, i, ni);
                for (int64_t j = 0; j < t; j += T_TILE) {
                    int64_t nj = t - j < T_TILE ? t - j : T_TILE;
                    if (j != i)
                        sum_places(&g, &v, c, j, nj);
                    add_products(theta, t, samples_of(&a->x, b), &u, i, ni, j == i ? &u : &v, j,
                                 nj);
                }
            }
    }
    return LIPS_OK;
}
