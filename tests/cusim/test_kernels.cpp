/*
 * Correct kernels on the emulated device, against plain loops: shuffles, reductions, shared and
 * dynamic shared memory, atomics, ragged edges; zero reports.
 */
#include "support.h"

#include <vector>

namespace
{

const unsigned ALL = 0xffffffffu;

__global__ void scale(int64_t n, float a, const float *x, float *y)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = a * x[i];
}

template <int N> __global__ void transpose(int rows, int columns, const float *x, float *y)
{
    CU_SHARED(float, tile, [N][N + 1]);
    int c = (int)(blockIdx.x * N + threadIdx.x), r = (int)(blockIdx.y * N + threadIdx.y);
    if (r < rows && c < columns)
        tile[threadIdx.y][threadIdx.x] = x[r * columns + c];
    __syncthreads(); /* the tile is complete */
    int tr = (int)(blockIdx.x * N + threadIdx.y), tc = (int)(blockIdx.y * N + threadIdx.x);
    if (tr < columns && tc < rows)
        y[tr * rows + tc] = tile[threadIdx.x][threadIdx.y];
}

/* One block a row; the row's sum by shuffles and dynamic shared memory. */
__global__ void row_sum(int n, const float *x, float *y)
{
    CU_DYN_SHARED(float, partial);
    float s = 0;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
        s += x[(int64_t)blockIdx.x * n + i];
    for (int o = 16; o; o >>= 1)
        s += __shfl_xor_sync(ALL, s, o);
    if (threadIdx.x % 32 == 0)
        partial[threadIdx.x / 32] = s;
    __syncthreads(); /* all warps' sums are there */
    if (threadIdx.x == 0) {
        for (unsigned w = 1; w < blockDim.x / 32; w++)
            partial[0] += partial[w];
        y[blockIdx.x] = partial[0];
    }
}

__global__ void shuffles(int *out)
{
    int l = (int)threadIdx.x;
    out[l] = __shfl_sync(ALL, l, 3);
    out[32 + l] = __shfl_up_sync(ALL, l, 1);
    out[64 + l] = __shfl_down_sync(ALL, l, 1);
    out[96 + l] = __shfl_xor_sync(ALL, l, 5);
    out[128 + l] = __shfl_sync(ALL, l, 1, 8);
    out[160 + l] = __shfl_down_sync(ALL, l, 3, 8);
    out[192 + l] = (int)__ballot_sync(ALL, l % 3 == 0);
    out[224 + l] = __any_sync(ALL, l == 31) + 2 * __all_sync(ALL, l < 31);
    /* Halves that make different numbers of exchanges, then meet. */
    unsigned half = l < 16 ? 0x0000ffffu : 0xffff0000u;
    int v = l;
    if (l < 16)
        for (int i = 0; i < 3; i++)
            v = __shfl_xor_sync(half, v, 1 << i);
    __syncwarp();
    out[256 + l] = __shfl_sync(ALL, v, 31 - l);
}

__global__ void count(int n, const int *x, int *total)
{
    CU_SHARED(int, sum, [1]);
    if (threadIdx.x == 0)
        sum[0] = 0;
    __syncthreads(); /* sum is zero */
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n)
        atomicAdd(&sum[0], x[i]);
    int even = __syncthreads_count(i < n && x[i] % 2 == 0); /* and sum is complete */
    if (threadIdx.x == 0) {
        atomicAdd(&total[0], sum[0]);
        atomicMax(&total[1], even);
    }
}

void test_scale(void **)
{
    const int64_t n = 1000;
    std::vector<float> x(n), y;
    for (int64_t i = 0; i < n; i++)
        x[(size_t)i] = (float)i;
    Device<float> dx(x), dy(n);
    CU_LAUNCH(scale, dim3(4), dim3(256), 0, 0, n, 0.5f, dx.p, dy.p);
    y = dy.read();
    for (int64_t i = 0; i < n; i++)
        assert_true(y[(size_t)i] == 0.5f * (float)i);
}

void test_transpose(void **)
{
    const int rows = 37, columns = 50;
    std::vector<float> x((size_t)(rows * columns));
    for (size_t i = 0; i < x.size(); i++)
        x[i] = (float)i;
    Device<float> dx(x), dy(x.size());
    CU_LAUNCH((transpose<16>), dim3(4, 3), dim3(16, 16), 0, 0, rows, columns, dx.p, dy.p);
    std::vector<float> y = dy.read();
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            assert_true(y[(size_t)(c * rows + r)] == x[(size_t)(r * columns + c)]);
}

void test_row_sum(void **)
{
    const int rows = 5, n = 100;
    std::vector<float> x((size_t)(rows * n));
    for (size_t i = 0; i < x.size(); i++)
        x[i] = (float)(i % 7);
    Device<float> dx(x), dy(rows);
    CU_LAUNCH(row_sum, dim3(rows), dim3(128), 4 * sizeof(float), 0, n, dx.p, dy.p);
    std::vector<float> y = dy.read();
    for (int r = 0; r < rows; r++) {
        float s = 0;
        for (int i = 0; i < n; i++)
            s += x[(size_t)(r * n + i)];
        assert_true(y[(size_t)r] == s);
    }
}

void test_shuffles(void **)
{
    Device<int> out(288);
    CU_LAUNCH(shuffles, dim3(1), dim3(32), 0, 0, out.p);
    std::vector<int> o = out.read();
    for (int l = 0; l < 32; l++) {
        assert_int_equal(o[(size_t)l], 3);
        assert_int_equal(o[(size_t)(32 + l)], l == 0 ? 0 : l - 1);
        assert_int_equal(o[(size_t)(64 + l)], l == 31 ? 31 : l + 1);
        assert_int_equal(o[(size_t)(96 + l)], l ^ 5);
        assert_int_equal(o[(size_t)(128 + l)], l / 8 * 8 + 1);
        assert_int_equal(o[(size_t)(160 + l)], l % 8 + 3 < 8 ? l + 3 : l);
        assert_int_equal(o[(size_t)(192 + l)], 0x49249249);
        assert_int_equal(o[(size_t)(224 + l)], 1);
        int from = 31 - l;
        assert_int_equal(o[(size_t)(256 + l)], from < 16 ? from ^ 7 : from);
    }
}

void test_count(void **)
{
    const int n = 1000;
    std::vector<int> x(n, 3);
    x[700] = 2;
    Device<int> dx(x), total(std::vector<int>{0, 0});
    CU_LAUNCH(count, dim3(4), dim3(256), 0, 0, n, dx.p, total.p);
    std::vector<int> t = total.read();
    assert_int_equal(t[0], 3 * n - 1);
    assert_int_equal(t[1], 1);
}

/* What nothing wrote is NaN, in every new allocation. */
void test_unwritten(void **)
{
    Device<float> y(100);
    std::vector<float> x(50, 1.0f);
    Device<float> dx(x);
    CU_LAUNCH(scale, dim3(1), dim3(64), 0, 0, (int64_t)50, 1.0f, dx.p, y.p);
    std::vector<float> got = y.read();
    assert_int_equal(unwritten(got.data(), got.size()), 50);
}

} // namespace

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scale),   cmocka_unit_test(test_transpose),
        cmocka_unit_test(test_row_sum), cmocka_unit_test(test_shuffles),
        cmocka_unit_test(test_count),   cmocka_unit_test(test_unwritten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
