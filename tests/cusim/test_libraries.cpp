/*
 * The stand-ins for cuBLAS and cuDNN against plain loops: exact on small integers, rounded as the
 * compute type says otherwise; what the real ones refuse is refused.
 */
#include "support.h"

#include <cublas_v2.h>
#include <cudnn.h>

namespace
{

std::vector<float> integers(size_t n, unsigned seed)
{
    std::vector<float> v(n);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        v[i] = (float)((int)(seed >> 16) % 9 - 4);
    }
    return v;
}

struct Blas {
    cublasHandle_t h = nullptr;
    Blas()
    {
        assert_int_equal(cublasCreate(&h), CUBLAS_STATUS_SUCCESS);
    }
    ~Blas()
    {
        cublasDestroy(h);
    }
};

/* C = 2 op(A) op(B) + 3 C for a batch of two, every combination of transpositions, odd leading
 * dimensions; on integers, so that every order of summation gives the same bits. */
void test_gemm(void **)
{
    Blas blas;
    const int m = 5, n = 3, k = 7, batch = 2;
    for (int which = 0; which < 4; which++) {
        bool ta = which & 1, tb = which & 2;
        int lda = (ta ? k : m) + 1, ldb = (tb ? n : k) + 2, ldc = m + 3;
        int64_t sa = lda * (ta ? m : k), sb = ldb * (tb ? k : n), sc = ldc * n;
        std::vector<float> a = integers((size_t)(sa * batch), 1);
        std::vector<float> b = integers((size_t)(sb * batch), 2);
        std::vector<float> c = integers((size_t)(sc * batch), 3);
        Device<float> da(a), db(b), dc(c);
        float alpha = 2, beta = 3;
        assert_int_equal(cublasSgemmStridedBatched(blas.h, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                                                   tb ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k, &alpha,
                                                   da.p, lda, sa, db.p, ldb, sb, &beta, dc.p, ldc,
                                                   sc, batch),
                         CUBLAS_STATUS_SUCCESS);
        std::vector<float> got = dc.read();
        for (int q = 0; q < batch; q++)
            for (int j = 0; j < ldc * n; j++) {
                size_t at = (size_t)(q * sc + j);
                float want = c[at];
                if (j % ldc < m) {
                    float s = 0;
                    for (int l = 0; l < k; l++) {
                        int row = j % ldc, col = j / ldc;
                        s += a[(size_t)(q * sa + (ta ? row * lda + l : l * lda + row))] *
                             b[(size_t)(q * sb + (tb ? l * ldb + col : col * ldb + l))];
                    }
                    want = 2 * s + 3 * c[at];
                }
                assert_true(got[at] == want);
            }
    }
}

/* 1 + 2^-12 squared, in each arithmetic. */
void test_gemm_precision(void **)
{
    Blas blas;
    const float x = 1 + 0x1p-12f, one = 1, zero = 0;
    Device<float> a(std::vector<float>{x}), c(1);
    struct {
        cublasComputeType_t type;
        float want;
    } cases[] = {{CUBLAS_COMPUTE_32F, x * x},
                 {CUBLAS_COMPUTE_32F_PEDANTIC, x * x},
                 {CUBLAS_COMPUTE_32F_FAST_TF32, 1},
                 {CUBLAS_COMPUTE_32F_FAST_16BF, 1}};
    for (auto &t : cases) {
        cublasGemmEx(blas.h, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a.p, CUDA_R_32F, 1, a.p,
                     CUDA_R_32F, 1, &zero, c.p, CUDA_R_32F, 1, t.type, CUBLAS_GEMM_DEFAULT);
        assert_true(c.read()[0] == t.want);
    }
    cublasSetMathMode(blas.h, CUBLAS_TF32_TENSOR_OP_MATH);
    cublasSgemm(blas.h, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a.p, 1, a.p, 1, &zero, c.p, 1);
    assert_true(c.read()[0] == 1); /* and the NaN that c held is gone: beta 0 does not read it */
}

