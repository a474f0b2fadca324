/*
 * reduce - squared distance of two vectors (reduce.h).
 *
 *   out = sum_{i < n} ((double)a[i] - (double)b[i])^2
 *
 * Shapes     a, b (n) f32, scratch (blocks) f64, out (1) f64; all device
 * Work split pass 1: up to BLOCKS blocks of THREADS threads, each thread adds every so manieth pack
 *            of 4 (single values where a pointer is not 16-byte aligned), the block its threads'
 *            sums by halves. pass 2: one block adds the blocks' sums in the same way.
 * Precision  differences, products and sums in f64
 * Order      fixed by n and the alignment of a and b: no atomics
 * Cost       4 n bytes, 8 n with b: memory bound
 * Limits     none
 * Proof      tests/ops (diff_sumsq)
 * Speed      prediction: at least 85 % of the copy rate from 2^22 values on
 * History    v1 this file
 */
#include "kernels/reduce.h"

#include "kernels/check.h"
#include "kernels/flat.h"

using namespace lips_flat;

namespace
{

constexpr int BLOCKS = 1024; /* some 8 per multiprocessor; pass 2 gives each thread 4 of them */

/* Sum over the block's threads, in thread 0. */
__device__ inline double block_total(double v)
{
    CU_SHARED(double, part, [THREADS]);
    part[threadIdx.x] = v;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads(); /* the sums of the last round before they are read */
        if ((int)threadIdx.x < half)
            part[threadIdx.x] += part[threadIdx.x + half];
    }
    return threadIdx.x == 0 ? part[0] : 0; /* which thread 0 wrote last itself */
}

template <int V>
__global__ void sumsq_partials(double *partial, const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = first_item<int64_t>() * V; i < n; i += item_step<int64_t>() * V) {
        if (i + V <= n) {
            pack<V> p = load<V>(a + i), q = {};
            if (b)
                q = load<V>(b + i);
            for (int j = 0; j < V; j++) {
                double d = (double)p.v[j] - (double)q.v[j];
                sum += d * d;
            }
        } else {
            for (int64_t k = i; k < n; k++) {
                double d = (double)a[k] - (b ? (double)b[k] : 0);
                sum += d * d;
            }
        }
    }
    sum = block_total(sum);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

__global__ void sumsq_total(double *out, const double *partial, int blocks)
{
    double sum = 0;
    for (int i = (int)threadIdx.x; i < blocks; i += THREADS)
        sum += partial[i];
    sum = block_total(sum);
    if (threadIdx.x == 0)
        *out = sum;
}

int blocks_of(int64_t n)
{
    int64_t blocks = (n + 4 * THREADS - 1) / (4 * THREADS);
    return (int)(blocks < 1 ? 1 : blocks < BLOCKS ? blocks : BLOCKS);
}

} // namespace

extern "C" size_t lips_cuda_diff_sumsq_bytes(int64_t n)
{
    return sizeof(double) * (size_t)blocks_of(n);
}

extern "C" lips_status lips_cuda_diff_sumsq(double *out, const float *a, const float *b, int64_t n,
                                            void *scratch, cudaStream_t stream)
{
    double *partial = static_cast<double *>(scratch);
    int blocks = blocks_of(n);
    if (aligned(a) && aligned(b))
        CU_LAUNCH((sumsq_partials<4>), dim3((unsigned)blocks), dim3(THREADS), 0, stream, partial, a,
                  b, n);
    else
        CU_LAUNCH((sumsq_partials<1>), dim3((unsigned)blocks), dim3(THREADS), 0, stream, partial, a,
                  b, n);
    CU_LAUNCH(sumsq_total, dim3(1), dim3(THREADS), 0, stream, out, partial, blocks);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
