/*
 * tests/cusim/planted.h - one kernel per kind of mistake, each with its correct twin (GOOD), for
 * the tests of the emulator's detectors: the correct one must give no report and the same bits in
 * every order of threads, the other must be caught.
 *
 * All take x (64) input and y (64) output, both device memory; with GOOD all of y is written.
 */
#ifndef LIPS_TESTS_CUSIM_PLANTED_H
#define LIPS_TESTS_CUSIM_PLANTED_H

#include "kernels/cuda.h"
#include "kernels/mma.h"

namespace planted
{

const int N = 64; /* two warps */

template <bool GOOD> __device__ void sync_if_good()
{
    if (GOOD)
        __syncthreads();
}

/* ---- between threads of a block ---- */

template <bool GOOD> __global__ void missing_barrier(const float *x, float *y)
{
    CU_SHARED(float, s, [N]);
    int i = (int)threadIdx.x;
    s[i] = x[i];
    sync_if_good<GOOD>(); /* s is complete */
    y[i] = s[N - 1 - i];
}

/* The second tile overwrites the first while others still read it. */
template <bool GOOD> __global__ void write_after_read(const float *x, float *y)
{
    CU_SHARED(float, s, [N]);
    int i = (int)threadIdx.x;
    float sum = 0;
    for (int tile = 1; tile <= 2; tile++) {
        s[i] = x[i] * (float)tile;
        __syncthreads(); /* s is complete */
        sum += s[N - 1 - i];
        sync_if_good<GOOD>(); /* s is read */
    }
    y[i] = sum;
}

/* The value that the first reduction broadcasts is overwritten by the second. */
template <bool GOOD> __global__ void reused_scratch(const float *x, float *y)
{
    CU_DYN_SHARED(float, s);
    int i = (int)threadIdx.x;
    s[i] = x[i];
    __syncthreads(); /* s holds x */
    float top = s[0];
    for (int k = 1; k < N; k++)
        top = fmaxf(top, s[k]);
    sync_if_good<GOOD>(); /* s is read */
    s[i] = x[i] - top;
    __syncthreads(); /* s holds the differences */
    y[i] = top + s[(i + 1) % N];
}

template <bool GOOD> __global__ void missing_syncwarp(const float *x, float *y)
{
    CU_SHARED(float, s, [N]);
    int i = (int)threadIdx.x;
    s[i] = x[i];
    if (GOOD)
        __syncwarp();
    y[i] = s[i ^ 31];
}

/* A shuffle meets the lanes of a warp, but orders no memory between them. */
template <bool GOOD> __global__ void shuffle_for_syncwarp(const float *x, float *y)
{
    CU_SHARED(float, s, [N]);
    int i = (int)threadIdx.x;
    s[i] = x[i];
    float first = __shfl_sync(0xffffffffu, x[i], 0);
    if (GOOD)
        __syncwarp();
    y[i] = first + s[i ^ 31];
}

/* A copy is asked for while others still read what it overwrites. */
template <bool GOOD> __global__ void copy_over_readers(const float *x, float *y)
{
    CU_SHARED(float, s, [N]);
    int i = (int)threadIdx.x;
    s[i] = x[i];
    __syncthreads(); /* s is complete */
    float old = s[N - 1 - i];
    sync_if_good<GOOD>(); /* s is read */
    mma_copy_async<4>(&s[i], &x[i], true);
    mma_copy_commit();
    __syncthreads(); /* only the copies' ends */
    mma_copy_wait<0>();
    y[i] = old + s[i];
}

/* The copies of other threads are seen after the barrier that follows the wait. */
template <bool GOOD> __global__ void copies_unseen(const float *x, float *y)
{
    CU_SHARED(float, s, [N]);
    int i = (int)threadIdx.x;
    mma_copy_async<4>(&s[i], &x[i], true);
    mma_copy_commit();
    mma_copy_wait<0>();
    sync_if_good<GOOD>(); /* s is complete */
    y[i] = s[N - 1 - i];
}

template <bool GOOD> __global__ void two_writers(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    y[GOOD ? i : i / 2] = x[i];
}

/* ---- between blocks: launched with two blocks of 32 threads ---- */

template <bool GOOD> __global__ void blocks_overwrite(const float *x, float *y)
{
    int t = (int)threadIdx.x, i = (int)blockIdx.x * 32 + t;
    y[i] = x[i];
    if (!GOOD)
        y[t] = x[i];
}

/* ---- barriers and masks ---- */

template <bool GOOD> __global__ void divergent_barrier(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    if (GOOD) {
        __syncthreads();
    } else if (i & 1) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    y[i] = x[i];
}

template <bool GOOD> __global__ void early_exit(int n, const float *x, float *y)
{
    int i = (int)threadIdx.x;
    if (!GOOD && i >= n)
        return;
    __syncthreads();
    y[i] = x[i];
}

template <bool GOOD> __global__ void lane_not_in_mask(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    y[i] = __shfl_sync(GOOD ? 0xffffffffu : 0x0000ffffu, x[i], 0);
}

template <bool GOOD> __global__ void source_not_in_mask(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    unsigned half = i % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
    y[i] = __shfl_xor_sync(half, x[i], GOOD ? 1 : 16);
}

template <bool GOOD> __global__ void mask_names_ended_lane(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    if (!GOOD && i % 32 >= 16)
        return;
    y[i] = __shfl_xor_sync(0xffffffffu, x[i], 1);
}

/* Lanes that wait for each other in two places. */
template <bool GOOD> __global__ void collective_deadlock(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    if (!GOOD && i % 32 < 16)
        __syncthreads();
    __syncwarp();
    if (GOOD || i % 32 >= 16)
        __syncthreads();
    y[i] = x[i];
}

/* ---- asynchronous copies ---- */

template <bool GOOD> __global__ void copy_without_end(const float *x, float *y)
{
    CU_SHARED(float, s, [N]);
    int i = (int)threadIdx.x;
    mma_copy_async<4>(&s[i], &x[i], true);
    if (GOOD) {
        mma_copy_commit();
        mma_copy_wait<0>();
    }
    y[i] = s[i];
}

/* The group that is waited for is the one before. */
template <bool GOOD> __global__ void copy_read_early(const float *x, float *y)
{
    CU_SHARED(float, s, [2 * N]);
    int i = (int)threadIdx.x;
    for (int half = 0; half < 2; half++) {
        mma_copy_async<4>(&s[half * N + i], &x[i], true);
        mma_copy_commit();
    }
    if (GOOD)
        mma_copy_wait<0>();
    else
        mma_copy_wait<1>();
    y[i] = s[i] + s[N + i];
    mma_copy_wait<0>();
}

template <bool GOOD> __global__ void copy_unaligned(const float *x, float *y)
{
    CU_SHARED(float, s, [N + 4]);
    int i = (int)threadIdx.x;
    if (i % 4 == 0)
        mma_copy_async<16>(&s[i + (GOOD ? 0 : 1)], &x[i], true);
    mma_copy_commit();
    mma_copy_wait<0>();
    __syncthreads(); /* s is complete */
    y[i] = s[i + (GOOD ? 0 : 1)];
}

/* ---- memory ---- */

template <bool GOOD> __global__ void write_past_end(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    y[i + (GOOD ? 0 : 1)] = x[i];
}

template <bool GOOD> __global__ void read_past_end(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    y[i] = x[i + (GOOD ? 0 : 1)];
}

template <bool GOOD> __global__ void write_before_start(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    y[i] = x[i];
    if (!GOOD && i == 0)
        y[-1] = 0;
}

template <bool GOOD> __global__ void null_pointer(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    y[i] = GOOD ? x[i] : static_cast<const float *>(nullptr)[i];
}

template <bool GOOD> __global__ void shared_past_end(const float *x, float *y)
{
    CU_SHARED(float, s, [N]);
    int i = (int)threadIdx.x;
    s[i] = x[i];
    if (!GOOD && i == 0)
        (&s[0])[N] = 1;
    __syncthreads(); /* s is complete */
    y[i] = s[N - 1 - i];
}

template <bool GOOD> __global__ void dynamic_past_end(const float *x, float *y)
{
    CU_DYN_SHARED(float, s);
    int i = (int)threadIdx.x;
    s[i + (GOOD ? 0 : 1)] = x[i];
    __syncthreads(); /* s is complete */
    y[i] = GOOD ? s[N - 1 - i] : 0;
}

struct alignas(16) Quad {
    float v[4];
};

/* An access of 16 bytes at an address that is a multiple of 4. */
template <bool GOOD> __global__ void unaligned_vector(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    if (i < N / 4 - 1) {
        Quad q = *reinterpret_cast<const Quad *>(x + 4 * i + (GOOD ? 0 : 1));
        for (int k = 0; k < 4; k++)
            y[4 * i + k] = q.v[k];
    } else if (i < N / 4 + 3) {
        y[N - 4 + i - (N / 4 - 1)] = 0;
    }
}

template <bool GOOD> __global__ void unaligned_shared(const float *x, float *y)
{
    CU_SHARED(float, s, [N + 4]);
    int i = (int)threadIdx.x;
    s[i] = x[i];
    if (i < 4)
        s[N + i] = 0;
    __syncthreads(); /* s is complete */
    Quad q = *reinterpret_cast<const Quad *>(&s[i / 4 * 4 + (GOOD ? 0 : 1)]);
    y[i] = q.v[i % 4];
}

/* ---- values that nothing wrote: caught as NaN in the output ---- */

template <bool GOOD> __global__ void shared_read_past_end(const float *x, float *y)
{
    CU_SHARED(float, s, [N]);
    int i = (int)threadIdx.x;
    s[i] = x[i];
    __syncthreads(); /* s is complete */
    y[i] = (&s[0])[i + (GOOD ? 0 : 1)];
}

template <bool GOOD> __global__ void uninitialised_shared(const float *x, float *y)
{
    CU_SHARED(float, sum, [1]);
    int i = (int)threadIdx.x;
    if (i == 0) {
        if (GOOD)
            sum[0] = 0;
        for (int k = 0; k < N; k++)
            sum[0] += x[k];
    }
    __syncthreads(); /* sum is complete */
    y[i] = sum[0];
}

/* What the block before left behind is not there: launched with two blocks of 32 threads. */
template <bool GOOD> __global__ void shared_kept_between_blocks(const float *x, float *y)
{
    CU_SHARED(float, s, [32]);
    int i = (int)threadIdx.x;
    if (GOOD || blockIdx.x == 0)
        s[i] = x[i];
    y[blockIdx.x * 32 + (unsigned)i] = s[i];
}

template <bool GOOD> __global__ void unwritten_output(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    if (i < (GOOD ? N : N - 1))
        y[i] = x[i];
}

template <bool GOOD> __global__ void uninitialised_global(const float *x, float *y)
{
    int i = (int)threadIdx.x;
    y[i] = GOOD ? x[i] : y[i] + x[i];
}

/* How a case is launched: blocks of N/blocks threads, bytes of dynamic shared memory. */
struct Case {
    const char *name;
    void (*run)(bool good, const float *x, float *y, cudaStream_t stream);
};

#define PLANTED(kernel, blocks, dynamic, ...)                                                      \
    {                                                                                              \
#kernel, [](bool good, const float *x, float *y, cudaStream_t stream) {                    \
            if (good)                                                                              \
                CU_LAUNCH((kernel<true>), dim3(blocks), dim3(N / (blocks)), dynamic, stream,       \
                          ##__VA_ARGS__, x, y);                                                    \
            else                                                                                   \
                CU_LAUNCH((kernel<false>), dim3(blocks), dim3(N / (blocks)), dynamic, stream,      \
                          ##__VA_ARGS__, x, y);                                                    \
        }       \
    }

} // namespace planted

#endif
