/*
 * pool - average pooling forward (also its jvp) and vjp with the mask of the ReLU before it
 * (pool.h).
 *
 *   y[s,p,q,t,c]  = sum_{i<kh, j<kw} x[s, p kh + i, q kw + j, t, c] / (kh kw)
 *   dx[s,i,j,t,c] = (mask[s,i,j,c] > 0) dy[s, i/kh, j/kw, t, c] / (kh kw)
 *
 * Shapes     x, dx (n, oh kh, ow kw, T, C), y, dy (n, oh, ow, T, C), mask (n, oh kh, ow kw, C) f32,
 *            device
 * Work split forward: a thread per pack of 4 of the outputs (T and C are one dimension). vjp: a
 *            thread per pack of 4 channels of the full image, which keeps its mask in registers
 *            while it walks over the T values; where C is not divisible by 4, one per value.
 * Precision  the window is added in f64 and rounded once
 * Order      one thread adds one window, row by row
 * Cost       forward 4 (1 + 1/(kh kw)) bytes per value of x; vjp 4 (1 + 1/(kh kw)) + 4/T: memory
 *            bound; the pooled side is read kh kw times, from the caches
 * Limits     global pooling of few samples and channels leaves threads idle
 * Proof      tests/ops (avgpool_forward, avgpool_vjp)
 * Speed      prediction: at least 85 % of the copy rate for 2 x 2 windows from 2^20 values on
 * History    v1 this file
 */
#include "kernels/pool.h"

#include "kernels/check.h"
#include "kernels/flat.h"

using namespace lips_flat;

