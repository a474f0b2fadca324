/* The operations of the backend table as benches see them (gpu_op.h). */
#include "gpu_op.h"

#include "backend/cpu/conv.h"

#include <string.h>

static lips_status add(gpu_side *s)
{
    return s->be->ops->add(s->be, &s->y, &s->x, &s->y);
}

static lips_status fill(gpu_side *s)
{
    return s->be->ops->fill(s->be, &s->y, 0.25);
}

static lips_relu_args relu_args(gpu_side *s)
{
    return (lips_relu_args){.y = s->y, .x = s->x, .mask = &s->mask};
}

static lips_status relu_forward(gpu_side *s)
{
    const lips_relu_args a = relu_args(s);
    return s->be->ops->relu_forward(s->be, &a);
}

static lips_status relu_mask(gpu_side *s)
{
    const lips_relu_args a = relu_args(s);
    return s->be->ops->relu_mask(s->be, &a);
}

static lips_gelu_args gelu_args(gpu_side *s)
{
    return (lips_gelu_args){.y = s->y, .x = s->x, .in = &s->in};
}

static lips_status gelu_forward(gpu_side *s)
{
    const lips_gelu_args a = gelu_args(s);
    return s->be->ops->gelu_forward(s->be, &a);
}

static lips_status gelu_slope(gpu_side *s)
{
    const lips_gelu_args a = gelu_args(s);
    return s->be->ops->gelu_slope(s->be, &a);
}

static lips_bias_args bias_args(gpu_side *s)
{
    return (lips_bias_args){.y = s->y, .bias = s->v[0], .db = s->d, .theta = s->q};
}

static lips_status bias_forward(gpu_side *s)
{
    const lips_bias_args a = bias_args(s);
    return s->be->ops->bias_forward(s->be, &a);
}

static lips_status bias_grad(gpu_side *s)
{
    const lips_bias_args a = bias_args(s);
    return s->be->ops->bias_grad(s->be, &a);
}

static lips_status bias_gram(gpu_side *s)
{
    const lips_bias_args a = bias_args(s);
    return s->be->ops->bias_gram(s->be, &a);
}

static lips_status avgpool_forward(gpu_side *s)
{
    return s->be->ops->avgpool_forward(s->be,
                                       &(lips_pool_args){.y = s->y, .x = s->x, .k = s->s.pool});
}

static lips_status avgpool_vjp(gpu_side *s)
{
    return s->be->ops->avgpool_vjp(
        s->be, &(lips_pool_args){.y = s->y, .x = s->x, .k = s->s.pool, .mask = &s->mask});
}

static lips_bn_args bn_args(gpu_side *s)
{
    return (lips_bn_args){.y = s->y,
                          .x = s->x,
                          .in = s->in.data ? &s->in : NULL,
                          .gamma = s->v[0],
                          .beta = s->v[1],
                          .mean = s->v[2],
                          .var = s->v[3],
                          .batch_mean = s->batch,
                          .batch_var = s->batch ? s->batch + s->s.c : NULL,
                          .training = s->training,
                          .eps = 1e-5,
                          .momentum = 0.1,
                          .dgamma = s->d,
                          .dbeta = s->d ? lips_real_at(s->be, s->d, s->s.c) : NULL,
                          .theta = s->q};
}

static lips_status bn_forward(gpu_side *s)
{
    const lips_bn_args a = bn_args(s);
    return s->be->ops->bn_forward(s->be, &a);
}

static lips_status bn_vjp(gpu_side *s)
{
    const lips_bn_args a = bn_args(s);
    return s->be->ops->bn_vjp(s->be, &a);
}

static lips_status bn_grad(gpu_side *s)
{
    const lips_bn_args a = bn_args(s);
    return s->be->ops->bn_grad(s->be, &a);
}

static lips_status bn_gram(gpu_side *s)
{
    const lips_bn_args a = bn_args(s);
    return s->be->ops->bn_gram(s->be, &a);
}

