/*
 * kernels/columns.h - sums over the rows of a matrix, one or two per column, in f64 in an order
 * that the shape alone fixes; of one matrix or of each sample's. For bias gradients, norms, and the
 * sums over positions that Gram matrices of their parameters are made of.
 *
 * A block takes one tile of columns, up to THREADS packs of V, and one chunk of the rows: its
 * threads stand in `parts` rows of `lanes` packs, each adds every parts-th row, and the parts are
 * added by halves (block_sums). One partial sum per column and chunk goes out. A second kernel
 * gives one warp per column, whose lanes add every 32nd chunk and then each other's by exchange
 * (column_total).
 *
 *   partial (chunks, SUMS, columns) f64
 *
 * The number of chunks depends on the shape alone, not on the device, so neither do the bits.
 *
 * A Load has
 *   void start<V>(int64_t column)               before all: the first of this thread's V columns
 *   void prepare<V>(int64_t first, int64_t end) by all threads, before rows first..end - 1
 *   void add<V>(double (&sum)[SUMS][V], int64_t row)
 *   step                                        rows prepared at once; 0: nothing is to be prepared
 *   RESIDENT                                    blocks that must find registers on a multiprocessor
 *                                               at once; ptxas left alone spilled for a fourth
 * Rows are counted through all samples. A Store gets (k, column, sum, sample, chunk).
 *
 * Counts, for 16 bytes of one operand: an access, 4 conversions of 16 a clock and multiprocessor
 * (CUDA programming guide, 9.0), 4 to 12 f64 operations of 64, some 12 others of 128. At the 13
 * bytes a clock and multiprocessor of an H100's copy rate (3.0e12 / 132 / 1.755e9): conversions
 * 20 %, f64 5 to 15 %, all issued 13 to 24 %: memory decides.
 */
#ifndef LIPS_KERNELS_COLUMNS_H
#define LIPS_KERNELS_COLUMNS_H

#include "kernels/flat.h"

