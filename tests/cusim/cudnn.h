/*
 * tests/cusim/cudnn.h - the objects behind cuDNN's handles (the stand-in's; NVIDIA's is <cudnn.h>).
 */
#ifndef LIPS_TESTS_CUSIM_CUDNN_H
#define LIPS_TESTS_CUSIM_CUDNN_H

#include "rounding.h"

#include <cudnn.h>

struct cudnnContext {
    cudaStream_t stream = nullptr;
};

struct cudnnTensorStruct {
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    int n = 0, c = 0, h = 0, w = 0;
    int64_t stride_n = 0, stride_c = 0, stride_h = 0, stride_w = 0;
};

/* K output channels, C input channels; strides by the format (KCRS or KRSC). */
struct cudnnFilterStruct {
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    cudnnTensorFormat_t format = CUDNN_TENSOR_NCHW;
    int k = 0, c = 0, r = 0, s = 0;
};

struct cudnnConvolutionStruct {
    int pad_h = 0, pad_w = 0, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

#endif