static lips_ln_args ln_args(gpu_side *s)
{
    return (lips_ln_args){.y = s->y,
                          .x = s->x,
                          .in = &s->in,
                          .gamma = s->v[0],
                          .beta = s->v[1],
                          .eps = 1e-6,
                          .dgamma = s->d,
                          .dbeta = s->d ? lips_real_at(s->be, s->d, s->s.c) : NULL,
                          .theta = s->q};
}

static lips_status ln_forward(gpu_side *s)
{
    const lips_ln_args a = ln_args(s);
    return s->be->ops->ln_forward(s->be, &a);
}

static lips_status ln_jvp(gpu_side *s)
{
    const lips_ln_args a = ln_args(s);
    return s->be->ops->ln_jvp(s->be, &a);
}

static lips_status ln_vjp(gpu_side *s)
{
    const lips_ln_args a = ln_args(s);
    return s->be->ops->ln_vjp(s->be, &a);
}

static lips_status ln_grad(gpu_side *s)
{
    const lips_ln_args a = ln_args(s);
    return s->be->ops->ln_grad(s->be, &a);
}

static lips_status ln_gram(gpu_side *s)
{
    const lips_ln_args a = ln_args(s);
    return s->be->ops->ln_gram(s->be, &a);
}

static lips_tokens_args tokens_args(gpu_side *s)
{
    return (lips_tokens_args){.y = s->y,
                              .x = &s->x,
                              .token = s->v[0],
                              .pos = s->w,
                              .dtoken = s->d,
                              .dpos = s->d ? lips_real_at(s->be, s->d, s->s.c) : NULL};
}

static lips_status tokens_forward(gpu_side *s)
{
    const lips_tokens_args a = tokens_args(s);
    return s->be->ops->tokens_forward(s->be, &a);
}

static lips_status tokens_vjp(gpu_side *s)
{
    const lips_tokens_args a = tokens_args(s);
    return s->be->ops->tokens_vjp(s->be, &a);
}

static lips_status tokens_grad(gpu_side *s)
{
    const lips_tokens_args a = tokens_args(s);
    return s->be->ops->tokens_grad(s->be, &a);
}

static lips_status pick_forward(gpu_side *s)
{
    return s->be->ops->pick_forward(s->be, &(lips_pick_args){.y = s->y, .x = s->x});
}

static lips_status pick_vjp(gpu_side *s)
{
    return s->be->ops->pick_vjp(s->be, &(lips_pick_args){.y = s->y, .x = s->x});
}

static lips_linear_args linear_args(gpu_side *s)
{
    return (lips_linear_args){.y = s->y,
                              .x = s->x,
                              .w = s->w,
                              .bias = s->v[0],
                              .relu = true,
                              .mask = s->mask.data ? &s->mask : NULL,
                              .dw = s->d,
                              .theta = s->q};
}

static lips_status linear_forward(gpu_side *s)
{
    const lips_linear_args a = linear_args(s);
    return s->be->ops->linear_forward(s->be, &a);
}

static lips_status linear_vjp(gpu_side *s)
{
    lips_linear_args a = linear_args(s);
    a.relu = false;
    return s->be->ops->linear_vjp(s->be, &a);
}

static lips_status linear_grad(gpu_side *s)
{
    lips_linear_args a = linear_args(s);
    a.relu = false;
    return s->be->ops->linear_grad(s->be, &a);
}

static lips_status linear_gram(gpu_side *s)
{
    lips_linear_args a = linear_args(s);
    a.relu = false;
    return s->be->ops->linear_gram(s->be, &a);
}

static lips_conv_args conv_args(const gpu_side *s)
{
    return (lips_conv_args){.y = s->y,
                            .x = s->x,
                            .geom = s->s.geom,
                            .w = s->w,
                            .bias = s->v[0],
                            .mask = s->mask.data ? &s->mask : NULL,
                            .dw = s->d,
                            .theta = s->q,
                            .work = s->work};
}

