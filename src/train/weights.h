/*
 * train/weights.h - networks from weights files: lipsweep's own or a PyTorch state_dict.
 */
#ifndef LIPS_TRAIN_WEIGHTS_H
#define LIPS_TRAIN_WEIGHTS_H

#include "base/safetensors.h"
#include "nn/net.h"

/* Fills params (P) and buffers of net from the file; every missing, extra or misshapen tensor is
 * named with what was expected (LIPS_ERR_DATA; then the vectors may be partly filled). Integer
 * num_batches_tracked of rank 0 is accepted, or absent (then 0). */
lips_status lips_weights_fill(const lips_net *net, const lips_st_file *f, double *params,
                              double *buffers);

#endif
