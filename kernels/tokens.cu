/*
 * tokens - class token and positions; picking one place (tokens.h).
 *
 *   y[s][0][t] = token + pos[0],  y[s][1+p][t] = x[s][p][t] + pos[1+p];  vjp and pick copy places
 *
 * Shapes     y (B,1+P,T,C), x (B,P,T,C) f32, token (C), pos (1+P,C), mask (B,P,C); all device
 * Work split a thread per place and pack of 4 channels where C is divisible by 4, else per channel;
 *            it keeps position and mask while it walks over the T values. Gradients: two passes of
 *            columns.h over (B, (1+P) C).
 * Precision  one rounding forward; gradients add in f64 and round once
 * Order      fixed by the shape (columns.h), no atomics
 * Cost       8 bytes per value, gradients 4: memory bound
 * Limits     none; 32-bit indices below 2^31 values
 * Proof      tests/ops (tokens_forward, tokens_vjp, tokens_grad, pick_forward, pick_vjp)
 * Speed      prediction (not measured): at least 80 % of the copy rate from 2^20 values on
 * History    v1 this file
 */
#include "kernels/tokens.h"

#include "kernels/check.h"
#include "kernels/columns.h"

using namespace lips_flat;
namespace columns = lips_columns;

namespace
{

/* Channels c are counted in packs of V from here on. A position is added in f32: pos may start at
 * any float. */
template <class I, int V>
__global__ void put_tokens(float *y, const float *x, const float *token, const float *pos, I items,
                           I n, I t, I c)
{
    for (I e = first_item<I>(); e < items; e += item_step<I>()) {
        I q = e % c, place = e / c, i = place % n, s = place / n;
        pack<V> add;
        for (int j = 0; j < V; j++) {
            int64_t channel = (int64_t)q * V + j;
            add.v[j] = pos ? pos[(int64_t)i * c * V + channel] : 0.0f;
            if (i == 0 && token)
                add.v[j] += token[channel];
        }
        for (I k = 0; k < t; k++) {
            pack<V> v = add;
            if (i > 0 && x) {
                pack<V> w = load<V>(x + (((int64_t)(s * (n - 1) + i - 1) * t + k) * c + q) * V);
                for (int j = 0; j < V; j++)
                    v.v[j] += w.v[j];
            }
            store<V>(y + (((int64_t)place * t + k) * c + q) * V, v);
        }
    }
}

/* A place of an image takes the values of a place of dy, or zeros: from(s, p) names it, or -1. */
template <class I, int V, class From>
__global__ void pull_places(float *dx, const float *dy, const float *mask, From from, I items, I p,
                            I t, I c)
{
    for (I e = first_item<I>(); e < items; e += item_step<I>()) {
        I q = e % c, place = e / c;
        int64_t source = from((int64_t)(place / p), (int64_t)(place % p));
        pack<V> open;
        for (int j = 0; j < V; j++)
            open.v[j] = 1.0f;
        if (mask && source >= 0)
            open = load<V>(mask + (int64_t)e * V);
        for (I k = 0; k < t; k++) {
            pack<V> v;
            for (int j = 0; j < V; j++)
                v.v[j] = 0.0f;
            if (source >= 0) {
                v = load<V>(dy + ((source * t + k) * c + q) * V);
                for (int j = 0; j < V; j++)
                    v.v[j] = open.v[j] > 0.0f ? v.v[j] : 0.0f;
            }
            store<V>(dx + (((int64_t)place * t + k) * c + q) * V, v);
        }
    }
}

struct after_token {
    int64_t p;
    __device__ int64_t operator()(int64_t s, int64_t place) const
    {
        return s * (p + 1) + place + 1;
    }
};

struct only_at {
    int64_t at;
    __device__ int64_t operator()(int64_t s, int64_t place) const
    {
        return place == at ? s : -1;
    }
};

/* Of (B, rest, row) values the row of place `at`; row and n = B * row in packs. */
template <class I, int V>
__global__ void pick_values(float *y, const float *x, I n, I row, int64_t sample, int64_t first)
{
    for (I e = first_item<I>(); e < n; e += item_step<I>())
        store<V>(y + (int64_t)e * V,
                 load<V>(x + ((int64_t)(e / row) * sample + first + (int64_t)(e % row)) * V));
}

struct load_column : columns::no_preparation {
    const float *dy;
    int64_t stride, column;
    template <int V> __device__ void start(int64_t first)
    {
        column = first;
    }
    template <int V> __device__ void add(double (&sum)[1][V], int64_t row) const
    {
        const pack<V> v = load<V>(dy + row * stride + column);
        for (int j = 0; j < V; j++)
            sum[0][j] += (double)v.v[j];
    }
};

__global__ void column_sums(float *out, const double *partial, columns::plan p)
{
    int64_t column = first_item<int64_t>() / columns::WARP;
    if (column >= p.columns)
        return; /* whole warps: a warp has one column */
    double total = columns::column_total<1>(partial, p, 0, column);
    if (threadIdx.x % columns::WARP == 0)
        out[column] = (float)((double)out[column] + total);
}

lips_status check(const char *op, const lips_cuda_tokens *a)
{
    if (a->b < 1 || a->p < 1 || a->t < 1 || a->c < 1)
        return lips_fail(LIPS_ERR_USAGE, "%s: %lld x %lld x %lld x %lld values", op,
                         (long long)a->b, (long long)a->p, (long long)a->t, (long long)a->c);
    return LIPS_OK;
}

bool small(const lips_cuda_tokens *a)
{
    return fits_32(a->b * (a->p + 1) * a->t * a->c);
}

template <class I>
void launch_forward(const lips_cuda_tokens *a, float *y, const float *x, const float *token,
                    const float *pos, cudaStream_t stream)
{
    int64_t items = a->b * (a->p + 1) * a->c;
    if (a->c % 4 == 0 && aligned(y) && aligned(x))
        CU_LAUNCH((put_tokens<I, 4>), dim3(blocks_for(items / 4)), dim3(THREADS), 0, stream, y, x,
                  token, pos, (I)(items / 4), (I)(a->p + 1), (I)a->t, (I)(a->c / 4));
    else
        CU_LAUNCH((put_tokens<I, 1>), dim3(blocks_for(items)), dim3(THREADS), 0, stream, y, x,
                  token, pos, (I)items, (I)(a->p + 1), (I)a->t, (I)a->c);
}

template <class I, class From>
void launch_pull(const lips_cuda_tokens *a, float *dx, const float *dy, const float *mask,
                 From from, cudaStream_t stream)
{
    int64_t items = a->b * a->p * a->c;
    if (a->c % 4 == 0 && aligned(dx) && aligned(dy) && aligned(mask))
        CU_LAUNCH((pull_places<I, 4, From>), dim3(blocks_for(items / 4)), dim3(THREADS), 0, stream,
                  dx, dy, mask, from, (I)(items / 4), (I)a->p, (I)a->t, (I)(a->c / 4));
    else
        CU_LAUNCH((pull_places<I, 1, From>), dim3(blocks_for(items)), dim3(THREADS), 0, stream, dx,
                  dy, mask, from, (I)items, (I)a->p, (I)a->t, (I)a->c);
}

template <class I>
void launch_pick(const lips_cuda_tokens *a, float *y, const float *x, int64_t at,
                 cudaStream_t stream)
{
    int64_t row = a->t * a->c, n = a->b * row;
    if (row % 4 == 0 && aligned(y) && aligned(x))
        CU_LAUNCH((pick_values<I, 4>), dim3(blocks_for(n / 4)), dim3(THREADS), 0, stream, y, x,
                  (I)(n / 4), (I)(row / 4), a->p * row / 4, at * row / 4);
    else
        CU_LAUNCH((pick_values<I, 1>), dim3(blocks_for(n)), dim3(THREADS), 0, stream, y, x, (I)n,
                  (I)row, a->p * row, at * row);
}

/* out[c] += sum_s dy[s * stride + c] for `width` columns. */
void add_columns(float *out, const float *dy, int64_t b, int64_t stride, int64_t width,
                 void *scratch, cudaStream_t stream)
{
    const int v = width % 4 == 0 && stride % 4 == 0 && aligned(dy) ? 4 : 1;
    columns::plan p = columns::make_plan(b, width, v);
    double *partial = static_cast<double *>(scratch);
    columns::launch_partials<1>(p, load_column{{}, dy, stride, 0},
                                columns::store_partial<1>{partial, width}, stream);
    CU_LAUNCH(column_sums, dim3(columns::total_blocks(p)), dim3(THREADS), 0, stream, out, partial,
              p);
}

} // namespace

