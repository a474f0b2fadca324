/*
 * tensor - layout changes, constants and sums of tensors (tensor.h).
 *
 *   transpose  dst[s][j][i] = src[s][i][j]       fill   dst[i] = value
 *   eye        dst[s][t][c] = (t == c) scale     add    y[i] = a[i] + b[i]
 *
 * Shapes     transpose n x (rows, cols) f32; the others flat f32. All device.
 * Work split transpose: a block of 32 x 8 threads per 32 x 32 tile, tiles in grid.x, samples in
 *            grid.y (looped beyond 65535). The others: a thread per pack of 4 values (1 where a
 *            pointer is not 16-byte aligned).
 * Precision  one rounding in add, none elsewhere
 * Order      nothing is summed over threads
 * Cost       bytes: transpose 8 per value, fill and eye 4, add 12: memory bound
 * Limits     rows, cols < 2^31 tiles; rows or cols below 32 leave threads of a tile idle (an
 *            upload of 3-channel images: 3 of 32 rows; the copy over PCIe hides it)
 * Proof      tests/ops (upload, upload_f64, download, fill, eye, add)
 * Speed      prediction: at least 85 % of the copy rate for add and fill from 2^20 values on
 * History    v1 this file
 */
#include "kernels/tensor.h"

#include "kernels/check.h"
#include "kernels/flat.h"

using namespace lips_flat;

namespace
{

constexpr int TILE = 32; /* one warp reads one row of the tile */
constexpr int TILE_ROWS = 8;
constexpr int64_t GRID_Y_MAX = 65535;
static_assert(TILE * TILE_ROWS == THREADS, "a tile is one block's");

__global__ void transpose_tiles(float *dst, const float *src, int64_t n, int64_t rows, int64_t cols)
{
    CU_SHARED(float, tile, [TILE][TILE + 1]); /* + 1: a column has its words in different banks */
    int64_t across = (cols + TILE - 1) / TILE;
    int64_t i0 = blockIdx.x / across * TILE, j0 = blockIdx.x % across * TILE;
    int x = (int)threadIdx.x % TILE, y0 = (int)threadIdx.x / TILE;
    for (int64_t s = blockIdx.y; s < n; s += gridDim.y) {
        const float *from = src + s * rows * cols;
        float *to = dst + s * rows * cols;
        for (int y = y0; y < TILE; y += TILE_ROWS)
            if (i0 + y < rows && j0 + x < cols)
                tile[y][x] = from[(i0 + y) * cols + j0 + x];
        __syncthreads(); /* tile written before it is read across */
        for (int y = y0; y < TILE; y += TILE_ROWS)
            if (j0 + y < cols && i0 + x < rows)
                to[(j0 + y) * rows + i0 + x] = tile[x][y];
        __syncthreads(); /* tile read before the next sample overwrites it */
    }
}

template <int V> __global__ void fill_values(float *dst, float value, int64_t n)
{
    for (int64_t i = first_item<int64_t>() * V; i < n; i += item_step<int64_t>() * V) {
        if (i + V <= n) {
            pack<V> x;
            for (int j = 0; j < V; j++)
                x.v[j] = value;
            store<V>(dst + i, x);
        } else {
            for (int64_t k = i; k < n; k++)
                dst[k] = value;
        }
    }
}

__global__ void eye_values(float *dst, float scale, int64_t n, int64_t k)
{
    for (int64_t i = first_item<int64_t>(); i < n; i += item_step<int64_t>()) {
        int64_t at = i % (k * k);
        dst[i] = at / k == at % k ? scale : 0.0f;
    }
}

template <int V> __global__ void add_values(float *y, const float *a, const float *b, int64_t n)
{
    for (int64_t i = first_item<int64_t>() * V; i < n; i += item_step<int64_t>() * V) {
        if (i + V <= n) {
            pack<V> p = load<V>(a + i), q = load<V>(b + i);
            for (int j = 0; j < V; j++)
                p.v[j] += q.v[j];
            store<V>(y + i, p);
        } else {
            for (int64_t k = i; k < n; k++)
                y[k] = a[k] + b[k];
        }
    }
}

} // namespace

extern "C" lips_status lips_cuda_transpose(float *dst, const float *src, int64_t n, int64_t rows,
                                           int64_t cols, cudaStream_t stream)
{
    int64_t tiles = ((rows + TILE - 1) / TILE) * ((cols + TILE - 1) / TILE);
    if (n < 1 || rows < 1 || cols < 1 || tiles > INT32_MAX)
        return lips_fail(LIPS_ERR_USAGE, "transpose: %lld tiles of 32x32, must be in 1..%d",
                         (long long)tiles, INT32_MAX);
    dim3 grid((unsigned)tiles, (unsigned)(n < GRID_Y_MAX ? n : GRID_Y_MAX));
    CU_LAUNCH(transpose_tiles, grid, dim3(THREADS), 0, stream, dst, src, n, rows, cols);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_fill(float *dst, float value, int64_t n, cudaStream_t stream)
{
    if (n == 0)
        return LIPS_OK;
    if (aligned(dst))
        CU_LAUNCH((fill_values<4>), dim3(blocks_for((n + 3) / 4)), dim3(THREADS), 0, stream, dst,
                  value, n);
    else
        CU_LAUNCH((fill_values<1>), dim3(blocks_for(n)), dim3(THREADS), 0, stream, dst, value, n);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_eye(float *dst, float scale, int64_t n, int64_t k,
                                     cudaStream_t stream)
{
    int64_t values = n * k * k;
    CU_LAUNCH(eye_values, dim3(blocks_for(values)), dim3(THREADS), 0, stream, dst, scale, values,
              k);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_add(float *y, const float *a, const float *b, int64_t n,
                                     cudaStream_t stream)
{
    if (n == 0)
        return LIPS_OK;
    if (aligned(y) && aligned(a) && aligned(b))
        CU_LAUNCH((add_values<4>), dim3(blocks_for((n + 3) / 4)), dim3(THREADS), 0, stream, y, a, b,
                  n);
    else
        CU_LAUNCH((add_values<1>), dim3(blocks_for(n)), dim3(THREADS), 0, stream, y, a, b, n);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
