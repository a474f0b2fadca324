/*
 * nn: vision transformer of embedding width w for small images (Dosovitskiy et al. 2021), under
 * torchvision's names; L = 4 depth + 2.
 *
 *   patches  4x4 convolution of stride 4 to w channels: the patch embedding, one token per patch
 *   tokens   a class token before them, a learned position added to each
 *   block    x += out_proj(attention(in_proj(ln_1(x)))), then x += mlp.3(gelu(mlp.0(ln_2(x)))),
 * with heads of 32 channels where 32 divides w, else one head, and 4w units in the middle head
 * layer norm and linear layer on the class token
 *
 * The last layer norm is applied to the class token alone: it looks at one token at a time, and no
 * other token is read after it.
 */
#include "nn/graph.h"

#include <inttypes.h>
#include <stdio.h>

enum { PATCH = 4, HEAD = 32, MLP_RATIO = 4 };

typedef struct block {
    lips_net *net;
    char prefix[64];
} block;

static lips_status add_norm(lips_net *net, const char *name, int *x)
{
    return lips_net_add(
        net, &(lips_node_spec){.kind = &lips_kind_layernorm, .name = name, .in = {*x}}, x);
}

static lips_status add_block_norm(const block *b, const char *which, int *x)
{
    char name[LIPS_NAME_MAX];
    snprintf(name, sizeof name, "%s.%s", b->prefix, which);
    return add_norm(b->net, name, x);
}

/* A linear layer on tokens. */
static lips_status add_linear(const block *b, const char *which, int64_t units, lips_conv_keys keys,
                              int *x)
{
    char name[LIPS_NAME_MAX];
    snprintf(name, sizeof name, "%s.%s", b->prefix, which);
    return lips_net_add(b->net,
                        &(lips_node_spec){.kind = &lips_kind_conv,
                                          .name = name,
                                          .in = {*x},
                                          .units = units,
                                          .geom = {.r = 1, .stride = 1},
                                          .keys = keys,
                                          .bias = true},
                        x);
}

static lips_status add_sum(lips_net *net, int branch, int *x)
{
    return lips_net_add(net, &(lips_node_spec){.kind = &lips_kind_add, .in = {branch, *x}}, x);
}

static lips_status add_block(lips_net *net, int64_t number, int *x)
{
    int64_t w = net->spec.width;
    block b = {.net = net};
    snprintf(b.prefix, sizeof b.prefix, "encoder.layers.encoder_layer_%" PRId64, number);
    int y = *x;
    LIPS_TRY(add_block_norm(&b, "ln_1", &y));
    LIPS_TRY(add_linear(&b, "self_attention", 3 * w, LIPS_KEYS_IN_PROJ, &y));
    LIPS_TRY(lips_net_add(net,
                          &(lips_node_spec){.kind = &lips_kind_attention,
                                            .in = {y},
                                            .k = w % HEAD == 0 ? w / HEAD : 1},
                          &y));
    LIPS_TRY(add_linear(&b, "self_attention.out_proj", w, LIPS_KEYS_LINEAR, &y));
    LIPS_TRY(add_sum(net, y, x));
    y = *x;
    LIPS_TRY(add_block_norm(&b, "ln_2", &y));
    LIPS_TRY(add_linear(&b, "mlp.0", MLP_RATIO * w, LIPS_KEYS_LINEAR, &y));
    LIPS_TRY(lips_net_add(net, &(lips_node_spec){.kind = &lips_kind_gelu, .in = {y}}, &y));
    LIPS_TRY(add_linear(&b, "mlp.3", w, LIPS_KEYS_LINEAR, &y));
    return add_sum(net, y, x);
}

static lips_status check_spec(const lips_model_spec *spec)
{
    if (spec->h % PATCH || spec->w % PATCH)
        return lips_fail(LIPS_ERR_USAGE,
                         "input: vit cuts images into patches of 4x4, so height and width must be "
                         "multiples of 4, not %" PRId64 "x%" PRId64,
                         spec->h, spec->w);
    if (spec->depth < 1)
        return lips_fail(LIPS_ERR_USAGE, "depth: vit has at least 1 block, not %" PRId64,
                         spec->depth);
    return LIPS_OK;
}

static lips_status build(lips_net *net, int *output)
{
    const lips_model_spec *spec = &net->spec;
    LIPS_TRY(check_spec(spec));
    int x = 0;
    LIPS_TRY(lips_net_add(net,
                          &(lips_node_spec){.kind = &lips_kind_conv,
                                            .name = "conv_proj",
                                            .in = {x},
                                            .units = spec->width,
                                            .geom = {.r = PATCH, .stride = PATCH},
                                            .bias = true},
                          &x));
    LIPS_TRY(lips_net_add(net, &(lips_node_spec){.kind = &lips_kind_tokens, .in = {x}}, &x));
    for (int64_t i = 0; i < spec->depth; i++)
        LIPS_TRY(add_block(net, i, &x));
    LIPS_TRY(lips_net_add(net, &(lips_node_spec){.kind = &lips_kind_pick, .in = {x}}, &x));
    LIPS_TRY(add_norm(net, "encoder.ln", &x));
    LIPS_TRY(lips_net_add(net,
                          &(lips_node_spec){.kind = &lips_kind_linear,
                                            .name = "heads.head",
                                            .in = {x},
                                            .units = spec->classes,
                                            .bias = true},
                          &x));
    *output = x;
    return LIPS_OK;
}

const lips_arch lips_arch_vit = {.name = "vit", .build = build};
