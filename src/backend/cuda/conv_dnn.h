/*
 * cuda/conv_dnn.h - cuDNN's convolutions, deterministic algorithms alone: implicit GEMM forward,
 * algorithm 1 both ways back.
 *
 * T stacked values of a pixel are T neighbouring columns of an image of width W T: with stride 1
 * the kernel is then dilated T times along x and padded by pad T, and cuDNN knows nothing of
 * stacks.
 */
#ifndef LIPS_BACKEND_CUDA_CONV_DNN_H
#define LIPS_BACKEND_CUDA_CONV_DNN_H

#include "backend/cuda/cuda_internal.h"
#include "kernels/conv.h"

/* cuDNN's f32 convolutions know f32 and tf32 products. */
bool lips_cuda_conv_dnn_offers(const lips_cuda_conv *shape, lips_precision precision);

/* One convolution; filter is (o,r,r,c). forward writes y, vjp x, grad filter (overwritten). */
typedef struct lips_cuda_conv_dnn_args {
    lips_pass pass; /* LIPS_FORWARD, LIPS_VJP, LIPS_GRAD */
    lips_cuda_conv shape;
    float *x, *y, *filter;
    lips_precision precision;
} lips_cuda_conv_dnn_args;

lips_status lips_cuda_conv_dnn(lips_cuda *h, const lips_cuda_conv_dnn_args *a);

#endif