extern "C" lips_status lips_cuda_tokens_forward(const lips_cuda_tokens *a, float *y, const float *x,
                                                const float *token, const float *pos,
                                                cudaStream_t stream)
{
    LIPS_TRY(check("tokens_forward", a));
    if (small(a))
        launch_forward<uint32_t>(a, y, x, token, pos, stream);
    else
        launch_forward<int64_t>(a, y, x, token, pos, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_tokens_vjp(const lips_cuda_tokens *a, float *dx, const float *dy,
                                            const float *mask, cudaStream_t stream)
{
    LIPS_TRY(check("tokens_vjp", a));
    if (small(a))
        launch_pull<uint32_t>(a, dx, dy, mask, after_token{a->p}, stream);
    else
        launch_pull<int64_t>(a, dx, dy, mask, after_token{a->p}, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" size_t lips_cuda_tokens_grad_bytes(const lips_cuda_tokens *a)
{
    size_t token = columns::partial_bytes(a->b, a->c, 1);
    size_t pos = columns::partial_bytes(a->b, (a->p + 1) * a->c, 1);
    return token > pos ? token : pos;
}

extern "C" lips_status lips_cuda_tokens_grad(const lips_cuda_tokens *a, float *dtoken, float *dpos,
                                             const float *dy, void *scratch, cudaStream_t stream)
{
    LIPS_TRY(check("tokens_grad", a));
    int64_t sample = (a->p + 1) * a->c;
    if (dtoken)
        add_columns(dtoken, dy, a->b, sample, a->c, scratch, stream);
    if (dpos)
        add_columns(dpos, dy, a->b, sample, sample, scratch, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_pick(const lips_cuda_tokens *a, float *y, const float *x,
                                      int64_t at, cudaStream_t stream)
{
    LIPS_TRY(check("pick_forward", a));
    if (small(a))
        launch_pick<uint32_t>(a, y, x, at, stream);
    else
        launch_pick<int64_t>(a, y, x, at, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_pick_vjp(const lips_cuda_tokens *a, float *dx, const float *dy,
                                          const float *mask, int64_t at, cudaStream_t stream)
{
    LIPS_TRY(check("pick_vjp", a));
    if (small(a))
        launch_pull<uint32_t>(a, dx, dy, mask, only_at{at}, stream);
    else
        launch_pull<int64_t>(a, dx, dy, mask, only_at{at}, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
