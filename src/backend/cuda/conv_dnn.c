#include "backend/cuda/conv_dnn.h"

static const cudnnConvolutionFwdAlgo_t forward_algo =
    CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
static const cudnnConvolutionBwdDataAlgo_t data_algo = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
static const cudnnConvolutionBwdFilterAlgo_t filter_algo = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;

bool lips_cuda_conv_dnn_offers(const lips_cuda_conv *s, lips_precision precision)
{
    const int64_t in = s->b * s->h * s->w * s->t * s->c, out = s->b * s->oh * s->ow * s->t * s->o;
    return precision != LIPS_PRECISION_BF16 && (s->stride == 1 || s->t == 1) && in <= INT32_MAX &&
           out <= INT32_MAX && s->pad * s->t <= INT32_MAX;
}

typedef struct descriptors {
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t filter;
    cudnnConvolutionDescriptor_t conv;
} descriptors;

static void destroy(descriptors *d)
{
    if (d->conv)
        cudnnDestroyConvolutionDescriptor(d->conv);
    if (d->filter)
        cudnnDestroyFilterDescriptor(d->filter);
    if (d->y)
        cudnnDestroyTensorDescriptor(d->y);
    if (d->x)
        cudnnDestroyTensorDescriptor(d->x);
}

static lips_status describe(descriptors *d, const lips_cuda_conv_dnn_args *a)
{
    const lips_cuda_conv *s = &a->shape;
    const int t = (int)s->t, pad = (int)s->pad, stride = (int)s->stride, r = (int)s->r;
    LIPS_TRY_CUDNN(cudnnCreateTensorDescriptor(&d->x));
    LIPS_TRY_CUDNN(cudnnCreateTensorDescriptor(&d->y));
    LIPS_TRY_CUDNN(cudnnCreateFilterDescriptor(&d->filter));
    LIPS_TRY_CUDNN(cudnnCreateConvolutionDescriptor(&d->conv));
    LIPS_TRY_CUDNN(cudnnSetTensor4dDescriptor(d->x, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, (int)s->b,
                                              (int)s->c, (int)s->h, (int)s->w * t));
    LIPS_TRY_CUDNN(cudnnSetTensor4dDescriptor(d->y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, (int)s->b,
                                              (int)s->o, (int)s->oh, (int)s->ow * t));
    LIPS_TRY_CUDNN(cudnnSetFilter4dDescriptor(d->filter, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC,
                                              (int)s->o, (int)s->c, r, r));
    LIPS_TRY_CUDNN(cudnnSetConvolution2dDescriptor(d->conv, pad, pad * t, stride, stride, 1, t,
                                                   CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    /* cuDNN's default mode rounds float operands to tf32. */
    LIPS_TRY_CUDNN(cudnnSetConvolutionMathType(
        d->conv, a->precision == LIPS_PRECISION_F32 ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH));
    return LIPS_OK;
}

static lips_status run(lips_cuda *h, const descriptors *d, const lips_cuda_conv_dnn_args *a)
{
    const float one = 1, zero = 0;
    cudnnHandle_t dnn;
    size_t bytes = 0;
    void *work = NULL;
    LIPS_TRY(lips_cuda_dnn(h, &dnn));
    if (a->pass == LIPS_FORWARD) {
        LIPS_TRY_CUDNN(cudnnGetConvolutionForwardWorkspaceSize(dnn, d->x, d->filter, d->conv, d->y,
                                                               forward_algo, &bytes));
        LIPS_TRY(lips_cuda_scratch(h, bytes, &work));
        LIPS_TRY_CUDNN(cudnnConvolutionForward(dnn, &one, d->x, a->x, d->filter, a->filter, d->conv,
                                               forward_algo, work, bytes, &zero, d->y, a->y));
    } else if (a->pass == LIPS_VJP) {
        LIPS_TRY_CUDNN(cudnnGetConvolutionBackwardDataWorkspaceSize(dnn, d->filter, d->y, d->conv,
                                                                    d->x, data_algo, &bytes));
        LIPS_TRY(lips_cuda_scratch(h, bytes, &work));
        LIPS_TRY_CUDNN(cudnnConvolutionBackwardData(dnn, &one, d->filter, a->filter, d->y, a->y,
                                                    d->conv, data_algo, work, bytes, &zero, d->x,
                                                    a->x));
    } else {
        LIPS_TRY_CUDNN(cudnnGetConvolutionBackwardFilterWorkspaceSize(
            dnn, d->x, d->y, d->conv, d->filter, filter_algo, &bytes));
        LIPS_TRY(lips_cuda_scratch(h, bytes, &work));
        LIPS_TRY_CUDNN(cudnnConvolutionBackwardFilter(dnn, &one, d->x, a->x, d->y, a->y, d->conv,
                                                      filter_algo, work, bytes, &zero, d->filter,
                                                      a->filter));
    }
    return LIPS_OK;
}

lips_status lips_cuda_conv_dnn(lips_cuda *h, const lips_cuda_conv_dnn_args *a)
{
    descriptors d = {NULL, NULL, NULL, NULL};
    lips_status st;
    LIPS_TRY_GOTO(st, describe(&d, a), out);
    LIPS_TRY_GOTO(st, run(h, &d, a), out);
out:
    destroy(&d);
    return st;
}
