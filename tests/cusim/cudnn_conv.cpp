/*
 * Stand-in for cuDNN: the legacy convolutions, by plain loops, on the stream. As the real ones,
 * CUDNN_DEFAULT_MATH lets float operands be rounded to TF32 (CUDNN_FMA_MATH does not), a search
 * overwrites its output, a workspace is scribbled over. Algorithms that are not deterministic are
 * offered first by the searches, marked so, and refused when run.
 */
#include "cudnn.h"

#include <memory>
#include <vector>

namespace cusim
{
namespace
{

enum class Pass { FORWARD, DATA, FILTER };

/* One convolution as it was asked for: copies of the descriptors, as the work is deferred. */
struct Job {
    Pass pass;
    cudnnTensorStruct x, y;
    cudnnFilterStruct f;
    cudnnConvolutionStruct conv;
    const void *px, *pf, *py; /* the output is among them */
    float alpha, beta;
};

size_t size_of(cudnnDataType_t t)
{
    return t == CUDNN_DATA_FLOAT ? 4 : 2;
}

int64_t at(const cudnnTensorStruct &t, int n, int c, int h, int w)
{
    return n * t.stride_n + c * t.stride_c + h * t.stride_h + w * t.stride_w;
}

int64_t at(const cudnnFilterStruct &f, int k, int c, int r, int s)
{
    bool kcrs = f.format == CUDNN_TENSOR_NCHW;
    return kcrs ? (((int64_t)k * f.c + c) * f.r + r) * f.s + s
                : (((int64_t)k * f.r + r) * f.s + s) * f.c + c;
}

/* The four dimensions of either descriptor. */
struct Shape {
    int d[4];
};
Shape shape(const cudnnTensorStruct &t)
{
    return {{t.n, t.c, t.h, t.w}};
}
Shape shape(const cudnnFilterStruct &f)
{
    return {{f.k, f.c, f.r, f.s}};
}

size_t elements(const Shape &s)
{
    return (size_t)s.d[0] * (size_t)s.d[1] * (size_t)s.d[2] * (size_t)s.d[3];
}

/* Calls f(packed index, offset in memory) for every element. */
template <class D, class F> void each(const D &desc, F f)
{
    Shape s = shape(desc);
    size_t i = 0;
    for (int a = 0; a < s.d[0]; a++)
        for (int b = 0; b < s.d[1]; b++)
            for (int c = 0; c < s.d[2]; c++)
                for (int d = 0; d < s.d[3]; d++)
                    f(i++, at(desc, a, b, c, d));
}

Operand operand_kind(const Job &j)
{
    return j.conv.math == CUDNN_FMA_MATH ? Operand::F32 : Operand::TF32;
}

/* Packed copy with the operands' rounding. */
template <class D> std::vector<float> read(const Job &j, const D &desc, const void *p)
{
    std::vector<float> v(elements(shape(desc)));
    Operand kind = operand_kind(j);
    each(desc, [&](size_t i, int64_t at) {
        v[i] = desc.type == CUDNN_DATA_FLOAT ? round_operand(((const float *)p)[at], kind)
                                             : load_bf16(p, at);
    });
    return v;
}

template <class D>
void write(const Job &j, const D &desc, const void *p, const std::vector<float> &v)
{
    void *out = (void *)(size_t)p;
    each(desc, [&](size_t i, int64_t at) {
        bool f32 = desc.type == CUDNN_DATA_FLOAT;
        float old = j.beta == 0 ? 0 : f32 ? ((const float *)p)[at] : load_bf16(p, at);
        float value = j.alpha * v[i] + (j.beta == 0 ? 0 : j.beta * old);
        if (f32)
            ((float *)out)[at] = value;
        else
            store_bf16(out, at, value);
    });
}

/* The sums over rows of the images: row(x row, y row, filter element, first and last column of y,
 * column of x that belongs to y's column 0). */
template <class F> void rows(const Job &j, F row)
{
    const cudnnConvolutionStruct &v = j.conv;
    for (int n = 0; n < j.y.n; n++)
        for (int k = 0; k < j.f.k; k++)
            for (int c = 0; c < j.f.c; c++)
                for (int r = 0; r < j.f.r; r++)
                    for (int s = 0; s < j.f.s; s++) {
                        bool flip = v.mode == CUDNN_CONVOLUTION;
                        int fr = flip ? j.f.r - 1 - r : r, fs = flip ? j.f.s - 1 - s : s;
                        size_t f =
                            (((size_t)k * (size_t)j.f.c + (size_t)c) * (size_t)j.f.r + (size_t)fr) *
                                (size_t)j.f.s +
                            (size_t)fs;
                        int shift = s * v.dilation_w - v.pad_w;
                        int first = 0, last = j.y.w - 1;
                        while (first <= last && first * v.stride_w + shift < 0)
                            first++;
                        while (first <= last && last * v.stride_w + shift >= j.x.w)
                            last--;
                        for (int oy = 0; oy < j.y.h; oy++) {
                            int iy = oy * v.stride_h + r * v.dilation_h - v.pad_h;
                            if (iy < 0 || iy >= j.x.h)
                                continue;
                            size_t xr = (((size_t)n * (size_t)j.x.c + (size_t)c) * (size_t)j.x.h +
                                         (size_t)iy) *
                                        (size_t)j.x.w;
                            size_t yr = (((size_t)n * (size_t)j.y.c + (size_t)k) * (size_t)j.y.h +
                                         (size_t)oy) *
                                        (size_t)j.y.w;
                            row(xr, yr, f, first, last, shift);
                        }
                    }
}

void convolve(const Job &j)
{
    int step = j.conv.stride_w;
    if (j.pass == Pass::FORWARD) {
        std::vector<float> x = read(j, j.x, j.px), f = read(j, j.f, j.pf);
        std::vector<float> y(elements(shape(j.y)));
        rows(j, [&](size_t xr, size_t yr, size_t fi, int a, int b, int shift) {
            for (int o = a; o <= b; o++)
                y[yr + (size_t)o] += f[fi] * x[xr + (size_t)(o * step + shift)];
        });
        write(j, j.y, j.py, y);
    } else if (j.pass == Pass::DATA) {
        std::vector<float> y = read(j, j.y, j.py), f = read(j, j.f, j.pf);
        std::vector<float> x(elements(shape(j.x)));
        rows(j, [&](size_t xr, size_t yr, size_t fi, int a, int b, int shift) {
            for (int o = a; o <= b; o++)
                x[xr + (size_t)(o * step + shift)] += f[fi] * y[yr + (size_t)o];
        });
        write(j, j.x, j.px, x);
    } else {
        std::vector<float> x = read(j, j.x, j.px), y = read(j, j.y, j.py);
        std::vector<float> f(elements(shape(j.f)));
        rows(j, [&](size_t xr, size_t yr, size_t fi, int a, int b, int shift) {
            float sum = 0;
            for (int o = a; o <= b; o++)
                sum += y[yr + (size_t)o] * x[xr + (size_t)(o * step + shift)];
            f[fi] += sum;
        });
        write(j, j.f, j.pf, f);
    }
}

bool shapes_agree(const Job &j)
{
    int n, c, h, w;
    cudnnConvolutionStruct conv = j.conv;
    cudnnTensorStruct x = j.x;
    cudnnFilterStruct f = j.f;
    return cudnnGetConvolution2dForwardOutputDim(&conv, &x, &f, &n, &c, &h, &w) ==
               CUDNN_STATUS_SUCCESS &&
           n == j.y.n && c == j.y.c && h == j.y.h && w == j.y.w && j.x.type == j.f.type &&
           j.x.type == j.y.type;
}

size_t tensor_bytes(const cudnnTensorStruct &t)
{
    return (size_t)(at(t, t.n - 1, t.c - 1, t.h - 1, t.w - 1) + 1) * size_of(t.type);
}

/* Every algorithm wants some; numbered from 0, the first wants none. */
size_t workspace_bytes(const cudnnFilterStruct &f, int algo)
{
    return algo == 0 ? 0 : (size_t)algo * 256 + elements(shape(f)) * 4;
}

struct Workspace {
    void *p;
    size_t bytes;
    int algo;
    bool deterministic;
};

cudnnStatus_t run(cudnnHandle_t h, const Job &j, const Workspace &w, const char *call)
{
    if (!shapes_agree(j))
        return CUDNN_STATUS_BAD_PARAM;
    if (sticky_error() != cudaSuccess)
        return CUDNN_STATUS_EXECUTION_FAILED;
    if (!w.deterministic) {
        fprintf(stderr, "cusim: %s: algorithm %d is not deterministic\n", call, w.algo);
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
    if (w.bytes < workspace_bytes(j.f, w.algo))
        return CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
    need_device(w.p, workspace_bytes(j.f, w.algo), call, "workspace");
    need_device(j.px, tensor_bytes(j.x), call, "x or dx");
    need_device(j.py, tensor_bytes(j.y), call, "y or dy");
    need_device(j.pf, elements(shape(j.f)) * size_of(j.f.type), call, "w or dw");
    push(h->stream, call, [j, w]() {
        if (w.algo > 0)
            memset(w.p, 0xff, workspace_bytes(j.f, w.algo));
        convolve(j);
    });
    return CUDNN_STATUS_SUCCESS;
}

bool deterministic(cudnnConvolutionFwdAlgo_t)
{
    return true;
}
bool deterministic(cudnnConvolutionBwdDataAlgo_t a)
{
    return a != CUDNN_CONVOLUTION_BWD_DATA_ALGO_0;
}
bool deterministic(cudnnConvolutionBwdFilterAlgo_t a)
{
    return a != CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0 && a != CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3;
}

/* The answer of a search: algorithms in the order given, with made-up times. */
template <class Perf, class Algo>
cudnnStatus_t list(const cudnnFilterStruct &f, const cudnnConvolutionStruct &conv,
                   const Algo *algos, int n, int wanted, int *returned, Perf *out)
{
    if (wanted < 1)
        return CUDNN_STATUS_BAD_PARAM;
    *returned = std::min(n, wanted);
    for (int i = 0; i < *returned; i++) {
        out[i] = Perf{};
        out[i].algo = algos[i];
        out[i].status = CUDNN_STATUS_SUCCESS;
        out[i].time = 0.01f * (float)(i + 1);
        out[i].memory = workspace_bytes(f, (int)algos[i]);
        out[i].determinism =
            deterministic(algos[i]) ? CUDNN_DETERMINISTIC : CUDNN_NON_DETERMINISTIC;
        out[i].mathType = conv.math;
    }
    return CUDNN_STATUS_SUCCESS;
}

const cudnnConvolutionFwdAlgo_t FORWARD_ALGOS[] = {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                                                   CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
                                                   CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM};
const cudnnConvolutionBwdDataAlgo_t DATA_ALGOS[] = {CUDNN_CONVOLUTION_BWD_DATA_ALGO_0,
                                                    CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
                                                    CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD};
const cudnnConvolutionBwdFilterAlgo_t FILTER_ALGOS[] = {
    CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
    CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED};

/* What a search leaves in the output that it tried the algorithms on. */
void scribble(cudnnHandle_t h, const void *p, size_t bytes)
{
    need_device(p, bytes, "cudnnFind...Ex", "output");
    push(h->stream, "search", [=]() { memset((void *)(size_t)p, 0xff, bytes); });
}

} // namespace
} // namespace cusim

using namespace cusim;

#define ENTER(status)                                                                              \
    std::lock_guard<std::recursive_mutex> lock_(big_lock());                                       \
    if (chosen_to_fail(__func__))                                                                  \
    return status
#define FLOAT(p) (*(const float *)(p))

extern "C" {

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, const cudnnTensorDescriptor_t,
                                                     const cudnnFilterDescriptor_t f,
                                                     const cudnnConvolutionDescriptor_t conv,
                                                     const cudnnTensorDescriptor_t, int wanted,
                                                     int *returned,
                                                     cudnnConvolutionFwdAlgoPerf_t *out)
{
    ENTER(CUDNN_STATUS_INTERNAL_ERROR);
    return list(*f, *conv, FORWARD_ALGOS, 3, wanted, returned, out);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(
    cudnnHandle_t, const cudnnFilterDescriptor_t f, const cudnnTensorDescriptor_t,
    const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t, int wanted,
    int *returned, cudnnConvolutionBwdDataAlgoPerf_t *out)
{
    ENTER(CUDNN_STATUS_INTERNAL_ERROR);
    return list(*f, *conv, DATA_ALGOS, 3, wanted, returned, out);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    cudnnHandle_t, const cudnnTensorDescriptor_t, const cudnnTensorDescriptor_t,
    const cudnnConvolutionDescriptor_t conv, const cudnnFilterDescriptor_t f, int wanted,
    int *returned, cudnnConvolutionBwdFilterAlgoPerf_t *out)
{
    ENTER(CUDNN_STATUS_INTERNAL_ERROR);
    return list(*f, *conv, FILTER_ALGOS, 3, wanted, returned, out);
}

cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(
    cudnnHandle_t h, const cudnnTensorDescriptor_t, const void *, const cudnnFilterDescriptor_t f,
    const void *, const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t yd,
    void *y, int wanted, int *returned, cudnnConvolutionFwdAlgoPerf_t *out, void *, size_t)
{
    ENTER(CUDNN_STATUS_INTERNAL_ERROR);
    scribble(h, y, tensor_bytes(*yd));
    return list(*f, *conv, FORWARD_ALGOS, 3, wanted, returned, out);
}

cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(
    cudnnHandle_t h, const cudnnFilterDescriptor_t f, const void *, const cudnnTensorDescriptor_t,
    const void *, const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t xd,
    void *dx, int wanted, int *returned, cudnnConvolutionBwdDataAlgoPerf_t *out, void *, size_t)
{
    ENTER(CUDNN_STATUS_INTERNAL_ERROR);
    scribble(h, dx, tensor_bytes(*xd));
    return list(*f, *conv, DATA_ALGOS, 3, wanted, returned, out);
}

cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(
    cudnnHandle_t h, const cudnnTensorDescriptor_t, const void *, const cudnnTensorDescriptor_t,
    const void *, const cudnnConvolutionDescriptor_t conv, const cudnnFilterDescriptor_t f,
    void *dw, int wanted, int *returned, cudnnConvolutionBwdFilterAlgoPerf_t *out, void *, size_t)
{
    ENTER(CUDNN_STATUS_INTERNAL_ERROR);
    scribble(h, dw, elements(shape(*f)) * size_of(f->type));
    return list(*f, *conv, FILTER_ALGOS, 3, wanted, returned, out);
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, const cudnnTensorDescriptor_t,
                                                      const cudnnFilterDescriptor_t f,
                                                      const cudnnConvolutionDescriptor_t,
                                                      const cudnnTensorDescriptor_t,
                                                      cudnnConvolutionFwdAlgo_t algo, size_t *bytes)
{
    ENTER(CUDNN_STATUS_NOT_SUPPORTED);
    *bytes = workspace_bytes(*f, (int)algo);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(
    cudnnHandle_t, const cudnnFilterDescriptor_t f, const cudnnTensorDescriptor_t,
    const cudnnConvolutionDescriptor_t, const cudnnTensorDescriptor_t,
    cudnnConvolutionBwdDataAlgo_t algo, size_t *bytes)
{
    ENTER(CUDNN_STATUS_NOT_SUPPORTED);
    *bytes = workspace_bytes(*f, (int)algo);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(
    cudnnHandle_t, const cudnnTensorDescriptor_t, const cudnnTensorDescriptor_t,
    const cudnnConvolutionDescriptor_t, const cudnnFilterDescriptor_t f,
    cudnnConvolutionBwdFilterAlgo_t algo, size_t *bytes)
{
    ENTER(CUDNN_STATUS_NOT_SUPPORTED);
    *bytes = workspace_bytes(*f, (int)algo);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t h, const void *alpha,
                                      const cudnnTensorDescriptor_t xd, const void *x,
                                      const cudnnFilterDescriptor_t f, const void *w,
                                      const cudnnConvolutionDescriptor_t conv,
                                      cudnnConvolutionFwdAlgo_t algo, void *work, size_t bytes,
                                      const void *beta, const cudnnTensorDescriptor_t yd, void *y)
{
    ENTER(CUDNN_STATUS_EXECUTION_FAILED);
    Job j = {Pass::FORWARD, *xd, *yd, *f, *conv, x, w, y, FLOAT(alpha), FLOAT(beta)};
    return run(h, j, {work, bytes, (int)algo, deterministic(algo)}, __func__);
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t h, const void *alpha,
                                           const cudnnFilterDescriptor_t f, const void *w,
                                           const cudnnTensorDescriptor_t yd, const void *dy,
                                           const cudnnConvolutionDescriptor_t conv,
                                           cudnnConvolutionBwdDataAlgo_t algo, void *work,
                                           size_t bytes, const void *beta,
                                           const cudnnTensorDescriptor_t xd, void *dx)
{
    ENTER(CUDNN_STATUS_EXECUTION_FAILED);
    Job j = {Pass::DATA, *xd, *yd, *f, *conv, dx, w, dy, FLOAT(alpha), FLOAT(beta)};
    return run(h, j, {work, bytes, (int)algo, deterministic(algo)}, __func__);
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t h, const void *alpha,
                                             const cudnnTensorDescriptor_t xd, const void *x,
                                             const cudnnTensorDescriptor_t yd, const void *dy,
                                             const cudnnConvolutionDescriptor_t conv,
                                             cudnnConvolutionBwdFilterAlgo_t algo, void *work,
                                             size_t bytes, const void *beta,
                                             const cudnnFilterDescriptor_t f, void *dw)
{
    ENTER(CUDNN_STATUS_EXECUTION_FAILED);
    Job j = {Pass::FILTER, *xd, *yd, *f, *conv, x, dw, dy, FLOAT(alpha), FLOAT(beta)};
    return run(h, j, {work, bytes, (int)algo, deterministic(algo)}, __func__);
}

} // extern "C"
