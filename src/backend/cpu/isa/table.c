/* The kernels of one instruction set, gathered. */
#include "backend/cpu/isa/simd.h"

extern const lips_cpu_kernels LIPS_ISA_FN(lips_cpu_kernels);

const lips_cpu_kernels LIPS_ISA_FN(lips_cpu_kernels) = {
    .name = LIPS_ISA_NAME,
};
