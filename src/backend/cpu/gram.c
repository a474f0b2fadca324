/* cpu/gram.c - per-sample Gram matrices, products and sums in f64. */
#include "backend/cpu/ops.h"

/* One block of up to 16 samples: where they lie and where their Grams go. */
typedef struct block {
    int64_t slab, lane, samples;
    double *theta;
} block;

static block block_at(const lips_tensor *x, double *theta, int64_t first)
{
    int64_t left = x->b - first;
    return (block){.slab = first / x->lanes,
                   .lane = first % x->lanes,
                   .samples = left < LIPS_CPU_LANES ? left : LIPS_CPU_LANES,
                   .theta = theta + first * x->t * x->t};
}

lips_status lips_cpu_gram(lips_backend *be, const lips_gram_args *a)
{
    LIPS_TRY(lips_check_gram(a));
    LIPS_TRY(lips_cpu_layout("gram", &a->x));
    for (int64_t i = 0; i < a->x.b; i += LIPS_CPU_LANES) {
        block k = block_at(&a->x, a->g, i);
        lips_cpu_k(be)->gram(k.theta, lips_cpu_slab(&a->x, k.slab) + k.lane, NULL,
                             lips_tensor_features(&a->x), a->x.t, a->x.lanes, k.samples);
    }
    return LIPS_OK;
}

lips_status lips_cpu_linear_gram(lips_backend *be, const lips_linear_args *a)
{
    LIPS_TRY(lips_check_linear(LIPS_GRAM, a));
    LIPS_TRY(lips_cpu_layout("linear_gram", &a->x));
    for (int64_t i = 0; i < a->y.b; i += LIPS_CPU_LANES) {
        block k = block_at(&a->y, a->theta, i);
        double norm[LIPS_CPU_LANES] = {0};
        lips_cpu_k(be)->lane_sumsq(norm, lips_cpu_slab(&a->x, k.slab) + k.lane, a->x.lanes, 0,
                                   a->x.c);
        lips_cpu_k(be)->gram(k.theta, lips_cpu_slab(&a->y, k.slab) + k.lane, norm, a->y.c, a->y.t,
                             a->y.lanes, k.samples);
    }
    return LIPS_OK;
}

/* Stacked values whose sums over positions are held at once: 4 KiB each side. */
enum { T_TILE = 32 };

typedef struct sums {
    double v[T_TILE][LIPS_CPU_LANES];
} sums;

/* theta[l][i0+i][j0+j] += u[i][l] v[j][l] */
static void rank_one(const block *k, int64_t t, int64_t i0, int64_t ni, const sums *u, int64_t j0,
                     int64_t nj, const sums *v)
{
    for (int64_t l = 0; l < k->samples; l++)
        for (int64_t i = 0; i < ni; i++)
            for (int64_t j = 0; j < nj; j++)
                k->theta[(l * t + i0 + i) * t + j0 + j] += u->v[i][l] * v->v[j][l];
}

/* Sums over the positions of channel c for stacked values t0..t0+nt: of y, or of y * (x - center) *
 * scale. */
typedef struct position_sum {
    const lips_tensor *y, *x; /* x NULL: of y alone */
    double center, scale;
} position_sum;

static void sum_positions(const lips_cpu_kernels *kernels, sums *out, const position_sum *p,
                          const block *k, int64_t c, int64_t t0, int64_t nt)
{
    const lips_tensor *y = p->y;
    int64_t n = y->h * y->w, stride = y->t * y->lanes;
    for (int64_t i = 0; i < nt; i++) {
        const float *from =
            lips_cpu_slab(y, k->slab) + c * n * stride + (t0 + i) * y->lanes + k->lane;
        for (int64_t l = 0; l < LIPS_CPU_LANES; l++)
            out->v[i][l] = 0;
        if (!p->x) {
            kernels->lane_sum(out->v[i], from, stride, n);
            continue;
        }
        const float *x = lips_cpu_slab(p->x, k->slab) + c * n * p->x->lanes + k->lane;
        double sum[LIPS_CPU_LANES] = {0};
        kernels->lane_moments(sum, out->v[i], from, stride, x, p->x->lanes, p->center, n);
        for (int64_t l = 0; l < LIPS_CPU_LANES; l++)
            out->v[i][l] *= p->scale;
    }
}

/* theta += the Gram of one channel's sums over positions, tile by tile. */
static void channel_gram(const lips_cpu_kernels *kernels, const position_sum *p, const block *k,
                         int64_t c)
{
    int64_t t = p->y->t;
    sums u, v;
    for (int64_t i = 0; i < t; i += T_TILE) {
        int64_t ni = t - i < T_TILE ? t - i : T_TILE;
        sum_positions(kernels, &u, p, k, c, i, ni);
        for (int64_t j = 0; j < t; j += T_TILE) {
            int64_t nj = t - j < T_TILE ? t - j : T_TILE;
            if (j != i)
                sum_positions(kernels, &v, p, k, c, j, nj);
            rank_one(k, t, i, ni, &u, j, nj, j == i ? &u : &v);
        }
    }
}

lips_status lips_cpu_bias_gram(lips_backend *be, const lips_bias_args *a)
{
    LIPS_TRY(lips_check_bias(LIPS_GRAM, a));
    LIPS_TRY(lips_cpu_layout("bias_gram", &a->y));
    for (int64_t i = 0; i < a->y.b; i += LIPS_CPU_LANES) {
        block k = block_at(&a->y, a->theta, i);
        for (int64_t c = 0; c < a->y.c; c++)
            channel_gram(lips_cpu_k(be), &(position_sum){.y = &a->y}, &k, c);
    }
    return LIPS_OK;
}

/* Evaluation mode: dz/dgamma_c = sum_p dy xhat, dz/dbeta_c = sum_p dy. */
lips_status lips_cpu_bn_gram(lips_backend *be, const lips_bn_args *a)
{
    LIPS_TRY(lips_check_bn(LIPS_GRAM, a));
    LIPS_TRY(lips_cpu_layout("bn_gram", &a->y));
    for (int64_t i = 0; i < a->y.b; i += LIPS_CPU_LANES) {
        block k = block_at(&a->y, a->theta, i);
        for (int64_t c = 0; c < a->y.c; c++) {
            lips_cpu_bn_channel n = lips_cpu_bn_statistics(a, c);
            channel_gram(lips_cpu_k(be), &(position_sum){.y = &a->y}, &k, c);
            channel_gram(lips_cpu_k(be),
                         &(position_sum){.y = &a->y, .x = &a->x, .center = n.mean, .scale = n.inv},
                         &k, c);
        }
    }
    return LIPS_OK;
}
