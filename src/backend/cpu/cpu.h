/*
 * backend/cpu/cpu.h - inside the cpu backend: its handle, and the table of kernels per instruction set.
 *
 * Each src/backend/cpu/isa/x.c is compiled once per instruction set (Makefile: LIPS_ISA = avx512, avx2, base)
 * and defines functions whose names end in it: LIPS_ISA_FN(lips_x) gives lips_x_avx512. isa/table.c
 * gathers them into one lips_cpu_kernels per set, and dispatch.c picks one when a handle is opened.
 * Everything else of the backend is plain C and calls through lips_cpu.k.
 */
#ifndef LIPS_BACKEND_CPU_CPU_H
#define LIPS_BACKEND_CPU_CPU_H

#include "backend/backend.h"

typedef struct lips_cpu_kernels {
    const char *name; /* "avx512", "avx2", "base" */
} lips_cpu_kernels;

typedef struct lips_cpu {
    lips_backend base;
    const lips_cpu_kernels *k;
} lips_cpu;

static inline const lips_cpu_kernels *lips_cpu_k(const lips_backend *be)
{
    return ((const lips_cpu *)be)->k;
}

enum { LIPS_CPU_LANES = 16 }; /* lips_tensor.lanes is a multiple of this: one AVX-512 register */

/* The kernels for this machine: the best set that the processor has, or the one that the environment
 * variable LIPSWEEP_ISA names (for tests). LIPS_ERR_USAGE for a name that is unknown or that the processor
 * cannot run. */
lips_status lips_cpu_kernels_pick(const lips_cpu_kernels **out);

/* The sets that this processor can run, best first: the i-th, or NULL past the last. */
const lips_cpu_kernels *lips_cpu_kernels_at(int i);

/* Entries of the table of operations, one file per family. */
size_t lips_cpu_conv_workspace(lips_backend *be, const lips_conv_args *a);
lips_status lips_cpu_conv_forward(lips_backend *be, const lips_conv_args *a);
lips_status lips_cpu_conv_vjp(lips_backend *be, const lips_conv_args *a);
lips_status lips_cpu_conv_grad(lips_backend *be, const lips_conv_args *a);
lips_status lips_cpu_conv_gram(lips_backend *be, const lips_conv_args *a);

#endif
