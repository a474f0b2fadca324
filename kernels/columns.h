/*
 * kernels/columns.h - sums over the rows of a matrix, one or two per column, in f64 in an order that
 * the shape alone fixes. For bias gradients and batch norm.
 *
 * A block takes up to 32 columns and one chunk of the rows: THREADS / columns threads per column
 * each add every so manieth row, the block adds theirs in turn (block_sums) and writes one partial
 * sum per column and chunk. A second kernel gives one warp per column, whose lanes add every 32nd chunk and then
 * each other's by exchange (column_total).
 *
 *   partial (chunks, SUMS, columns) f64
 *
 * The number of chunks depends on the shape alone, not on the device, so neither do the bits.
 */
#ifndef LIPS_KERNELS_COLUMNS_H
#define LIPS_KERNELS_COLUMNS_H

#include "kernels/flat.h"

namespace lips_columns
{

using lips_flat::THREADS;

constexpr int WARP = 32;
constexpr int64_t BLOCKS_WANTED = 528;   /* 4 per multiprocessor of an H100 (132, datasheet) */
constexpr int64_t ROWS_PER_THREAD = 4;   /* fewer are not worth a partial sum */

struct plan {
    int64_t rows, columns, chunk_rows;
    int64_t chunks; /* blocks one above the other */
    int log_width;  /* columns of a block: 1 << log_width, at most 32 */
    unsigned tiles; /* blocks side by side */
};

inline plan make_plan(int64_t rows, int64_t columns)
{
    plan p = {};
    p.rows = rows;
    p.columns = columns;
    while (p.log_width < 5 && (1 << p.log_width) < columns)
        p.log_width++;
    int64_t width = INT64_C(1) << p.log_width, height = THREADS / width;
    int64_t tiles = (columns + width - 1) / width;
    int64_t most = (rows + height * ROWS_PER_THREAD - 1) / (height * ROWS_PER_THREAD);
    int64_t chunks = (BLOCKS_WANTED + tiles - 1) / tiles;
    chunks = chunks < most ? chunks : most;
    p.chunk_rows = (rows + chunks - 1) / chunks;
    p.chunks = (rows + p.chunk_rows - 1) / p.chunk_rows;
    p.tiles = (unsigned)tiles;
    return p;
}

inline size_t partial_bytes(const plan &p, int sums)
{
    return sizeof(double) * (size_t)p.chunks * (size_t)sums * (size_t)p.columns;
}

/* The block's sums over rows first..end-1 of its columns. Load: __device__ void operator()(double
 * sum[SUMS], int64_t row, int64_t column) const adds; store(k, column, sum) gets sum number k. */
template <int SUMS, class Load, class Store>
__device__ inline void block_sums(const plan &p, int64_t first, int64_t end, Load load, Store store)
{
    CU_SHARED(double, part, [SUMS][THREADS]);
    int width = 1 << p.log_width, height = THREADS >> p.log_width;
    int lane = (int)threadIdx.x & (width - 1), step = (int)threadIdx.x >> p.log_width;
    int64_t column = (int64_t)blockIdx.x * width + lane;
    double sum[SUMS];
    for (int k = 0; k < SUMS; k++)
        sum[k] = 0;
    if (column < p.columns)
        for (int64_t row = first + step; row < end; row += height)
            load(sum, row, column);
    for (int k = 0; k < SUMS; k++)
        part[k][threadIdx.x] = sum[k];
    __syncthreads(); /* all threads' sums before the first row of threads adds them */
    if (step == 0 && column < p.columns)
        for (int k = 0; k < SUMS; k++) {
            double total = 0;
            for (int i = 0; i < height; i++)
                total += part[k][i * width + lane];
            store(k, column, total);
        }
}

template <int SUMS> struct store_partial {
    double *partial;
    int64_t columns;
    __device__ void operator()(int k, int64_t column, double total) const
    {
        partial[((int64_t)blockIdx.y * SUMS + k) * columns + column] = total;
    }
};

template <int SUMS, class Load>
__global__ void column_partials(double *partial, plan p, Load load)
{
    int64_t first = blockIdx.y * p.chunk_rows, end = first + p.chunk_rows;
    block_sums<SUMS>(p, first, end < p.rows ? end : p.rows, load,
                     store_partial<SUMS>{partial, p.columns});
}

/* Sum number k of a column, in every lane of the calling warp, all of whose lanes call. */
template <int SUMS>
__device__ inline double column_total(const double *partial, const plan &p, int k, int64_t column)
{
    double total = 0;
    for (int64_t i = threadIdx.x % WARP; i < p.chunks; i += WARP)
        total += partial[(i * SUMS + k) * p.columns + column];
    for (int step = WARP / 2; step > 0; step /= 2)
        total += __shfl_xor_sync(0xffffffffu, total, step);
    return total;
}

inline dim3 partial_grid(const plan &p)
{
    return dim3(p.tiles, (unsigned)p.chunks);
}

/* One warp per column. */
inline unsigned total_blocks(const plan &p)
{
    return (unsigned)((p.columns * WARP + THREADS - 1) / THREADS);
}

} // namespace lips_columns

#endif
