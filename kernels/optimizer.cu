/*
 * optimizer - SGD and Adam steps over the one parameter buffer (optimizer.h).
 *
 *   SGD    g += wd p;  m = mu m + g;  p -= lr m                           (without momentum: m is
 *          g)
 *   Adam   g += wd p;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
 *          p -= rate m / (sqrt(v) inv_root + eps)      rate, inv_root: with the bias corrections
 *
 *   With a cursor (backend/cursor.h) lr, rate and inv_root are the cursor's, and once it has
 *   stopped a step changes nothing.
 *
 * Shapes     p, g, m, v (n) f32, device
 * Work split a thread per pack of 4; single values where a pointer is not 16-byte aligned
 * Precision  f32 with fused multiply-adds, in PyTorch's order; the corrections come in f64 from the
 *            host and are rounded once
 * Order      each parameter alone; its bits do not depend on its place
 * Cost       bytes per parameter: SGD 12, with momentum 20; Adam 28: memory bound
 * Limits     none
 * Proof      tests/ops (sgd, adam)
 * Speed      prediction: at least 85 % of the copy rate from 2^20 parameters on
 * History    v1 this file
 */
#include "kernels/optimizer.h"

#include "kernels/check.h"
#include "kernels/flat.h"

using namespace lips_flat;

namespace
{

struct sgd_rates {
    float lr, momentum, weight_decay;
    int has_momentum;
    const lips_cursor *cursor;
};

__device__ inline void sgd_one(const sgd_rates &a, float &p, float g, float &m)
{
    if (a.weight_decay != 0.0f)
        g = fmaf(a.weight_decay, p, g);
    if (a.has_momentum)
        g = m = fmaf(a.momentum, m, g);
    p = fmaf(-a.lr, g, p);
}

__device__ inline void adam_one(const lips_cuda_adam_step &a, float &p, float g, float &m, float &v)
{
    if (a.weight_decay != 0.0f)
        g = fmaf(a.weight_decay, p, g);
    m = fmaf(a.rest1, g, a.beta1 * m);
    v = fmaf(a.rest2 * g, g, a.beta2 * v);
    p = fmaf(-a.rate, m / fmaf(sqrtf(v), a.inv_root, a.eps), p);
}

template <int V>
__global__ void sgd_values(float *p, const float *g, float *m, int64_t n, sgd_rates a)
{
    if (a.cursor && a.cursor->stop)
        return;
    if (a.cursor)
        a.lr = (float)a.cursor->rate;
    for (int64_t i = first_item<int64_t>() * V; i < n; i += item_step<int64_t>() * V) {
        if (i + V <= n) {
            pack<V> x = load<V>(p + i), dx = load<V>(g + i), mean = {};
            if (m)
                mean = load<V>(m + i);
            for (int j = 0; j < V; j++)
                sgd_one(a, x.v[j], dx.v[j], mean.v[j]);
            store<V>(p + i, x);
            if (m)
                store<V>(m + i, mean);
        } else {
            for (int64_t k = i; k < n; k++) {
                float mean = m ? m[k] : 0.0f;
                sgd_one(a, p[k], g[k], mean);
                if (m)
                    m[k] = mean;
            }
        }
    }
}

template <int V> __global__ void adam_values(lips_cuda_adam_step a)
{
    if (a.cursor && a.cursor->stop)
        return;
    if (a.cursor) {
        a.rate = (float)a.cursor->adam_rate;
        a.inv_root = (float)a.cursor->adam_root;
    }
    for (int64_t i = first_item<int64_t>() * V; i < a.n; i += item_step<int64_t>() * V) {
        if (i + V <= a.n) {
            pack<V> p = load<V>(a.p + i), g = load<V>(a.g + i), m = load<V>(a.m + i),
                    v = load<V>(a.v + i);
            for (int j = 0; j < V; j++)
                adam_one(a, p.v[j], g.v[j], m.v[j], v.v[j]);
            store<V>(a.p + i, p);
            store<V>(a.m + i, m);
            store<V>(a.v + i, v);
        } else {
            for (int64_t k = i; k < a.n; k++)
                adam_one(a, a.p[k], a.g[k], a.m[k], a.v[k]);
        }
    }
}

} // namespace

extern "C" lips_status lips_cuda_sgd(const lips_cuda_sgd_step *a, cudaStream_t stream)
{
    if (a->n == 0)
        return LIPS_OK;
    sgd_rates rates = {a->lr, a->momentum, a->weight_decay, a->m != nullptr, a->cursor};
    if (aligned(a->p) && aligned(a->g) && aligned(a->m))
        CU_LAUNCH((sgd_values<4>), dim3(blocks_for((a->n + 3) / 4)), dim3(THREADS), 0, stream, a->p,
                  a->g, a->m, a->n, rates);
    else
        CU_LAUNCH((sgd_values<1>), dim3(blocks_for(a->n)), dim3(THREADS), 0, stream, a->p, a->g,
                  a->m, a->n, rates);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_adam(const lips_cuda_adam_step *a, cudaStream_t stream)
{
    if (a->n == 0)
        return LIPS_OK;
    if (aligned(a->p) && aligned(a->g) && aligned(a->m) && aligned(a->v))
        CU_LAUNCH((adam_values<4>), dim3(blocks_for((a->n + 3) / 4)), dim3(THREADS), 0, stream, *a);
    else
        CU_LAUNCH((adam_values<1>), dim3(blocks_for(a->n)), dim3(THREADS), 0, stream, *a);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
