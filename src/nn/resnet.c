/*
 * nn: ResNet-18 of width w for small images (He, Zhang, Ren, Sun 2016), under torchvision's names.
 *
 *   stem     3x3 convolution of stride 1 to w channels, ReLU; no pooling
 *   stages   four of two blocks each, of w, 2w, 4w, 8w channels; the first block of the last three
 *            has stride 2
 *   block    relu(conv2(relu(conv1(x))) + shortcut(x)), both 3x3, conv1 with the block's stride
 *   shortcut the identity; where the shape changes a 1x1 convolution with the block's stride, which
 *            has neither bias nor batch norm
 *   head     global average pooling, linear layer
 *
 * Option batch_norm: after each 3x3 convolution, which then has no bias.
 *
 * Layers are numbered in the order in which torchvision's forward runs them, which is that of its
 * state_dict: in a block conv1, conv2, then the shortcut (downsample.0). L = 21.
 */
#include "nn/graph.h"

#include <stdio.h>

enum { STAGES = 4, BLOCKS = 2 };

typedef struct conv3 {
    const char *prefix, *number; /* "layer2.0." and "1": layer2.0.conv1, layer2.0.bn1 */
    int64_t channels, stride;
    lips_branch branch;
    bool relu;
} conv3;

/* 3x3 convolution, batch norm if asked for, ReLU if asked for. */
static lips_status add_conv3(lips_net *net, const conv3 *a, int *x)
{
    bool norm = net->spec.batch_norm;
    char name[32];
    snprintf(name, sizeof name, "%sconv%s", a->prefix, a->number);
    LIPS_TRY(lips_net_add(net,
                          &(lips_node_spec){.kind = &lips_kind_conv,
                                            .name = name,
                                            .in = {*x},
                                            .units = a->channels,
                                            .geom = {.r = 3, .stride = a->stride, .pad = 1},
                                            .branch = a->branch,
                                            .bias = !norm,
                                            .relu = !norm && a->relu},
                          x));
    if (!norm)
        return LIPS_OK;
    snprintf(name, sizeof name, "%sbn%s", a->prefix, a->number);
    return lips_net_add(
        net,
        &(lips_node_spec){.kind = &lips_kind_batchnorm, .name = name, .in = {*x}, .relu = a->relu},
        x);
}

static lips_status add_block(lips_net *net, const char *prefix, int64_t channels, int64_t stride,
                             int *x)
{
    int branch = *x, shortcut = *x;
    LIPS_TRY(add_conv3(net,
                       &(conv3){.prefix = prefix,
                                .number = "1",
                                .channels = channels,
                                .stride = stride,
                                .branch = LIPS_BRANCH_INNER,
                                .relu = true},
                       &branch));
    LIPS_TRY(add_conv3(net,
                       &(conv3){.prefix = prefix,
                                .number = "2",
                                .channels = channels,
                                .stride = 1,
                                .branch = LIPS_BRANCH_LAST},
                       &branch));
    if (stride != 1 || net->values[*x].c != channels) {
        char name[64];
        snprintf(name, sizeof name, "%sdownsample.0", prefix);
        LIPS_TRY(lips_net_add(net,
                              &(lips_node_spec){.kind = &lips_kind_conv,
                                                .name = name,
                                                .in = {*x},
                                                .units = channels,
                                                .geom = {.r = 1, .stride = stride}},
                              &shortcut));
    }
    return lips_net_add(
        net, &(lips_node_spec){.kind = &lips_kind_add, .in = {branch, shortcut}, .relu = true}, x);
}

static lips_status build(lips_net *net, int *output)
{
    const lips_model_spec *spec = &net->spec;
    int x = 0;
    LIPS_TRY(add_conv3(
        net,
        &(conv3){.prefix = "", .number = "1", .channels = spec->width, .stride = 1, .relu = true},
        &x));
    for (int stage = 1; stage <= STAGES; stage++)
        for (int block = 0; block < BLOCKS; block++) {
            char prefix[24];
            snprintf(prefix, sizeof prefix, "layer%d.%d.", stage, block);
            LIPS_TRY(add_block(net, prefix, spec->width << (stage - 1),
                               stage > 1 && block == 0 ? 2 : 1, &x));
        }
    LIPS_TRY(lips_net_add(net, &(lips_node_spec){.kind = &lips_kind_avgpool, .in = {x}}, &x));
    LIPS_TRY(lips_net_add(net,
                          &(lips_node_spec){.kind = &lips_kind_linear,
                                            .name = "fc",
                                            .in = {x},
                                            .units = spec->classes,
                                            .bias = true},
                          &x));
    *output = x;
    return LIPS_OK;
}

const lips_arch lips_arch_resnet18 = {.name = "resnet18", .batch_norm = true, .build = build};
