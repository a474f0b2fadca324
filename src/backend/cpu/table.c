/* cpu: handle and table. One handle, one core: callers run several handles on several threads. */
#include "backend/cpu/ops.h"
#include "backend/host.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

extern const lips_ops lips_cpu_ops;

static lips_status cpu_probe(lips_device *out, int device)
{
    (void)device;
    const lips_cpu_kernels *k = NULL;
    LIPS_TRY(lips_cpu_kernels_pick(&k));
    *out = (lips_device){.count = 1, .name = "processor"};
    snprintf(out->detail, sizeof out->detail, "kernels %s", k->name);
    return LIPS_OK;
}

static lips_status cpu_open(lips_backend **out, int device)
{
    (void)device;
    *out = NULL;
    const lips_cpu_kernels *k = NULL;
    LIPS_TRY(lips_cpu_kernels_pick(&k));
    lips_cpu *cpu = malloc(sizeof *cpu);
    if (!cpu)
        return lips_fail(LIPS_ERR_MEMORY, "cpu: out of memory (%zu bytes asked)", sizeof *cpu);
    *cpu = (lips_cpu){.base.ops = &lips_cpu_ops, .k = k};
    omp_set_num_threads(1); /* of this thread only: oneDNN stays on the caller's core */
    *out = &cpu->base;
    return LIPS_OK;
}

static void cpu_close(lips_backend *be)
{
    free(be);
}

const lips_ops lips_cpu_ops = {
    .name = "cpu",
    .real_bytes = sizeof(float),
    .image_chunk = LIPS_CPU_LANES, /* one slab; bench/train_step.c has the difference */
    .probe = cpu_probe,
    .open = cpu_open,
    .close = cpu_close,
    .alloc = lips_host_alloc,
    .alloc_shared = lips_host_alloc, /* ops are done when they return: both are the host's */
    .release = lips_host_release,
    .sync = lips_host_sync,
    .write = lips_cpu_write,
    .read = lips_cpu_read,
    .zero = lips_host_zero,
    .copy = lips_host_copy,
    .put = lips_host_put,
    .fetch = lips_host_fetch,
    .await = lips_host_await,
    .diff_sumsq = lips_cpu_diff_sumsq,
    .dots = lips_host_dots,
    .combine = lips_host_combine,
    .narrow = lips_host_narrow,
    .widen = lips_host_widen,
    .signs = lips_host_signs,
    .plan_lanes = lips_cpu_plan_lanes,
    .tensor_bytes = lips_cpu_tensor_bytes,
    .upload = lips_cpu_upload,
    .upload_f64 = lips_cpu_upload_f64,
    .download = lips_cpu_download,
    .fill = lips_cpu_fill,
    .eye = lips_cpu_eye,
    .add = lips_cpu_add,
    .linear_forward = lips_cpu_linear_forward,
    .linear_vjp = lips_cpu_linear_vjp,
    .linear_grad = lips_cpu_linear_grad,
    .linear_gram = lips_cpu_linear_gram,
    .conv_workspace = lips_cpu_conv_workspace,
    .conv_forward = lips_cpu_conv_forward,
    .conv_vjp = lips_cpu_conv_vjp,
    .conv_grad = lips_cpu_conv_grad,
    .conv_gram = lips_cpu_conv_gram,
    .bias_forward = lips_cpu_bias_forward,
    .bias_grad = lips_cpu_bias_grad,
    .bias_gram = lips_cpu_bias_gram,
    .relu_forward = lips_cpu_relu_forward,
    .relu_mask = lips_cpu_relu_mask,
    .avgpool_forward = lips_cpu_avgpool_forward,
    .avgpool_vjp = lips_cpu_avgpool_vjp,
    .bn_forward = lips_cpu_bn_forward,
    .bn_jvp = lips_cpu_bn_jvp,
    .bn_vjp = lips_cpu_bn_vjp,
    .bn_grad = lips_cpu_bn_grad,
    .bn_gram = lips_cpu_bn_gram,
    .ln_forward = lips_cpu_ln_forward,
    .ln_jvp = lips_cpu_ln_jvp,
    .ln_vjp = lips_cpu_ln_vjp,
    .ln_grad = lips_cpu_ln_grad,
    .ln_gram = lips_cpu_ln_gram,
    .ln_vjp_dot = lips_cpu_ln_vjp_dot,
    .ln_grad_dot = lips_cpu_ln_grad_dot,
    .gelu_forward = lips_cpu_gelu_forward,
    .gelu_slope = lips_cpu_gelu_slope,
    .gelu_vjp_dot = lips_cpu_gelu_vjp_dot,
    .attn_workspace = lips_cpu_attn_workspace,
    .attn_forward = lips_cpu_attn_forward,
    .attn_jvp = lips_cpu_attn_jvp,
    .attn_vjp = lips_cpu_attn_vjp,
    .attn_vjp_dot = lips_cpu_attn_vjp_dot,
    .tokens_forward = lips_cpu_tokens_forward,
    .tokens_vjp = lips_cpu_tokens_vjp,
    .tokens_grad = lips_cpu_tokens_grad,
    .tokens_gram = lips_cpu_tokens_gram,
    .pick_forward = lips_cpu_pick_forward,
    .pick_vjp = lips_cpu_pick_vjp,
    .loss = lips_cpu_loss,
    .sgd = lips_cpu_sgd,
    .adam = lips_cpu_adam,
    .advance = lips_host_advance,
    .gram = lips_cpu_gram,
};
