/*
 * linear_split - linear layers with long sums and few results: k in parts, added in order.
 *
 *   forward  y[m,o]  = relu(bias[o] + sum_c x[m,c] w[o,c])
 *   vjp      dx[m,c] = (mask[m / T, c] > 0) sum_o dy[m,o] w[o,c]
 *
 * Shapes     src (rows,K), w (O,C), dst (rows,N) f32; part (parts,rows,N) f32
 * Work split parts of K, each a product of batched_product.cu; then one thread a result adds them.
 * Precision  products float32-grade whatever precision is asked for: never less than asked; the
 *            parts in f64
 * Order      k ascending within a part, then parts ascending. The number of parts depends on K and
 *            N alone: a sample's bits do not depend on how many rows go with it.
 * Cost       the parts' bytes are at most an eighth of src's. One tile of 128 rows takes 16 k in
 *            some 230 clocks, since three slabs under way are less than the latency of L2: at 128
 *            rows 3072 -> 32 was 25 us in one block; predicted in 6 parts, 5 us with a second
 *            launch
 * Limits     as in linear.cu
 * Proof      tests/cusim/test_conv_kernels.cpp, tests/ops (linear_*)
 * History    v1 this file.
 */
#include "kernels/linear.h"

#include "kernels/batched_product.h"
#include "kernels/check.h"
#include "kernels/flat.h"

#include <inttypes.h>

using batched_product::product;
using namespace lips_flat;

namespace
{

constexpr int SLAB = 16;            /* a part is whole slabs */
constexpr int64_t LEAST = 8 * SLAB; /* k of a part: fewer are latency alone */
constexpr int64_t MOST = 16;        /* parts */
constexpr int64_t SHARE = 16; /* k for each part and column: two passes over 1/16 of the bytes */

struct end {
    float *dst;
    const float *part, *bias, *mask;
    int64_t count, n, t; /* results, columns, stacked values */
    int parts, relu;
};

__global__ void split_end(end e)
{
    for (int64_t i = first_item<int64_t>(); i < e.count; i += item_step<int64_t>()) {
        double sum = 0;
        for (int k = 0; k < e.parts; k++)
            sum += (double)e.part[k * e.count + i];
        float v = (float)sum;
        const int64_t column = i % e.n;
        if (e.bias)
            v += e.bias[column];
        if (e.relu)
            v = v < 0 ? 0 : v; /* keeps NaN */
        if (e.mask && !(e.mask[i / (e.t * e.n) * e.n + column] > 0))
            v = 0;
        e.dst[i] = v;
    }
}

int64_t part_length(int64_t k, int64_t parts)
{
    return ((k + parts - 1) / parts + SLAB - 1) / SLAB * SLAB;
}

} // namespace

extern "C" int64_t lips_cuda_linear_split_parts(int64_t k, int64_t n)
{
    int64_t parts = k / LEAST < k / (SHARE * n) ? k / LEAST : k / (SHARE * n);
    if (parts > MOST)
        parts = MOST;
    return parts < 2 ? 1 : (k + part_length(k, parts) - 1) / part_length(k, parts);
}

extern "C" lips_status lips_cuda_linear_split(const lips_cuda_linear_split_args *a,
                                              cudaStream_t stream)
{
    const int64_t n = a->vjp ? a->c : a->o, k = a->vjp ? a->o : a->c, rows = a->b * a->t;
    const int64_t parts = lips_cuda_linear_split_parts(k, n), length = part_length(k, parts);
    const int64_t most = INT32_MAX - 1024;
    if (rows > 65535 * INT64_C(64) || n > most || k > most)
        return lips_fail(LIPS_ERR_USAGE,
                         "linear_split: %" PRId64 " rows of %" PRId64 " to %" PRId64
                         " features, must be under 2^22 rows and 2^31 features",
                         rows, a->c, a->o);
    product p = {};
    p.a[0] = {const_cast<float *>(a->src), 0, 0, length, k, 1};
    p.b[0] = a->vjp ? batched_product::operand{const_cast<float *>(a->w), 0, 0, length * n, n, 1}
                    : batched_product::operand{const_cast<float *>(a->w), 0, 0, length, 1, k};
    p.c = {a->part, 0, 0, rows * n, n, 1};
    p.terms = 1;
    p.m = (int)rows;
    p.n = (int)n;
    p.k = (int)length;
    p.k_all = (int)k;
    p.alpha = 1;
    p.heads = 1;
    p.stack = (int)parts;
    LIPS_TRY(lips_cuda_batched_product(p, parts, stream));
    const end e = {
        a->dst, a->part,    a->vjp ? nullptr : a->bias, a->vjp ? a->mask : nullptr, rows * n, n,
        a->t,   (int)parts, a->relu && !a->vjp};
    CU_LAUNCH(split_end, dim3(blocks_for(rows * n)), dim3(THREADS), 0, stream, e);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
