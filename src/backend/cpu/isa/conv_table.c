/* The convolution kernels of one instruction set, gathered. */
#include "backend/cpu/isa/simd.h"

#include "backend/cpu/conv.h"

lips_conv_tile_fn LIPS_ISA_FN(lips_conv_tile);
lips_conv_dot_fn LIPS_ISA_FN(lips_conv_dot);
lips_conv_lane_sum_fn LIPS_ISA_FN(lips_conv_lane_sum);
lips_conv_widen_fn LIPS_ISA_FN(lips_conv_widen);
lips_conv_pack_fn LIPS_ISA_FN(lips_conv_pack);
lips_conv_gemm_fn LIPS_ISA_FN(lips_conv_gemm);
lips_conv_wino_in_fn LIPS_ISA_FN(lips_conv_wino_in);
lips_conv_wino_dy_fn LIPS_ISA_FN(lips_conv_wino_dy);
lips_conv_wino_out_fn LIPS_ISA_FN(lips_conv_wino_out);
lips_conv_wino_weights_fn LIPS_ISA_FN(lips_conv_wino_weights);
lips_conv_wino_taps_fn LIPS_ISA_FN(lips_conv_wino_taps);

extern const lips_conv_kernels LIPS_ISA_FN(lips_conv_kernels);

const lips_conv_kernels LIPS_ISA_FN(lips_conv_kernels) = {
    .tile = LIPS_ISA_FN(lips_conv_tile),
    .dot = LIPS_ISA_FN(lips_conv_dot),
    .lane_sum = LIPS_ISA_FN(lips_conv_lane_sum),
    .widen = LIPS_ISA_FN(lips_conv_widen),
    .pack = LIPS_ISA_FN(lips_conv_pack),
    .gemm = LIPS_ISA_FN(lips_conv_gemm),
    .wino_in = LIPS_ISA_FN(lips_conv_wino_in),
    .wino_dy = LIPS_ISA_FN(lips_conv_wino_dy),
    .wino_out = LIPS_ISA_FN(lips_conv_wino_out),
    .wino_weights = LIPS_ISA_FN(lips_conv_wino_weights),
    .wino_taps = LIPS_ISA_FN(lips_conv_wino_taps),
};