namespace
{

/* Sizes in the index type; c, and the items counted, are in packs of V. */
template <class I> struct sizes {
    I oh, ow, kh, kw, t, c, items;
};

template <class I, int V> __global__ void pool_windows(float *y, const float *x, sizes<I> z)
{
    double area = (double)z.kh * (double)z.kw;
    for (I e = first_item<I>(); e < z.items; e += item_step<I>()) {
        I q = e % z.c, rest = e / z.c, ox = rest % z.ow, row = rest / z.ow; /* row = s * oh + oy */
        double sum[V] = {};
        for (I i = 0; i < z.kh; i++) {
            int64_t at = (((int64_t)row * z.kh + i) * z.ow + ox) * z.kw;
            for (I j = 0; j < z.kw; j++) {
                pack<V> v = load<V>(x + ((at + j) * z.c + q) * V);
                for (int k = 0; k < V; k++)
                    sum[k] += (double)v.v[k];
            }
        }
        pack<V> out;
        for (int k = 0; k < V; k++)
            out.v[k] = (float)(sum[k] / area);
        store<V>(y + (int64_t)e * V, out);
    }
}

/* Place of the pooled pixel for pixel `pixel` = (s * H + i) * W + j of the full image. */
template <class I> __device__ inline I pooled(I pixel, const sizes<I> &z)
{
    I w = z.ow * z.kw, j = pixel % w, row = pixel / w; /* row = s * H + i, H a multiple of kh */
    return row / z.kh * z.ow + j / z.kw;
}

template <class I, bool MASKED>
__global__ void unpool_packs(float *dx, const float *dy, const float *mask, sizes<I> z, float area)
{
    for (I e = first_item<I>(); e < z.items; e += item_step<I>()) {
        I c = e % z.c, pixel = e / z.c;
        int64_t from = (int64_t)pooled(pixel, z) * z.t * z.c, to = (int64_t)pixel * z.t * z.c;
        pack<4> m = {};
        if (MASKED)
            m = load<4>(mask + (int64_t)e * 4);
        for (I t = 0; t < z.t; t++) {
            pack<4> v = load<4>(dy + (from + (int64_t)t * z.c + c) * 4);
            for (int k = 0; k < 4; k++)
                v.v[k] = !MASKED || m.v[k] > 0.0f ? v.v[k] / area : 0.0f;
            store<4>(dx + (to + (int64_t)t * z.c + c) * 4, v);
        }
    }
}

template <class I, bool MASKED>
__global__ void unpool_values(float *dx, const float *dy, const float *mask, sizes<I> z, float area)
{
    for (I e = first_item<I>(); e < z.items; e += item_step<I>()) {
        I q = e % (z.t * z.c), pixel = e / (z.t * z.c);
        bool open = !MASKED || mask[(int64_t)pixel * z.c + q % z.c] > 0.0f;
        dx[e] = open ? dy[(int64_t)pooled(pixel, z) * z.t * z.c + q] / area : 0.0f;
    }
}

template <class I> sizes<I> sizes_of(const lips_cuda_pool *p, int64_t t, int64_t c, int64_t items)
{
    return {(I)p->oh, (I)p->ow, (I)p->kh, (I)p->kw, (I)t, (I)c, (I)items};
}

template <class I>
void launch_pool(float *y, const float *x, const lips_cuda_pool *p, cudaStream_t stream)
{
    int64_t q = p->t * p->c, n = p->n * p->oh * p->ow * q;
    if (q % 4 == 0 && aligned(y) && aligned(x))
        CU_LAUNCH((pool_windows<I, 4>), dim3(blocks_for(n / 4)), dim3(THREADS), 0, stream, y, x,
                  (sizes_of<I>(p, 1, q / 4, n / 4)));
    else
        CU_LAUNCH((pool_windows<I, 1>), dim3(blocks_for(n)), dim3(THREADS), 0, stream, y, x,
                  (sizes_of<I>(p, 1, q, n)));
}

template <class I, bool MASKED>
void launch_unpool(float *dx, const float *dy, const float *mask, const lips_cuda_pool *p,
                   cudaStream_t stream)
{
    int64_t pixels = p->n * p->oh * p->kh * p->ow * p->kw;
    float area = (float)(p->kh * p->kw);
    if (p->c % 4 == 0 && aligned(dx) && aligned(dy) && aligned(mask))
        CU_LAUNCH((unpool_packs<I, MASKED>), dim3(blocks_for(pixels * p->c / 4)), dim3(THREADS), 0,
                  stream, dx, dy, mask, (sizes_of<I>(p, p->t, p->c / 4, pixels * p->c / 4)), area);
    else
        CU_LAUNCH((unpool_values<I, MASKED>), dim3(blocks_for(pixels * p->t * p->c)), dim3(THREADS),
                  0, stream, dx, dy, mask, (sizes_of<I>(p, p->t, p->c, pixels * p->t * p->c)),
                  area);
}

lips_status check(const char *op, const lips_cuda_pool *p)
{
    const int64_t v[] = {p->n, p->oh, p->ow, p->kh, p->kw, p->t, p->c};
    for (int64_t x : v)
        if (x < 1)
            return lips_fail(LIPS_ERR_USAGE, "%s: a size is %lld, must be at least 1", op,
                             (long long)x);
    return LIPS_OK;
}

bool small(const lips_cuda_pool *p)
{
    return fits_32(p->n * p->oh * p->kh * p->ow * p->kw * p->t * p->c);
}

} // namespace

extern "C" lips_status lips_cuda_avgpool(float *y, const float *x, const lips_cuda_pool *p,
                                         cudaStream_t stream)
{
    LIPS_TRY(check("avgpool_forward", p));
    if (small(p))
        launch_pool<uint32_t>(y, x, p, stream);
    else
        launch_pool<int64_t>(y, x, p, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_avgpool_vjp(float *dx, const float *dy, const float *mask,
                                             const lips_cuda_pool *p, cudaStream_t stream)
{
    LIPS_TRY(check("avgpool_vjp", p));
    if (mask && small(p))
        launch_unpool<uint32_t, true>(dx, dy, mask, p, stream);
    else if (mask)
        launch_unpool<int64_t, true>(dx, dy, mask, p, stream);
    else if (small(p))
        launch_unpool<uint32_t, false>(dx, dy, mask, p, stream);
    else
        launch_unpool<int64_t, false>(dx, dy, mask, p, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
