/*
 * nn/graph.h - inside of a network: values, nodes, and the table of functions of a layer kind.
 *
 * A network computes value 0, its input, and one value per node. A node names the values it reads;
 * a value may be read by several nodes. The file that executes (exec.c, pass.c) knows kinds only
 * through lips_kind, so a new layer kind is one new file and its row in the list below.
 *
 * ReLU is an attribute of the node whose output it is applied to. The cotangent of such a value is
 * stored already masked: it is the cotangent of the pre-activation. Whoever writes it (the vjp of a
 * node that reads the value) therefore gets the value itself as `mask`; tangents are masked by the
 * node's own jvp.
 */
#ifndef LIPS_NN_GRAPH_H
#define LIPS_NN_GRAPH_H

#include "nn/net.h"

enum { LIPS_NODE_IN = 2, LIPS_NODE_PARAMS = 2, LIPS_NODE_BUFFERS = 3 };

typedef struct lips_value {
    int64_t c, h, w;
    bool relu;   /* output of a ReLU */
    bool needed; /* some parameter influences it: its cotangent is part of every parameter gradient
                  */
    int last;    /* the last node that reads it, -1 if none */
} lips_value;

typedef struct lips_kind lips_kind;

/* Where a layer stands in a residual block: only initialisation (init.c) wants to know. */
typedef enum lips_branch { LIPS_BRANCH_NONE, LIPS_BRANCH_INNER, LIPS_BRANCH_LAST } lips_branch;

/* Whose keys a convolution's parameters bear. On tokens, (C,1,N), a 1x1 convolution is a linear
 * layer; its weight is then (O,C), and `in_proj` is that of torch's MultiheadAttention. */
typedef enum lips_conv_keys { LIPS_KEYS_CONV, LIPS_KEYS_LINEAR, LIPS_KEYS_IN_PROJ } lips_conv_keys;

typedef struct lips_node {
    const lips_kind *kind;
    int in[LIPS_NODE_IN], n_in; /* values */
    int out;
    bool relu;
    lips_conv_geom geom; /* convolution */
    int64_t k;           /* pooling: window, 0: global; attention: heads; pick: place */
    lips_branch branch;
    int params[LIPS_NODE_PARAMS];   /* parameter segments, -1: none; weight, bias */
    int buffers[LIPS_NODE_BUFFERS]; /* buffer segments */
    int layer;                      /* 1..L, or 0 */
    double flops;                   /* 2 x multiply-adds of one sample, forward */
} lips_node;

/* A node to be added. Zero fields mean "none". */
typedef struct lips_node_spec {
    const lips_kind *kind;
    const char *name; /* prefix of its segments' names */
    int in[LIPS_NODE_IN];
    int64_t units; /* linear, convolution: outputs or output channels */
    lips_conv_geom geom;
    lips_conv_keys keys; /* convolution */
    int64_t k;
    lips_branch branch; /* layers */
    bool bias, relu;
} lips_node_spec;

/* What a kind's functions see of one node in one pass. */
typedef struct lips_call {
    lips_backend *be;
    const lips_node *node;
    lips_tensor x[LIPS_NODE_IN], y; /* the last forward's values, t = 1 */
    const void *param[LIPS_NODE_PARAMS];
    void *buffer[LIPS_NODE_BUFFERS];
    void *grad[LIPS_NODE_PARAMS]; /* set in a gradient pass only */
    void *state;                  /* state_bytes(), kept from a forward in training mode */
    void *work;                   /* workspace() */
    bool training;
} lips_call;

/* An entry of the table of operations, by its place. */
typedef struct lips_need {
    size_t slot;
    const char *op; /* NULL ends a list */
} lips_need;

#define LIPS_NEED(op)                                                                              \
    {                                                                                              \
        offsetof(lips_ops, op), #op                                                                \
    }

