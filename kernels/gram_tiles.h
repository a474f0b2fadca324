/*
 * kernels/gram_tiles.h - what the Gram kernels share: the triangle of 8x8 tiles of a symmetric f64
 * matrix, and where its values go.
 */
#ifndef LIPS_KERNELS_GRAM_TILES_H
#define LIPS_KERNELS_GRAM_TILES_H

#include "kernels/mma_f64.h"

namespace gram_tiles
{

constexpr int WARP = 32, TILE = 8; /* TILE: rows and columns of mma_m8n8k4_f64 */

__host__ __device__ constexpr int triangle(int n)
{
    return n * (n + 1) / 2;
}

/* Row of entry `index` of a lower triangle counted row by row; its column is index - triangle(row).
 */
__device__ __forceinline__ int triangle_row(int index)
{
    int row = 0;
    while (triangle(row + 1) <= index)
        row++;
    return row;
}

/* Where a block's sums go: straight into theta, or as one of `slices` parts of the sample. */
struct target {
    double *theta; /* (B,T,T) */
    double *part;  /* (B,slices,T,T), lower triangles */
    int t, slices;
};

__device__ __forceinline__ void add_pair(double *theta, int t, int i, int j, double v)
{
    const double sum = theta[(int64_t)i * t + j] + v;
    theta[(int64_t)i * t + j] = sum;
    if (i != j)
        theta[(int64_t)j * t + i] += v;
}

/* Entry (i,j), i >= j, of sample s, from slice number `slice`. */
__device__ __forceinline__ void give(const target &to, int64_t s, int slice, int i, int j, double v,
                                     double scale)
{
    const int64_t size = (int64_t)to.t * to.t;
    if (to.slices == 1)
        add_pair(to.theta + s * size, to.t, i, j, v * scale);
    else
        to.part[(s * to.slices + slice) * size + (int64_t)i * to.t + j] = v;
}

/* Sum of v over the block's threads, to all of them, in an order fixed by the block's size. lanes:
 * room for one double per warp. */
__device__ __forceinline__ double block_sum(double v, double *lanes)
{
    const int warp = (int)threadIdx.x / WARP, warps = (int)blockDim.x / WARP;
    for (int d = WARP / 2; d; d /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    __syncthreads(); /* the room's earlier contents have been read */
    if (threadIdx.x % WARP == 0)
        lanes[warp] = v;
    __syncthreads(); /* every warp's sum is there */
    double sum = 0;
    for (int w = 0; w < warps; w++)
        sum += lanes[w];
    return sum;
}

} // namespace gram_tiles

#endif