static lips_status conv_forward(gpu_side *s)
{
    lips_conv_args a = conv_args(s);
    a.relu = true;
    return s->be->ops->conv_forward(s->be, &a);
}

static lips_status conv_vjp(gpu_side *s)
{
    const lips_conv_args a = conv_args(s);
    return s->be->ops->conv_vjp(s->be, &a);
}

static lips_status conv_grad(gpu_side *s)
{
    const lips_conv_args a = conv_args(s);
    return s->be->ops->conv_grad(s->be, &a);
}

static lips_status conv_gram(gpu_side *s)
{
    const lips_conv_args a = conv_args(s);
    return s->be->ops->conv_gram(s->be, &a);
}

static lips_status gram(gpu_side *s)
{
    return s->be->ops->gram(s->be, &(lips_gram_args){.x = s->x, .g = s->q});
}

static lips_attn_args attn_args(gpu_side *s)
{
    return (lips_attn_args){
        .y = s->y, .x = s->x, .in = &s->in, .heads = s->s.heads, .work = s->work};
}

static lips_status attn_forward(gpu_side *s)
{
    const lips_attn_args a = attn_args(s);
    return s->be->ops->attn_forward(s->be, &a);
}

static lips_status attn_jvp(gpu_side *s)
{
    const lips_attn_args a = attn_args(s);
    return s->be->ops->attn_jvp(s->be, &a);
}

static lips_status attn_vjp(gpu_side *s)
{
    const lips_attn_args a = attn_args(s);
    return s->be->ops->attn_vjp(s->be, &a);
}

static lips_status loss(gpu_side *s)
{
    return s->be->ops->loss(s->be, &(lips_loss_args){.kind = LIPS_LOSS_CROSS_ENTROPY,
                                                     .z = s->x,
                                                     .labels = s->labels,
                                                     .dz = &s->y,
                                                     .scale = 0.5});
}

static lips_status loss_curve(gpu_side *s)
{
    return s->be->ops->loss_curve(
        s->be,
        &(lips_loss_curve_args){
            .kind = LIPS_LOSS_CROSS_ENTROPY, .z = s->x, .v = s->in, .y = s->y, .scale = 0.5});
}

static lips_status norms(gpu_side *s)
{
    return s->be->ops->norms(s->be, &(lips_norms_args){.map = LIPS_MAP_PLAIN,
                                                       .g = s->q,
                                                       .op = s->r,
                                                       .fro = s->r + s->s.b,
                                                       .n = s->s.b,
                                                       .k = s->s.t});
}

static lips_status sgd(gpu_side *s)
{
    return s->be->ops->sgd(
        s->be, &(lips_sgd_args){
                   .p = s->w, .g = s->d, .m = s->m1, .n = s->s.o, .lr = 1e-3, .momentum = 0.9});
}

static lips_status adam(gpu_side *s)
{
    return s->be->ops->adam(s->be, &(lips_adam_args){.p = s->w,
                                                     .g = s->d,
                                                     .m = s->m1,
                                                     .v = s->m2,
                                                     .n = s->s.o,
                                                     .step = 1,
                                                     .lr = 1e-3,
                                                     .beta1 = 0.9,
                                                     .beta2 = 0.999,
                                                     .eps = 1e-8});
}

/* ---- operations ---- */

static double conv_flops(const gpu_side *s)
{
    static const struct {
        const char *name;
        lips_conv_op op;
    } ops[] = {{"conv_forward", LIPS_CONV_FORWARD},
               {"conv_vjp", LIPS_CONV_VJP},
               {"conv_grad", LIPS_CONV_GRAD},
               {"conv_gram", LIPS_CONV_GRAM}};
    const lips_conv_args a = conv_args(s);
    for (int i = 0; i < 4; i++)
        if (strcmp(ops[i].name, s->op->name) == 0)
            return lips_conv_flops(ops[i].op, &a);
    return 0;
}

