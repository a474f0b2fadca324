/* The kernels of one instruction set, gathered. */
#include "backend/cpu/isa/kernels.h"

#include "backend/cpu/conv.h"
#include "backend/cpu/tokens.h"

extern const lips_conv_kernels LIPS_ISA_FN(lips_conv_kernels);
extern const lips_token_kernels LIPS_ISA_FN(lips_token_kernels);
extern const lips_cpu_kernels LIPS_ISA_FN(lips_cpu_kernels);

const lips_cpu_kernels LIPS_ISA_FN(lips_cpu_kernels) = {
    .name = LIPS_ISA_NAME,
    .add = LIPS_ISA_FN(lips_cpu_add),
    .relu = LIPS_ISA_FN(lips_cpu_relu),
    .mask = LIPS_ISA_FN(lips_cpu_mask),
    .bias = LIPS_ISA_FN(lips_cpu_bias),
    .pool = LIPS_ISA_FN(lips_cpu_pool),
    .unpool = LIPS_ISA_FN(lips_cpu_unpool),
    .affine = LIPS_ISA_FN(lips_cpu_affine),
    .affine2 = LIPS_ISA_FN(lips_cpu_affine2),
    .diff_sumsq = LIPS_ISA_FN(lips_cpu_diff_sumsq),
    .sum = LIPS_ISA_FN(lips_cpu_sum),
    .lane_sum = LIPS_ISA_FN(lips_cpu_lane_sum),
    .lane_sumsq = LIPS_ISA_FN(lips_cpu_lane_sumsq),
    .lane_moments = LIPS_ISA_FN(lips_cpu_lane_moments),
    .gram = LIPS_ISA_FN(lips_cpu_gram),
    .gather = LIPS_ISA_FN(lips_cpu_gather),
    .cross_entropy = LIPS_ISA_FN(lips_cpu_cross_entropy),
    .sgd = LIPS_ISA_FN(lips_cpu_sgd),
    .adam = LIPS_ISA_FN(lips_cpu_adam),
    .conv = &LIPS_ISA_FN(lips_conv_kernels),
    .tokens = &LIPS_ISA_FN(lips_token_kernels),
};
