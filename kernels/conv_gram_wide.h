/*
 * kernels/conv_gram_wide.h - what conv_gram.cu asks of conv_gram_wide.cu.
 */
#ifndef LIPS_KERNELS_CONV_GRAM_WIDE_H
#define LIPS_KERNELS_CONV_GRAM_WIDE_H

#include "base/status.h"
#include "kernels/conv_gram_sums.h"

/* Wide tiles are taken where so much of them is no padding: they do twice the work in a time. */
constexpr double WIDE_SHARE = 0.6;

/* Sets d's tiles of outputs and columns and says true, where wide tiles suit d's shape. */
bool lips_cuda_conv_gram_wide_plan(conv_gram_sums::shape *d, bool pixel);

/* As planned: one launch for all stacked values of some samples. source: x, or A if `pixel`;
 * 16-byte aligned, as dy is. */
lips_status lips_cuda_conv_gram_wide(const gram_tiles::target &to, const float *dy,
                                     const float *source, const conv_gram_sums::shape &d,
                                     bool pixel, int slices, int64_t samples, cudaStream_t stream);

#endif
