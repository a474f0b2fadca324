/*
 * Stand-in for cuBLAS: the matrix products that the backend calls, by plain loops, on the stream.
 * Sums are float (double for CUBLAS_COMPUTE_64F), operands rounded as the compute type says. What a
 * plain product cannot express (device-side alpha, integer types) is refused.
 */
#include "rounding.h"

#include <cublas_v2.h>

#include <vector>

struct cublasContext {
    cudaStream_t stream = nullptr;
    cublasMath_t math = CUBLAS_DEFAULT_MATH;
    size_t workspace = 0; /* the caller's own */
};

namespace cusim
{
namespace
{

/* One side of a product as it was asked for: element (row, col) of op(X). */
struct Matrix {
    const void *p;
    cudaDataType type;
    int ld;
    int64_t stride; /* between the matrices of a batch */
    bool transposed;

    int64_t at(int row, int col) const
    {
        return transposed ? (int64_t)row * ld + col : (int64_t)col * ld + row;
    }
};

struct Product {
    int m, n, k, batch;
    Matrix a, b, c;
    double alpha, beta;
    Operand operand;
    bool f64;
};

size_t size_of(cudaDataType t)
{
    return t == CUDA_R_64F ? 8 : t == CUDA_R_32F ? 4 : t == CUDA_R_16BF ? 2 : 0;
}

double load(const Matrix &x, int64_t i)
{
    if (x.type == CUDA_R_64F)
        return ((const double *)x.p)[i];
    return x.type == CUDA_R_32F ? ((const float *)x.p)[i] : load_bf16(x.p, i);
}

void store(const Matrix &x, int64_t i, double v)
{
    if (x.type == CUDA_R_64F)
        ((double *)(size_t)x.p)[i] = v;
    else if (x.type == CUDA_R_32F)
        ((float *)(size_t)x.p)[i] = (float)v;
    else
        store_bf16((void *)(size_t)x.p, i, (float)v);
}

template <class T> T operand(const Product &p, double x)
{
    return p.f64 ? (T)x : (T)round_operand((float)x, p.operand);
}

/* One product of the batch; T is the type of the sums. */
template <class T> void multiply(const Product &p, int q)
{
    std::vector<T> a((size_t)p.m * (size_t)p.k), sum((size_t)p.m);
    for (int l = 0; l < p.k; l++)
        for (int i = 0; i < p.m; i++)
            a[(size_t)l * (size_t)p.m + (size_t)i] =
                operand<T>(p, load(p.a, p.a.at(i, l) + q * p.a.stride));
    for (int j = 0; j < p.n; j++) {
        std::fill(sum.begin(), sum.end(), (T)0);
        for (int l = 0; l < p.k; l++) {
            T b = operand<T>(p, load(p.b, p.b.at(l, j) + q * p.b.stride));
            const T *column = a.data() + (size_t)l * (size_t)p.m;
            T *s = sum.data();
            for (int i = 0; i < p.m; i++)
                s[i] += column[i] * b;
        }
        for (int i = 0; i < p.m; i++) {
            int64_t at = p.c.at(i, j) + q * p.c.stride;
            T old = p.beta != 0 ? (T)p.beta * (T)load(p.c, at) : (T)0;
            store(p.c, at, (T)p.alpha * sum[(size_t)i] + old);
        }
    }
}

void need_matrix(const Matrix &x, int rows, int cols, int batch, const char *call, const char *name)
{
    if (rows == 0 || cols == 0 || batch == 0)
        return;
    int64_t last = x.at(rows - 1, cols - 1) + (int64_t)(batch - 1) * x.stride;
    need_device(x.p, (size_t)(last + 1) * size_of(x.type), call, name);
}

bool valid(const Product &p)
{
    return p.m >= 0 && p.n >= 0 && p.k >= 0 && p.batch >= 0 && size_of(p.a.type) > 0 &&
           p.a.type == p.b.type && size_of(p.c.type) > 0 &&
           p.a.ld >= std::max(1, p.a.transposed ? p.k : p.m) &&
           p.b.ld >= std::max(1, p.b.transposed ? p.n : p.k) && p.c.ld >= std::max(1, p.m);
}

cublasStatus_t run(cublasHandle_t h, const Product &p, const char *call)
{
    if (!valid(p))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (sticky_error() != cudaSuccess)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (p.k > 0 && p.alpha != 0) {
        need_matrix(p.a, p.m, p.k, p.batch, call, "A");
        need_matrix(p.b, p.k, p.n, p.batch, call, "B");
    }
    need_matrix(p.c, p.m, p.n, p.batch, call, "C");
    /* The library's own memory would be part of the graph: nobody here means that. */
    if (capturing(h->stream) && h->workspace == 0) {
        fprintf(stderr, "cusim: %s is captured without a workspace of the caller's\n", call);
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    push(h->stream, call, [p]() {
        for (int q = 0; q < p.batch; q++)
            p.f64 ? multiply<double>(p, q) : multiply<float>(p, q);
    });
    return CUBLAS_STATUS_SUCCESS;
}

/* What the compute type and the handle's mode leave of the operands. */
bool operand_kind(cublasHandle_t h, cublasComputeType_t type, Product *p)
{
    p->operand = Operand::F32;
    switch (type) {
    case CUBLAS_COMPUTE_32F:
        if (h->math == CUBLAS_TF32_TENSOR_OP_MATH)
            p->operand = Operand::TF32;
        return true;
    case CUBLAS_COMPUTE_32F_PEDANTIC:
    case CUBLAS_COMPUTE_32F_EMULATED_16BFX9: return true;
    case CUBLAS_COMPUTE_32F_FAST_TF32: p->operand = Operand::TF32; return true;
    case CUBLAS_COMPUTE_32F_FAST_16BF: p->operand = Operand::BF16; return true;
    case CUBLAS_COMPUTE_64F:
    case CUBLAS_COMPUTE_64F_PEDANTIC: p->f64 = true; return true;
    default: return false;
    }
}

Matrix matrix(const void *p, cudaDataType type, int ld, int64_t stride, cublasOperation_t op)
{
    return {p, type, ld, stride, op != CUBLAS_OP_N};
}

} // namespace
} // namespace cusim

using namespace cusim;

#define ENTER(status)                                                                              \
    std::lock_guard<std::recursive_mutex> lock_(big_lock());                                       \
    if (chosen_to_fail(__func__))                                                                  \
    return status

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle)
{
    ENTER(CUBLAS_STATUS_ALLOC_FAILED);
    if (sticky_error() != cudaSuccess)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
    ENTER(CUBLAS_STATUS_NOT_INITIALIZED);
    drain_all();
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream)
{
    ENTER(CUBLAS_STATUS_NOT_INITIALIZED);
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    ENTER(CUBLAS_STATUS_INVALID_VALUE);
    handle->math = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t *mode)
{
    ENTER(CUBLAS_STATUS_INVALID_VALUE);
    *mode = handle->math;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t bytes)
{
    ENTER(CUBLAS_STATUS_INVALID_VALUE);
    need_device(workspace, bytes, __func__, "workspace");
    handle->workspace = bytes;
    return (uintptr_t)workspace % 256 == 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int *version)
{
    ENTER(CUBLAS_STATUS_INVALID_VALUE);
    *version = CUBLAS_VERSION;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetProperty(libraryPropertyType type, int *value)
{
    ENTER(CUBLAS_STATUS_INVALID_VALUE);
    *value = type == MAJOR_VERSION   ? CUBLAS_VER_MAJOR
             : type == MINOR_VERSION ? CUBLAS_VER_MINOR
                                     : CUBLAS_VER_PATCH;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t h, cublasOperation_t ta,
                                          cublasOperation_t tb, int m, int n, int k,
                                          const void *alpha, const void *a, cudaDataType at,
                                          int lda, long long sa, const void *b, cudaDataType bt,
                                          int ldb, long long sb, const void *beta, void *c,
                                          cudaDataType ct, int ldc, long long sc, int batch,
                                          cublasComputeType_t type, cublasGemmAlgo_t)
{
    ENTER(CUBLAS_STATUS_EXECUTION_FAILED);
    Product p = {m,
                 n,
                 k,
                 batch,
                 matrix(a, at, lda, sa, ta),
                 matrix(b, bt, ldb, sb, tb),
                 matrix(c, ct, ldc, sc, CUBLAS_OP_N),
                 0,
                 0,
                 Operand::F32,
                 false};
    if (!operand_kind(h, type, &p))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    p.alpha = p.f64 ? *(const double *)alpha : *(const float *)alpha;
    p.beta = p.f64 ? *(const double *)beta : *(const float *)beta;
    return run(h, p, __func__);
}

cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m,
                            int n, int k, const void *alpha, const void *a, cudaDataType at,
                            int lda, const void *b, cudaDataType bt, int ldb, const void *beta,
                            void *c, cudaDataType ct, int ldc, cublasComputeType_t type,
                            cublasGemmAlgo_t algo)
{
    ENTER(CUBLAS_STATUS_EXECUTION_FAILED);
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, at, lda, 0, b, bt, ldb, 0, beta,
                                      c, ct, ldc, 0, 1, type, algo);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t h, cublasOperation_t ta,
                                         cublasOperation_t tb, int m, int n, int k,
                                         const float *alpha, const float *a, int lda, long long sa,
                                         const float *b, int ldb, long long sb, const float *beta,
                                         float *c, int ldc, long long sc, int batch)
{
    ENTER(CUBLAS_STATUS_EXECUTION_FAILED);
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, CUDA_R_32F, lda, sa, b,
                                      CUDA_R_32F, ldb, sb, beta, c, CUDA_R_32F, ldc, sc, batch,
                                      CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

cublasStatus_t cublasSgemm_v2(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m,
                              int n, int k, const float *alpha, const float *a, int lda,
                              const float *b, int ldb, const float *beta, float *c, int ldc)
{
    ENTER(CUBLAS_STATUS_EXECUTION_FAILED);
    return cublasSgemmStridedBatched(h, ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc,
                                     0, 1);
}

cublasStatus_t cublasDgemm_v2(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m,
                              int n, int k, const double *alpha, const double *a, int lda,
                              const double *b, int ldb, const double *beta, double *c, int ldc)
{
    ENTER(CUBLAS_STATUS_EXECUTION_FAILED);
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, CUDA_R_64F, lda, 0, b,
                                      CUDA_R_64F, ldb, 0, beta, c, CUDA_R_64F, ldc, 0, 1,
                                      CUBLAS_COMPUTE_64F, CUBLAS_GEMM_DEFAULT);
}

const char *cublasGetStatusName(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_MAPPING_ERROR: return "CUBLAS_STATUS_MAPPING_ERROR";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_LICENSE_ERROR: return "CUBLAS_STATUS_LICENSE_ERROR";
    }
    return "CUBLAS_STATUS_UNKNOWN";
}

const char *cublasGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? "success" : cublasGetStatusName(status);
}

} // extern "C"