struct lips_kind {
    const char *name;
    int n_in;
    const lips_need *needs; /* what its functions call, besides what every network needs (exec.c);
                             * NULL: nothing */
    bool keeps_input;       /* jvp, vjp, grad or gram read the primal input */
    bool adds_params; /* output = part of the input + parameters: neither the vjp nor the gradient
                       * depends on them or on the input; forward takes x.data NULL for 0 */
    /* Checks the inputs, sets the node's output shape (*out) and flops, declares its segments. */
    lips_status (*setup)(lips_net *net, lips_node *node, const lips_node_spec *spec,
                         lips_value *out);
    /* Bytes of state for training; NULL: none. */
    size_t (*state_bytes)(const lips_net *net, const lips_node *node);
    /* Scratch for values of x.cap samples with t stacked values; NULL: none. */
    size_t (*workspace)(const lips_call *c, int64_t t);
    lips_status (*forward)(const lips_call *c);
    lips_status (*jvp)(const lips_call *c, const lips_tensor *xdot, const lips_tensor *ydot);
    /* dx of input number `which`, overwritten, times (mask > 0) if mask is not NULL. */
    lips_status (*vjp)(const lips_call *c, int which, const lips_tensor *dy, const lips_tensor *dx,
                       const lips_tensor *mask);
    lips_status (*grad)(const lips_call *c, const lips_tensor *dy); /* NULL: no parameters */
    /* Derivative of grad along the input's tangent, added to the same c->grad; zeros: as many zero
     * reals as the input has channels. NULL: grad itself of xdot in the input's place, without the
     * bias. */
    lips_status (*grad_tangent)(const lips_call *c, const lips_tensor *xdot, const lips_tensor *dy,
                                void *zeros);
    /* Derivative of vjp along the input's tangent, dy held; t = 1; dx overwritten. NULL: 0, the map
     * is piecewise linear in its input. For kinds of one input. */
    lips_status (*vjp_tangent)(const lips_call *c, const lips_tensor *xdot, const lips_tensor *dy,
                               const lips_tensor *dx);
    /* Added to theta_weight and theta_bias (each NULL: not wanted). NULL: no parameters. */
    lips_status (*gram)(const lips_call *c, const lips_tensor *dy, double *theta_weight,
                        double *theta_bias);
    /* Lipschitz constant of the node's map in evaluation mode with respect to each of its inputs
     * (2-norms; its ReLU aside), from the host's parameters and buffers. NULL: the spectral norm of
     * the node's weight if it is a layer; else the map has none. */
    double (*norm)(const lips_net *net, const lips_node *node, const double *params,
                   const double *buffers);
    const char *no_norm; /* why the map has no Lipschitz constant, for kinds that have none */
};

extern const lips_kind lips_kind_linear, lips_kind_conv, lips_kind_avgpool, lips_kind_batchnorm,
    lips_kind_add, lips_kind_layernorm, lips_kind_gelu, lips_kind_attention, lips_kind_tokens,
    lips_kind_pick;

/* The first of the needs that the backend does not offer; NULL: none. */
const lips_need *lips_need_missing(const lips_need *needs, const lips_ops *ops);

struct lips_net {
    lips_model_spec spec;
    lips_value *values;
    lips_node *nodes;
    lips_segment *segments, *buffer_segments;
    lips_layer_info *layers;
    int n_values, n_nodes, n_segments, n_buffer_segments, n_layers;
    int64_t n_params, n_buffers;
    bool spatial;    /* some node works on images */
    bool normalises; /* some node has buffers: training and evaluation mode differ */
    bool curved;     /* some node's map is not piecewise linear */
    int output;
};

/* A network with its input value alone; then nodes are added; finish names the output. On an error
 * the caller frees the net. */
lips_status lips_net_begin(lips_net **out, const lips_model_spec *spec);
lips_status lips_net_add(lips_net *net, const lips_node_spec *spec, int *value);
lips_status lips_net_finish(lips_net *net, int output);

/* For setup functions: declare a parameter or buffer segment "<name>.<suffix>" (name "": the suffix
 * alone), returning its number in *index; declare the node as parameterised linear layer (after its
 * segments). */
lips_status lips_net_segment(lips_net *net, lips_role role, const char *name, const char *suffix,
                             int ndim, const int64_t *shape, int *index);
lips_status lips_net_layer_add(lips_net *net, lips_node *node, const char *name,
                               lips_layer_info info);

/* An architecture: adds its nodes to a net that has its input. */
typedef struct lips_arch {
    const char *name;
    bool batch_norm; /* has the option */
    lips_status (*build)(lips_net *net, int *output);
} lips_arch;

extern const lips_arch lips_arch_mlp, lips_arch_convnet, lips_arch_resnet18, lips_arch_vit;

static inline int64_t lips_value_features(const lips_value *v)
{
    return v->c * v->h * v->w;
}

/* (C,H,W) read as (C*H*W,1,1). */
static inline lips_tensor lips_tensor_flat(lips_tensor t)
{
    t.c = lips_tensor_features(&t);
    t.h = t.w = 1;
    return t;
}

/* For kinds whose op has no fused ReLU: applies it to the output, in place; and for all: masks the
 * tangent of the output, in place. Nothing for nodes without ReLU. */
lips_status lips_relu_in_place(const lips_call *c);
lips_status lips_mask_tangent(const lips_call *c, const lips_tensor *ydot);
/* For kinds whose op takes no mask: that of a vjp, in place; NULL: none. */
lips_status lips_mask_cotangent(const lips_call *c, const lips_tensor *dx, const lips_tensor *mask);

#endif
