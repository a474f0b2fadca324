/*
 * nn: four 3x3 convolutions of w, 2w, 4w, 8w channels with ReLU, 2x2 average pooling after the
 * second and third, global average pooling after the last, and a linear layer.
 */
#include "nn/graph.h"

#include <inttypes.h>
#include <stdio.h>

enum { BLOCKS = 4 };

/* Convolution, batch norm if asked for, ReLU. */
static lips_status add_block(lips_net *net, int block, int *x)
{
    bool norm = net->spec.batch_norm;
    char name[32];
    snprintf(name, sizeof name, "layer%d.conv", block);
    LIPS_TRY(lips_net_add(net,
                          &(lips_node_spec){.kind = &lips_kind_conv,
                                            .name = name,
                                            .in = {*x},
                                            .units = net->spec.width << (block - 1),
                                            .geom = {.r = 3, .stride = 1, .pad = 1},
                                            .bias = !norm,
                                            .relu = !norm},
                          x));
    if (!norm)
        return LIPS_OK;
    snprintf(name, sizeof name, "layer%d.bn", block);
    return lips_net_add(
        net,
        &(lips_node_spec){.kind = &lips_kind_batchnorm, .name = name, .in = {*x}, .relu = true}, x);
}

static lips_status build(lips_net *net, int *output)
{
    const lips_model_spec *spec = &net->spec;
    if (spec->h % 4 || spec->w % 4)
        return lips_fail(LIPS_ERR_USAGE,
                         "input: convnet pools twice by 2, so height and width must be "
                         "multiples of 4, not %" PRId64 "x%" PRId64,
                         spec->h, spec->w);
    static const int64_t window[BLOCKS + 1] = {0, 1, 2, 2, 0}; /* 1: no pooling, 0: global */
    int x = 0;
    for (int block = 1; block <= BLOCKS; block++) {
        LIPS_TRY(add_block(net, block, &x));
        if (window[block] != 1)
            LIPS_TRY(lips_net_add(
                net, &(lips_node_spec){.kind = &lips_kind_avgpool, .in = {x}, .k = window[block]},
                &x));
    }
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

const lips_arch lips_arch_convnet = {.name = "convnet", .batch_norm = true, .build = build};
