/* cpu/tokens.c - GELU, class token and positions, picking one place. */
#include "backend/cpu/tokens.h"

#include "backend/cpu/ops.h"

#include <string.h>

lips_status lips_cpu_gelu_forward(lips_backend *be, const lips_gelu_args *a)
{
    LIPS_TRY(lips_check_gelu(LIPS_FORWARD, a));
    LIPS_TRY(lips_cpu_layout("gelu_forward", &a->x));
    lips_cpu_k(be)->tokens->gelu(a->y.data, a->x.data,
                                 lips_cpu_slabs(&a->x) * lips_cpu_slab_reals(&a->x));
    return LIPS_OK;
}

lips_status lips_cpu_gelu_slope(lips_backend *be, const lips_gelu_args *a)
{
    LIPS_TRY(lips_check_gelu(LIPS_VJP, a));
    LIPS_TRY(lips_cpu_layout("gelu_slope", &a->x));
    lips_cpu_k(be)->tokens->gelu_slope(a->y.data, a->x.data, a->in->data,
                                       lips_cpu_slabs(&a->x) * lips_tensor_features(&a->x), a->x.t,
                                       a->x.lanes);
    return LIPS_OK;
}

lips_status lips_cpu_gelu_vjp_dot(lips_backend *be, const lips_gelu_args *a)
{
    LIPS_TRY(lips_check_gelu(LIPS_VJP_DOT, a));
    LIPS_TRY(lips_cpu_layout("gelu_vjp_dot", &a->x));
    lips_cpu_k(be)->tokens->gelu_curve(a->y.data, a->x.data, a->in->data, a->dot->data,
                                       lips_cpu_slabs(&a->x) * lips_cpu_slab_reals(&a->x));
    return LIPS_OK;
}

/* n times the same. */
static void spread(float *dst, double value, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = (float)value;
}

static double real_at(const void *p, int64_t i)
{
    return p ? (double)((const float *)p)[i] : 0;
}

lips_status lips_cpu_tokens_forward(lips_backend *be, const lips_tokens_args *a)
{
    LIPS_TRY(lips_check_tokens(LIPS_FORWARD, a));
    LIPS_TRY(lips_cpu_layout("tokens_forward", &a->y));
    const int64_t n = a->y.w, v = a->y.t * a->y.lanes, channels = a->y.c;
    (void)be;
    for (int64_t s = 0; s < lips_cpu_slabs(&a->y); s++)
        for (int64_t c = 0; c < channels; c++) {
            float *y = lips_cpu_slab(&a->y, s) + c * n * v;
            const float *x = a->x ? lips_cpu_slab(a->x, s) + c * (n - 1) * v : NULL;
            spread(y, real_at(a->token, c) + real_at(a->pos, c), v);
            for (int64_t p = 1; p < n; p++) {
                const float pos = (float)real_at(a->pos, p * channels + c);
                for (int64_t i = 0; i < v; i++)
                    y[p * v + i] = (x ? x[(p - 1) * v + i] : 0.0f) + pos;
            }
        }
    return LIPS_OK;
}

lips_status lips_cpu_tokens_vjp(lips_backend *be, const lips_tokens_args *a)
{
    LIPS_TRY(lips_check_tokens(LIPS_VJP, a));
    LIPS_TRY(lips_cpu_layout("tokens_vjp", &a->y));
    const int64_t n = a->y.w - 1, v = a->y.t * a->y.lanes, lanes = a->y.lanes;
    for (int64_t s = 0; s < lips_cpu_slabs(&a->y); s++)
        for (int64_t c = 0; c < a->y.c; c++) {
            float *dx = lips_cpu_slab(a->x, s) + c * n * v;
            memcpy(dx, lips_cpu_slab(&a->y, s) + (c * (n + 1) + 1) * v,
                   (size_t)(n * v) * sizeof *dx);
            if (a->mask)
                lips_cpu_k(be)->mask(dx, dx, lips_cpu_slab(a->mask, s) + c * n * lanes, n, a->y.t,
                                     lanes);
        }
    return LIPS_OK;
}

