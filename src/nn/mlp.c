/*
 * nn: fully connected network, depth hidden layers of width units with ReLU; the names are those of
 * nn.Sequential(Linear, ReLU, Linear, ...).
 */
#include "nn/graph.h"

#include <inttypes.h>
#include <stdio.h>

static lips_status build(lips_net *net, int *output)
{
    const lips_model_spec *spec = &net->spec;
    int x = 0;
    for (int64_t i = 0; i <= spec->depth; i++) {
        bool last = i == spec->depth;
        char name[24];
        snprintf(name, sizeof name, "%" PRId64, 2 * i);
        LIPS_TRY(lips_net_add(net,
                              &(lips_node_spec){.kind = &lips_kind_linear,
                                                .name = name,
                                                .in = {x},
                                                .units = last ? spec->classes : spec->width,
                                                .bias = true,
                                                .relu = !last},
                              &x));
    }
    *output = x;
    return LIPS_OK;
}

const lips_arch lips_arch_mlp = {.name = "mlp", .build = build};
