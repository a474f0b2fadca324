/*
 * nn: a certified Lipschitz constant of a network, from the constants of its nodes.
 *
 * If value u has constant b(u) as a function of the network's input, then a node that reads the
 * values u_1.. and has constant c with respect to each gives its output the constant c (b(u_1) +
 * ..); a ReLU has constant 1. For a residual block that is |shortcut| + prod |branch|.
 */
#include "nn/graph.h"

#include <math.h>
#include <stdlib.h>

lips_status lips_net_lipschitz(const lips_net *net, const double *params, const double *buffers,
                               const double *layer_norm, double *out, const char **reason)
{
    double *bound = calloc((size_t)net->n_values, sizeof *bound);
    if (!bound)
        return lips_fail(LIPS_ERR_MEMORY, "network: out of memory for a bound");
    *out = NAN;
    *reason = NULL;
    bound[0] = 1;
    for (int n = 0; n < net->n_nodes && !*reason; n++) {
        const lips_node *node = &net->nodes[n];
        double sum = 0;
        for (int i = 0; i < node->n_in; i++)
            sum += bound[node->in[i]];
        if (node->kind->norm)
            bound[node->out] = sum * node->kind->norm(net, node, params, buffers);
        else if (node->layer)
            bound[node->out] = sum * layer_norm[node->layer];
        else
            *reason = node->kind->no_norm;
    }
    if (!*reason)
        *out = bound[net->output];
    free(bound);
    return LIPS_OK;
}
