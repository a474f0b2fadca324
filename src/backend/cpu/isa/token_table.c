/* The kernels on tokens of one instruction set, gathered. */
#include "backend/cpu/isa/token_kernels.h"

extern const lips_token_kernels LIPS_ISA_FN(lips_token_kernels);

const lips_token_kernels LIPS_ISA_FN(lips_token_kernels) = {
    .ln_forward = LIPS_ISA_FN(lips_cpu_ln_forward),
    .ln_map = LIPS_ISA_FN(lips_cpu_ln_map),
    .ln_vjp_dot = LIPS_ISA_FN(lips_cpu_ln_vjp_dot),
    .ln_stats = LIPS_ISA_FN(lips_cpu_ln_stats),
    .ln_moments = LIPS_ISA_FN(lips_cpu_ln_moments),
    .ln_motion = LIPS_ISA_FN(lips_cpu_ln_motion),
    .ln_grad_dot = LIPS_ISA_FN(lips_cpu_ln_grad_dot),
    .gelu = LIPS_ISA_FN(lips_cpu_gelu),
    .gelu_slope = LIPS_ISA_FN(lips_cpu_gelu_slope),
    .gelu_curve = LIPS_ISA_FN(lips_cpu_gelu_curve),
    .softmax = LIPS_ISA_FN(lips_cpu_softmax),
    .soften = LIPS_ISA_FN(lips_cpu_soften),
    .soften_dot = LIPS_ISA_FN(lips_cpu_soften_dot),
};
