/*
 * advance - judges a batch by its losses and moves the run's cursor past it (optimizer.h).
 *
 *   loss = 1/b sum_i loss_i
 *   stop = LOSS if loss is not finite; GRADIENT if loss > loss_watch and not |g| < grad_max
 *   stopped, now or before   buffers = kept
 *   else                     kept = buffers; row += b; updates += 1;
 *                            adam_rate = rate / (1 - beta1^updates),
 *                            adam_root = 1 / sqrt(1 - beta2^updates)
 *
 * Shapes     loss (b) f64, g (n) f32, buffers, kept (n_buffers) f32, cursor (backend/cursor.h); all
 *            device
 * Work split one block: what it decides all its threads must know before the buffers are moved.
 *            Each thread adds every so manieth value, the block its threads' sums by halves.
 * Precision  f64
 * Order      fixed by b and n: no atomics
 * Cost       a batch of losses and a few thousand buffers: the launch itself is the time. A loss
 *            above loss_watch costs one reading of g by one multiprocessor, some ms for 1e7
 *            parameters: such a run ends soon, one way or the other.
 * Limits     none
 * Proof      tests/ops (advance), tests/train
 * Speed      prediction: 4 us
 * History    v1 this file
 */
#include "kernels/optimizer.h"

#include "kernels/check.h"
#include "kernels/cuda.h"

namespace
{

constexpr int THREADS = 512;

/* The block's sum of v, in every thread. part (THREADS) is free to be used again on return. */
__device__ inline double block_sum(double *part, double v)
{
    part[threadIdx.x] = v;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads(); /* the sums of the last round before they are read */
        if ((int)threadIdx.x < half)
            part[threadIdx.x] += part[threadIdx.x + half];
    }
    __syncthreads(); /* the total is complete */
    const double sum = part[0];
    __syncthreads(); /* it is read before the next sum overwrites it */
    return sum;
}

__device__ inline int64_t judge(const lips_cuda_advance_args &a, double *part, double *mean)
{
    double sum = 0, squares = 0;
    for (int64_t i = threadIdx.x; i < a.b; i += THREADS)
        sum += a.loss[i];
    const double loss = block_sum(part, sum) / (double)a.b;
    *mean = loss;
    if (!isfinite(loss))
        return LIPS_STOP_LOSS;
    if (!(loss > a.loss_watch))
        return LIPS_STOP_NONE;
    for (int64_t i = threadIdx.x; i < a.n; i += THREADS)
        squares += (double)a.g[i] * (double)a.g[i];
    return sqrt(block_sum(part, squares)) < a.grad_max ? LIPS_STOP_NONE : LIPS_STOP_GRADIENT;
}

__global__ void __launch_bounds__(THREADS) advance(lips_cuda_advance_args a)
{
    CU_SHARED(double, part, [THREADS]);
    lips_cursor *c = a.cursor;
    double loss = c->loss;
    int64_t stop = c->stop;
    __syncthreads(); /* all have read the cursor before one writes it */
    if (!stop)
        stop = judge(a, &part[0], &loss);
    for (int64_t i = threadIdx.x; i < a.n_buffers; i += THREADS)
        if (stop)
            a.buffers[i] = a.kept[i];
        else
            a.kept[i] = a.buffers[i];
    if (threadIdx.x > 0)
        return;
    c->loss = loss;
    c->stop = stop;
    if (stop)
        return;
    c->row += a.b;
    c->updates++;
    c->adam_rate = c->rate / (1 - pow(a.beta1, (double)c->updates));
    c->adam_root = 1 / sqrt(1 - pow(a.beta2, (double)c->updates));
}

} // namespace

extern "C" lips_status lips_cuda_advance(const lips_cuda_advance_args *a, cudaStream_t stream)
{
    if (a->b < 1)
        return lips_fail(LIPS_ERR_USAGE, "advance: %lld samples", (long long)a->b);
    CU_LAUNCH(advance, dim3(1), dim3(THREADS), 0, stream, *a);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