void test_gemm_refuses(void **)
{
    Blas blas;
    Device<float> a(64);
    float one = 1;
    assert_int_equal(
        cublasSgemm(blas.h, CUBLAS_OP_N, CUBLAS_OP_N, 8, 8, 8, &one, a.p, 7, a.p, 8, &one, a.p, 8),
        CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(cublasGemmEx(blas.h, CUBLAS_OP_N, CUBLAS_OP_N, 8, 8, 8, &one, a.p, CUDA_R_32F,
                                  8, a.p, CUDA_R_32F, 8, &one, a.p, CUDA_R_32F, 8,
                                  CUBLAS_COMPUTE_32I, CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_NOT_SUPPORTED);
}

/* One convolution with everything that belongs to it, NHWC or NCHW. */
struct Conv {
    int n = 2, c = 3, h = 7, w = 6, k = 4, r = 3, s = 2, pad = 1, stride, dilation, oh = 0, ow = 0;
    bool nhwc;
    cudnnHandle_t dnn = nullptr;
    cudnnTensorDescriptor_t xd = nullptr, yd = nullptr;
    cudnnFilterDescriptor_t fd = nullptr;
    cudnnConvolutionDescriptor_t cd = nullptr;

    Conv(bool channels_last, int step, int dilate)
        : stride(step), dilation(dilate), nhwc(channels_last)
    {
        int on, oc;
        cudnnTensorFormat_t format = nhwc ? CUDNN_TENSOR_NHWC : CUDNN_TENSOR_NCHW;
        cudnnCreate(&dnn);
        cudnnCreateTensorDescriptor(&xd);
        cudnnCreateTensorDescriptor(&yd);
        cudnnCreateFilterDescriptor(&fd);
        cudnnCreateConvolutionDescriptor(&cd);
        cudnnSetTensor4dDescriptor(xd, format, CUDNN_DATA_FLOAT, n, c, h, w);
        cudnnSetFilter4dDescriptor(fd, CUDNN_DATA_FLOAT, format, k, c, r, s);
        cudnnSetConvolution2dDescriptor(cd, pad, pad, stride, stride, dilation, dilation,
                                        CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT);
        cudnnSetConvolutionMathType(cd, CUDNN_FMA_MATH);
        cudnnGetConvolution2dForwardOutputDim(cd, xd, fd, &on, &oc, &oh, &ow);
        assert_int_equal(on, n);
        assert_int_equal(oc, k);
        cudnnSetTensor4dDescriptor(yd, format, CUDNN_DATA_FLOAT, n, k, oh, ow);
    }
    ~Conv()
    {
        cudnnDestroyTensorDescriptor(xd);
        cudnnDestroyTensorDescriptor(yd);
        cudnnDestroyFilterDescriptor(fd);
        cudnnDestroyConvolutionDescriptor(cd);
        cudnnDestroy(dnn);
    }
    size_t x_at(int a, int b, int y, int x) const
    {
        return (size_t)(nhwc ? ((a * h + y) * w + x) * c + b : ((a * c + b) * h + y) * w + x);
    }
    size_t y_at(int a, int b, int y, int x) const
    {
        return (size_t)(nhwc ? ((a * oh + y) * ow + x) * k + b : ((a * k + b) * oh + y) * ow + x);
    }
    size_t f_at(int o, int i, int y, int x) const
    {
        return (size_t)(nhwc ? ((o * r + y) * s + x) * c + i : ((o * c + i) * r + y) * s + x);
    }
    /* f(x index, filter index, y index) for every product of the convolution. */
    template <class F> void each(F f) const
    {
        for (int a = 0; a < n; a++)
            for (int o = 0; o < k; o++)
                for (int i = 0; i < c; i++)
                    for (int p = 0; p < oh * ow; p++)
                        for (int q = 0; q < r * s; q++) {
                            int iy = p / ow * stride + q / s * dilation - pad;
                            int ix = p % ow * stride + q % s * dilation - pad;
                            if (iy >= 0 && iy < h && ix >= 0 && ix < w)
                                f(x_at(a, i, iy, ix), f_at(o, i, q / s, q % s),
                                  y_at(a, o, p / ow, p % ow));
                        }
    }
};

void check_conv(bool nhwc, int stride, int dilation)
{
    Conv v(nhwc, stride, dilation);
    size_t nx = (size_t)(v.n * v.c * v.h * v.w), ny = (size_t)(v.n * v.k * v.oh * v.ow);
    size_t nf = (size_t)(v.k * v.c * v.r * v.s);
    std::vector<float> x = integers(nx, 4), f = integers(nf, 5), y = integers(ny, 6);
    std::vector<float> want_y(ny), want_x(nx), want_f = f;
    v.each([&](size_t i, size_t j, size_t o) { want_y[o] += x[i] * f[j]; });
    v.each([&](size_t i, size_t j, size_t o) { want_x[i] += y[o] * f[j]; });
    v.each([&](size_t i, size_t j, size_t o) { want_f[j] += y[o] * x[i]; });
    Device<float> dx(x), df(f), dy(y), out_y(ny), out_x(nx);
    float one = 1, zero = 0;
    size_t bytes;
    auto forward = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
    cudnnGetConvolutionForwardWorkspaceSize(v.dnn, v.xd, v.fd, v.cd, v.yd, forward, &bytes);
    Device<char> work(bytes);
    assert_int_equal(cudnnConvolutionForward(v.dnn, &one, v.xd, dx.p, v.fd, df.p, v.cd, forward,
                                             work.p, bytes, &zero, v.yd, out_y.p),
                     CUDNN_STATUS_SUCCESS);
    assert_true(out_y.read() == want_y);
    auto data = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
    assert_int_equal(cudnnConvolutionBackwardData(v.dnn, &one, v.fd, df.p, v.yd, dy.p, v.cd, data,
                                                  work.p, bytes, &zero, v.xd, out_x.p),
                     CUDNN_STATUS_SUCCESS);
    assert_true(out_x.read() == want_x);
    auto filter = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
    assert_int_equal(cudnnConvolutionBackwardFilter(v.dnn, &one, v.xd, dx.p, v.yd, dy.p, v.cd,
                                                    filter, work.p, bytes, &one, v.fd, df.p),
                     CUDNN_STATUS_SUCCESS);
    assert_true(df.read() == want_f); /* beta 1: added to the old filter */
}

void test_conv(void **)
{
    for (int nhwc = 0; nhwc < 2; nhwc++)
        for (int stride = 1; stride <= 2; stride++)
            for (int dilation = 1; dilation <= 2; dilation++)
                check_conv(nhwc, stride, dilation);
}

/* The default lets float operands become TF32, as the real library does. */
void test_conv_math(void **)
{
    Conv v(true, 1, 1);
    const float x = 1 + 0x1p-12f, one = 1, zero = 0;
    Device<float> dx(std::vector<float>((size_t)(v.n * v.c * v.h * v.w), x)),
        df(std::vector<float>((size_t)(v.k * v.c * v.r * v.s), 1.0f));
    Device<float> dy((size_t)(v.n * v.k * v.oh * v.ow));
    cudnnSetConvolutionMathType(v.cd, CUDNN_DEFAULT_MATH);
    cudnnConvolutionForward(v.dnn, &one, v.xd, dx.p, v.fd, df.p, v.cd,
                            CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, nullptr, 0, &zero, v.yd,
                            dy.p);
    assert_true(dy.read()[v.y_at(0, 0, 2, 2)] == (float)(v.c * v.r * v.s));
}

/* A search puts an algorithm first that must not be used; its marking says so. */
void test_conv_search(void **)
{
    Conv v(true, 1, 1);
    cudnnConvolutionBwdDataAlgoPerf_t perf[4];
    int n;
    assert_int_equal(
        cudnnGetConvolutionBackwardDataAlgorithm_v7(v.dnn, v.fd, v.yd, v.cd, v.xd, 4, &n, perf),
        CUDNN_STATUS_SUCCESS);
    assert_int_equal(perf[0].determinism, CUDNN_NON_DETERMINISTIC);
    assert_int_equal(perf[1].determinism, CUDNN_DETERMINISTIC);
    Device<float> x((size_t)(v.n * v.c * v.h * v.w)), y((size_t)(v.n * v.k * v.oh * v.ow)), f(72);
    float one = 1, zero = 0;
    assert_int_equal(cudnnConvolutionBackwardData(v.dnn, &one, v.fd, f.p, v.yd, y.p, v.cd,
                                                  perf[0].algo, nullptr, 0, &zero, v.xd, x.p),
                     CUDNN_STATUS_NOT_SUPPORTED);
    assert_int_equal(cudnnConvolutionBackwardData(v.dnn, &one, v.fd, f.p, v.yd, y.p, v.cd,
                                                  perf[1].algo, nullptr, 0, &zero, v.xd, x.p),
                     CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
}

} // namespace

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm),         cmocka_unit_test(test_gemm_precision),
        cmocka_unit_test(test_gemm_refuses), cmocka_unit_test(test_conv),
        cmocka_unit_test(test_conv_math),    cmocka_unit_test(test_conv_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
