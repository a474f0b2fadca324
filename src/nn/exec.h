/*
 * nn/exec.h - inside of a lips_exec, shared by the planning (exec.c) and the passes (pass.c).
 *
 * One block of memory:  [values and batch statistics][scratch of the ops][cotangents or tangents]
 * A backward pass and a tangent pass do not run at the same time, so they share the last part.
 */
#ifndef LIPS_NN_EXEC_H
#define LIPS_NN_EXEC_H

#include "nn/graph.h"

/* Where everything lies, relative to the block's start. */
typedef struct lips_layout {
    size_t *value, *cotangent, *tangent; /* (n_values) */
    size_t *state;                       /* (n_nodes) */
    size_t addend; /* cotangent of one more reader of a value, before it is added */
    size_t work;
    size_t bytes;
    int64_t lanes, t;
} lips_layout;

struct lips_exec {
    const lips_net *net;
    lips_backend *be;
    lips_exec_spec spec;
    lips_layout at;
    char *block;
    lips_tensor input;
    const void *params;
    void *buffers;
    bool ran, training; /* the last forward */
    int64_t b;          /* its samples */
};

/* Tensor of value v: itself (t = 1), or its stacked cotangents or tangents. */
lips_tensor lips_exec_value(const lips_exec *ex, int v);
lips_tensor lips_exec_cotangent(const lips_exec *ex, int v, int64_t t);
lips_tensor lips_exec_tangent_at(const lips_exec *ex, int v, int64_t t);

/* What node n's functions see; grads NULL: no gradient pass. */
lips_call lips_exec_call(const lips_exec *ex, int n, void *grads);

#endif