namespace lips_columns
{

using lips_flat::THREADS;

constexpr int WARP = 32;
constexpr int64_t BLOCKS_WANTED = 528; /* 4 per multiprocessor of an H100 (132, datasheet) */
constexpr int64_t ROWS_PER_THREAD = 4; /* fewer are not worth a partial sum */
constexpr int TILES_TRIED = 8;
constexpr int ENOUGH = THREADS - THREADS / 16; /* busy threads of a block */

struct plan {
    int64_t rows, columns, chunk_rows; /* rows and columns of each sample */
    int64_t samples, chunks;           /* blocks in z, and one above the other */
    int v, lanes, parts;
    int tiles; /* blocks side by side */
};

/* Tiles of at most `widest` packs, as few as leave few threads idle. */
inline void divide_columns(plan &p, int64_t widest)
{
    const int64_t packs = (p.columns + p.v - 1) / p.v, least = (packs + widest - 1) / widest;
    int64_t most_busy = 0;
    for (int64_t tiles = least; tiles < least + TILES_TRIED && most_busy < ENOUGH; tiles++) {
        const int64_t lanes = (packs + tiles - 1) / tiles;
        const int64_t busy = THREADS / lanes * packs / tiles; /* the last tile may be narrower */
        if (busy <= most_busy)
            continue;
        most_busy = busy;
        p.tiles = (int)tiles;
        p.lanes = (int)lanes;
        p.parts = (int)(THREADS / lanes);
    }
}

inline plan tiled(int64_t rows, int64_t columns, int v, int64_t samples)
{
    plan p = {};
    p.rows = rows;
    p.columns = columns;
    p.samples = samples;
    p.v = v;
    divide_columns(p, THREADS);
    return p;
}

/* More than there will be: chunks of equal size round it down. Never falls as the rows grow. */
inline int64_t chunks_wanted(const plan &p)
{
    const int64_t worth = p.parts * ROWS_PER_THREAD, most = (p.rows + worth - 1) / worth;
    const int64_t blocks = BLOCKS_WANTED / (p.tiles * p.samples);
    const int64_t chunks = blocks < most ? blocks : most;
    return chunks < 1 ? 1 : chunks;
}

/* v: 4 where the columns divide by it and all operands are aligned, else 1. */
inline plan make_plan(int64_t rows, int64_t columns, int v, int64_t samples = 1)
{
    plan p = tiled(rows, columns, v, samples);
    const int64_t chunks = chunks_wanted(p);
    p.chunk_rows = (rows + chunks - 1) / chunks;
    p.chunks = (rows + p.chunk_rows - 1) / p.chunk_rows;
    return p;
}

/* All rows in one chunk, of tiles no wider than a warp's access. */
inline plan make_plan_once(int64_t rows, int64_t columns, int v)
{
    plan p = {};
    p.rows = p.chunk_rows = rows;
    p.columns = columns;
    p.samples = p.chunks = 1;
    p.v = v;
    divide_columns(p, WARP / v);
    return p;
}

/* Chunks of all samples together: enough for so many samples or fewer, whatever v. */
inline int64_t chunks_most(int64_t rows, int64_t columns, int64_t samples)
{
    int64_t most = samples;
    for (int v = 1; v <= 4; v += 3) {
        const plan p = tiled(rows, columns, v, 1);
        const int64_t blocks = BLOCKS_WANTED / p.tiles, all = samples * chunks_wanted(p);
        const int64_t here = blocks < all ? blocks : all;
        most = here > most ? here : most;
    }
    return most;
}

/* Enough for every plan of so many rows or fewer, whatever its v. */
inline size_t partial_bytes(int64_t rows, int64_t columns, int sums)
{
    return sizeof(double) * (size_t)chunks_most(rows, columns, 1) * (size_t)(sums * columns);
}

struct no_preparation {
    static constexpr int RESIDENT = 3;
    static constexpr int64_t step = 0;
    template <int V> __device__ void prepare(int64_t, int64_t)
    {
    }
};

/* The block's sums over rows first..end-1 of its columns, counted within the sample. */
template <int SUMS, int V, class Load, class Store>
__device__ inline void block_sums(const plan &p, int64_t first, int64_t end, Load load, Store store)
{
    CU_SHARED(double, part, [SUMS * V][THREADS]);
    const int lane = (int)threadIdx.x % p.lanes, step = (int)threadIdx.x / p.lanes;
    const int64_t column = ((int64_t)blockIdx.x * p.lanes + lane) * V;
    const int64_t sample = (int64_t)blockIdx.z * p.rows;
    const bool busy = step < p.parts && column < p.columns;
    double sum[SUMS][V] = {};
    if (busy)
        load.template start<V>(column);
    for (int64_t from = first; from < end;) {
        const int64_t to = load.step && from + load.step < end ? from + load.step : end;
        load.template prepare<V>(sample + from, sample + to);
        if (busy)
#pragma unroll 4
            for (int64_t row = from + step; row < to; row += p.parts)
                load.template add<V>(sum, sample + row);
        from = to;
    }
    for (int k = 0; k < SUMS; k++)
        for (int j = 0; j < V; j++)
            part[k * V + j][threadIdx.x] = sum[k][j];
    for (int n = p.parts; n > 1;) {
        const int half = (n + 1) / 2;
        __syncthreads(); /* the sums of the last round before they are read */
        if (step < n - half)
            for (int i = 0; i < SUMS * V; i++)
                part[i][threadIdx.x] += part[i][(int)threadIdx.x + half * p.lanes];
        n = half;
    }
    if (step == 0 && busy) /* whose sums its own threads wrote last */
        for (int k = 0; k < SUMS; k++)
            for (int j = 0; j < V; j++)
                store(k, column + j, part[k * V + j][threadIdx.x], (int64_t)blockIdx.z,
                      (int64_t)blockIdx.y);
}

template <int SUMS> struct store_partial {
    double *partial;
    int64_t columns;
    __device__ void operator()(int k, int64_t column, double total, int64_t, int64_t chunk) const
    {
        partial[(chunk * SUMS + k) * columns + column] = total;
    }
};

template <int SUMS, int V, class Load, class Store>
__global__ void __launch_bounds__(THREADS, Load::RESIDENT)
    column_partials(plan p, Load load, Store store)
{
    const int64_t first = blockIdx.y * p.chunk_rows, end = first + p.chunk_rows;
    block_sums<SUMS, V>(p, first, end < p.rows ? end : p.rows, load, store);
}

template <int SUMS, class Load, class Store>
void launch_partials(const plan &p, Load load, Store store, cudaStream_t stream)
{
    const dim3 grid((unsigned)p.tiles, (unsigned)p.chunks, (unsigned)p.samples);
    if (p.v == 4)
        CU_LAUNCH((column_partials<SUMS, 4, Load, Store>), grid, dim3(THREADS), 0, stream, p, load,
                  store);
    else
        CU_LAUNCH((column_partials<SUMS, 1, Load, Store>), grid, dim3(THREADS), 0, stream, p, load,
                  store);
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

/* One warp per column. */
inline unsigned total_blocks(const plan &p)
{
    return (unsigned)((p.columns * WARP + THREADS - 1) / THREADS);
}

} // namespace lips_columns

#endif