/* Sum over the samples in use of dy at (c, place p). */
static double sum_at(const lips_tensor *dy, int64_t c, int64_t p)
{
    double sum = 0;
    for (int64_t s = 0; s < lips_cpu_slabs(dy); s++) {
        const float *from = lips_cpu_slab(dy, s) + (c * dy->w + p) * dy->lanes;
        for (int64_t l = 0; l < lips_cpu_slab_samples(dy, s); l++)
            sum += (double)from[l];
    }
    return sum;
}

lips_status lips_cpu_tokens_grad(lips_backend *be, const lips_tokens_args *a)
{
    LIPS_TRY(lips_check_tokens(LIPS_GRAD, a));
    LIPS_TRY(lips_cpu_layout("tokens_grad", &a->y));
    float *token = a->dtoken, *pos = a->dpos;
    (void)be;
    for (int64_t c = 0; c < a->y.c; c++)
        for (int64_t p = 0; p < (pos ? a->y.w : 1); p++) {
            const float sum = (float)sum_at(&a->y, c, p);
            if (token && p == 0)
                token[c] += sum;
            if (pos)
                pos[p * a->y.c + c] += sum;
        }
    return LIPS_OK;
}

lips_status lips_cpu_tokens_gram(lips_backend *be, const lips_tokens_args *a)
{
    LIPS_TRY(lips_check_tokens(LIPS_GRAM, a));
    LIPS_TRY(lips_cpu_layout("tokens_gram", &a->y));
    const lips_cpu_kernels *k = lips_cpu_k(be);
    const int64_t t = a->y.t, lanes = a->y.lanes, n = a->y.w;
    LIPS_TRY(lips_cpu_gram(be, &(lips_gram_args){.x = a->y, .g = a->theta}));
    for (int64_t i = 0; i < a->y.b; i += LIPS_CPU_LANES) {
        const float *dy = lips_cpu_slab(&a->y, i / lanes) + i % lanes;
        int64_t left = a->y.b - i, samples = left < LIPS_CPU_LANES ? left : LIPS_CPU_LANES;
        for (int64_t c = 0; c < a->y.c; c++)
            k->gram(a->theta + i * t * t, dy + c * n * t * lanes, NULL, 1, t, lanes, samples);
    }
    return LIPS_OK;
}

lips_status lips_cpu_pick_forward(lips_backend *be, const lips_pick_args *a)
{
    LIPS_TRY(lips_check_pick(LIPS_FORWARD, a));
    LIPS_TRY(lips_cpu_layout("pick_forward", &a->x));
    const int64_t n = a->x.h * a->x.w, v = a->x.t * a->x.lanes;
    (void)be;
    for (int64_t s = 0; s < lips_cpu_slabs(&a->x); s++)
        for (int64_t c = 0; c < a->x.c; c++)
            memcpy(lips_cpu_slab(&a->y, s) + c * v, lips_cpu_slab(&a->x, s) + (c * n + a->at) * v,
                   (size_t)v * sizeof(float));
    return LIPS_OK;
}

lips_status lips_cpu_pick_vjp(lips_backend *be, const lips_pick_args *a)
{
    LIPS_TRY(lips_check_pick(LIPS_VJP, a));
    LIPS_TRY(lips_cpu_layout("pick_vjp", &a->x));
    const int64_t n = a->x.h * a->x.w, v = a->x.t * a->x.lanes, lanes = a->x.lanes;
    for (int64_t s = 0; s < lips_cpu_slabs(&a->x); s++) {
        memset(lips_cpu_slab(&a->x, s), 0, (size_t)lips_cpu_slab_reals(&a->x) * sizeof(float));
        for (int64_t c = 0; c < a->x.c; c++) {
            float *dx = lips_cpu_slab(&a->x, s) + (c * n + a->at) * v;
            memcpy(dx, lips_cpu_slab(&a->y, s) + c * v, (size_t)v * sizeof *dx);
            if (a->mask)
                lips_cpu_k(be)->mask(dx, dx, lips_cpu_slab(a->mask, s) + (c * n + a->at) * lanes, 1,
                                     a->x.t, lanes);
        }
    }
    return LIPS_OK;
}