static double linear_flops(const gpu_side *s)
{
    return 2 * (double)(s->s.b * s->s.t) * (double)(s->s.c * s->s.o);
}

static double gram_flops(const gpu_side *s)
{
    return (double)(s->s.b * s->s.c * s->s.h * s->s.w * s->s.t * (s->s.t + 1));
}

/* One product of all pairs of tokens is 2 N^2 C. */
static double attn_flops(const gpu_side *s)
{
    const double n = (double)(s->s.h * s->s.w), t = (double)s->s.t;
    const double products = strcmp(s->op->name, "attn_forward") == 0 ? 2 : 4 * t + 1;
    return 2 * products * n * n * (double)(s->s.c * s->s.b);
}

/* Expected shares: of streams 0.92, one pass of 16-byte accesses with little else to do; the others
 * as their headers under kernels/ predict. */
const gpu_op gpu_ops[] = {
    {"add", "", "xy", "y", add, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 1, .streams = true},
    {"fill", "", "", "y", fill, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 1, .streams = true},
    {"relu_forward", "", "x", "y", relu_forward, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 1,
     .streams = true},
    {"relu_mask", "", "Xm", "Y", relu_mask, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 1,
     .streams = true},
    {"gelu_forward", "", "x", "y", gelu_forward, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 1,
     .counts = {{0, 0, 60}}, .streams = true},
    {"gelu_slope", "", "Xi", "Y", gelu_slope, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 1,
     .counts = {{0, 0, 5}, {0, 0, 65}}, .streams = true},
    {"bias_forward", "", "yv", "y", bias_forward, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 1,
     .streams = true},
    {"bias_grad", "", "yd", "d", bias_grad, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 2,
     .counts = {{1, 1, 5}}, .streams = true},
    {"bias_gram", "", "Yq", "q", bias_gram, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 2,
     .counts = {{1, 1, 5}}, .streams = true},
    {"avgpool_forward", "", "x", "y", avgpool_forward, NULL, GPU_POOL, GPU_NONE, 0.92,
     .launches = 1, .streams = true},
    {"avgpool_vjp", "", "Ym", "X", avgpool_vjp, NULL, GPU_POOL, GPU_NONE, 0.92, .launches = 1,
     .streams = true},
    {"bn_forward", "eval", "xv", "y", bn_forward, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 2,
     .counts = {{0, 0, 9}}, .streams = true},
    {"bn_forward", "training", "xxv", "y", bn_forward, NULL, GPU_SAME, GPU_NONE, 0.92,
     .launches = 3, .counts = {{1, 3, 7}, {0, 0, 9}}, .streams = true, .training = true},
    {"bn_vjp", "eval", "Yv", "X", bn_vjp, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 2,
     .counts = {{0, 0, 9}}, .streams = true},
    {"bn_vjp", "training", "YYiiv", "X", bn_vjp, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 3,
     .counts = {{2, 3, 10}, {0, 0, 10}}, .streams = true, .training = true},
    {"bn_grad", "eval", "xyvd", "d", bn_grad, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 2,
     .counts = {{2, 3, 10}}, .streams = true},
    {"bn_gram", "", "xYvq", "q", bn_gram, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 2,
     .counts = {{0, 0, 0}, {2, 3, 10}}, .streams = true},
    {"ln_forward", "", "xv", "y", ln_forward, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 1,
     .counts = {{2, 8, 28}}, .streams = true},
    {"ln_jvp", "", "Xiv", "Y", ln_jvp, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 1,
     .counts = {{2, 8, 31}, {2, 16, 72}}, .streams = true},
    {"ln_vjp", "", "Yiv", "X", ln_vjp, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 1,
     .counts = {{2, 9, 31}, {2, 16, 72}}, .streams = true},
    {"ln_grad", "", "xyd", "d", ln_grad, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 2,
     .counts = {{2, 8, 28}, {2, 4, 12}}, .streams = true},
    {"ln_gram", "", "xYq", "q", ln_gram, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 2,
     .counts = {{2, 8, 28}, {2, 4, 12}}, .streams = true},
    {"tokens_forward", "", "xvw", "y", tokens_forward, NULL, GPU_TOKENS, GPU_NONE, 0.85,
     .launches = 1, .streams = true},
    {"tokens_vjp", "", "Y", "X", tokens_vjp, NULL, GPU_TOKENS, GPU_NONE, 0.85, .launches = 1,
     .streams = true},
    {"tokens_grad", "", "yd", "d", tokens_grad, NULL, GPU_TOKENS, GPU_NONE, 0.85, .launches = 4,
     .counts = {{1, 1, 5}}, .streams = true},
    {"pick_forward", "", "x", "y", pick_forward, NULL, GPU_PICK, GPU_NONE, 0.85, .launches = 1},
    {"pick_vjp", "", "Y", "X", pick_vjp, NULL, GPU_PICK, GPU_NONE, 0.85, .launches = 1,
     .streams = true},
    {"conv_forward", "", "xwv", "y", conv_forward, conv_flops, GPU_CONV, GPU_F32, 0.76,
     .launches = 2},
    {"conv_vjp", "", "Ywm", "X", conv_vjp, conv_flops, GPU_CONV, GPU_F32, 0.76, .launches = 2},
    {"conv_grad", "", "xyd", "d", conv_grad, conv_flops, GPU_CONV, GPU_F32, 0.76, .launches = 2},
    {"conv_gram", "", "xYq", "q", conv_gram, conv_flops, GPU_CONV, GPU_F32, 0.45, .launches = 2},
    {"linear_forward", "", "xwv", "y", linear_forward, linear_flops, GPU_LINEAR, GPU_F32, 0.76,
     .launches = 1},
    {"linear_vjp", "", "Ywm", "X", linear_vjp, linear_flops, GPU_LINEAR, GPU_F32, 0.76,
     .launches = 1},
    {"linear_grad", "", "xyd", "d", linear_grad, linear_flops, GPU_LINEAR, GPU_F32, 0.76,
     .launches = 2},
    {"linear_gram", "", "xYq", "q", linear_gram, NULL, GPU_LINEAR, GPU_NONE, 0.85, .launches = 1},
    {"gram", "", "Xq", "q", gram, gram_flops, GPU_SAME, GPU_F64, 0.92, .launches = 1,
     .counts = {{1, 2, 8}}, .streams = true},
    {"attn_forward", "", "x", "y", attn_forward, attn_flops, GPU_ATTN, GPU_F32, 0.25,
     .launches = 3},
    {"attn_jvp", "", "Xi", "Y", attn_jvp, attn_flops, GPU_ATTN, GPU_F32, 0.25, .launches = 5},
    {"attn_vjp", "", "Yi", "X", attn_vjp, attn_flops, GPU_ATTN, GPU_F32, 0.25, .launches = 5},
    {"loss", "", "x", "y", loss, NULL, GPU_SAME, GPU_NONE, 0.3, .launches = 2},
    {"loss_curve", "", "xi", "y", loss_curve, NULL, GPU_SAME, GPU_NONE, 0.3, .launches = 1,
     .ref = true},
    {"norms", "", "q", "r", norms, NULL, GPU_SAME, GPU_NONE, 0.1, .launches = 1, .ref = true},
    {"sgd", "momentum", "wda", "wa", sgd, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 1,
     .streams = true},
    {"adam", "", "wdab", "wab", adam, NULL, GPU_SAME, GPU_NONE, 0.92, .launches = 1,
     .streams = true},
    {0},
};

const gpu_op *gpu_op_find(const char *name, const char *variant)
{
    for (const gpu_op *op = gpu_ops; op->name; op++)
        if (strcmp(op->name, name) == 0 && strcmp(op->variant, variant) == 0)
            return op;
    return NULL;
}
