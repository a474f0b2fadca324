/*
 * nn/net.h - networks: architecture, parameter table, and execution on a backend.
 *
 * A lips_net is the architecture alone: a list of nodes (layer kind, input values, output value) in
 * forward order, and the table of parameter and buffer segments under PyTorch's names. It is
 * immutable and may be shared by threads. A lips_exec is one network on one backend handle with its
 * memory planned once: activations, cotangents, scratch. Nothing is allocated after creation.
 */
#ifndef LIPS_NN_NET_H
#define LIPS_NN_NET_H

#include "backend/backend.h"

typedef enum lips_init {
    LIPS_INIT_PYTORCH,
    LIPS_INIT_HE,
    LIPS_INIT_GLOROT,
    LIPS_INIT_FIXUP
} lips_init;

typedef struct lips_model_spec {
    const char *kind; /* "mlp", "convnet", "resnet18"; a row of the architecture table */
    int64_t width;    /* >= 1 */
    int64_t depth;    /* mlp: hidden layers, >= 0; vit: blocks, >= 1; else ignored */
    int64_t classes;  /* K >= 1 */
    int64_t c, h, w;  /* input shape */
    bool batch_norm;  /* convnet, resnet18 */
} lips_model_spec;

typedef enum lips_role {
    LIPS_ROLE_WEIGHT,
    LIPS_ROLE_BIAS,
    LIPS_ROLE_NORM_WEIGHT,
    LIPS_ROLE_NORM_BIAS,
    LIPS_ROLE_TOKEN,    /* class token */
    LIPS_ROLE_POSITION, /* learned positions */
    LIPS_ROLE_RUNNING_MEAN,
    LIPS_ROLE_RUNNING_VAR,
    LIPS_ROLE_BATCHES_TRACKED
} lips_role;

enum { LIPS_NAME_MAX = 96 };

/* One tensor of the parameter vector (or of the buffer vector: running statistics). */
typedef struct lips_segment {
    char name[LIPS_NAME_MAX]; /* PyTorch state_dict key */
    lips_role role;
    int ndim; /* 0 for num_batches_tracked */
    int64_t shape[4];
    int64_t offset, count; /* in reals, into its vector */
    int layer;             /* 1..L if it belongs to a parameterised linear layer, else 0 */
} lips_segment;

typedef struct lips_layer_info {
    char name[LIPS_NAME_MAX]; /* the weight's key without ".weight" */
    bool conv;
    lips_conv_geom geom; /* conv only */
    int64_t c, h, w;     /* input of the layer */
    int64_t o, oh, ow;   /* output */
    int weight, bias;    /* segment numbers; bias -1 if none */
} lips_layer_info;

typedef struct lips_net lips_net;

/* Errors: LIPS_ERR_USAGE for an unknown kind or a value out of range, LIPS_ERR_UNSUPPORTED for a
 * combination that the architecture has not (batch_norm on mlp), text names key, value and range.
 */
lips_status lips_net_create(lips_net **out, const lips_model_spec *spec);
void lips_net_free(lips_net *net);

const lips_model_spec *lips_net_spec(const lips_net *net);
int64_t lips_net_params(const lips_net *net); /* P */
int64_t
lips_net_buffers(const lips_net *net); /* reals in the buffer vector (0 without batch norm) */
int lips_net_segments(const lips_net *net, const lips_segment **out);
int lips_net_buffer_segments(const lips_net *net, const lips_segment **out);
int lips_net_layers(const lips_net *net);                          /* L */
const lips_layer_info *lips_net_layer(const lips_net *net, int l); /* l = 1..L */
/* Some map is not piecewise linear: the Hessian's trace is not the Gauss-Newton matrix's. */
bool lips_net_curved(const lips_net *net);
double lips_net_forward_flops(const lips_net *net); /* F: 2 x multiply-adds of one sample */

/* Initial parameters (definitions in nn/init.c), out (P) host f64 (each value is representable in
 * f32), and buffers (running mean 0, running var 1, batches tracked 0). Same values on every
 * backend. */
lips_status lips_net_init(const lips_net *net, lips_init init, uint64_t seed, double *params,
                          double *buffers);

/* *out = a Lipschitz constant of the network in evaluation mode (2-norms): the product of its
 * nodes' norms along a path, summed where paths meet. layer_norm[l], l = 1..L: upper bounds on the
 * layers' spectral norms; params, buffers: host. Where some kind of layer has no such constant,
 * *out is NaN and *reason says so; else *reason is NULL. */
lips_status lips_net_lipschitz(const lips_net *net, const double *params, const double *buffers,
                               const double *layer_norm, double *out, const char **reason);

/* The kind of layer that the net has and the backend lacks ops for; NULL: there is none. */
const char *lips_net_lacks(const lips_net *net, const lips_ops *ops);

typedef struct lips_exec lips_exec;

typedef struct lips_exec_spec {
    int64_t cap;   /* largest batch */
    int64_t t;     /* largest number of stacked tangents or cotangents; 0: forward only */
    bool training; /* will run lips_exec_forward in training mode and lips_exec_grad */
} lips_exec_spec;

/* How many samples of a batch to run through the network at a time: all of them, or fewer where the
 * backend is faster so and no sample sees another (no batch norm). Depends on nothing else, so that
 * the sums, and with them every bit, do not. */
int64_t lips_net_chunk(const lips_net *net, const lips_backend *be, int64_t batch);

/* As many samples as a pass of t stacked values may run at a time in about so many bytes, at most
 * `most`, at least 1. By the network and the size of a real alone. */
int64_t lips_net_fits(const lips_net *net, int64_t t, size_t real_bytes, size_t bytes,
                      int64_t most);

/* Plans and allocates. be stays the caller's and must outlive the exec. LIPS_ERR_UNSUPPORTED if the
 * backend does not offer an operation that the network needs. */
lips_status lips_exec_create(lips_exec **out, const lips_net *net, lips_backend *be,
                             const lips_exec_spec *spec);
void lips_exec_free(lips_exec *ex);
/* The plan's bytes without allocating (for --dry-run), parameters and gradients not included. */
lips_status lips_exec_plan_bytes(const lips_net *net, lips_backend *be, const lips_exec_spec *spec,
                                 size_t *bytes);

/* What the handle itself takes beside the plan when it runs the passes of spec, at most: scratch
 * and libraries' workspaces. A handle with several execs takes the most of them, once. */
size_t lips_exec_own_bytes(const lips_net *net, lips_backend *be, const lips_exec_spec *spec);

/* Parameter and buffer vectors are the caller's device memory (be->alloc), set before use. */
void lips_exec_set_params(lips_exec *ex, const void *params, void *buffers);

/* Input tensor of the exec: upload into it with b set (1..cap), then call forward. */
lips_tensor *lips_exec_input(lips_exec *ex);

/* Forward pass of input's b samples. training: batch statistics are used and running ones updated.
 * *logits is a view (K,1,1), valid until the next forward. */
lips_status lips_exec_forward(lips_exec *ex, bool training, lips_tensor *logits);

/* The tensor of cotangents at the logits with T = t stacked values, to be filled by the caller (its
 * memory is shared with the tangents'). After a forward. */
lips_status lips_exec_seed(lips_exec *ex, int64_t t, lips_tensor *seed);

/* Called once per parameterised linear layer, last layer first, during lips_exec_vjp.
 * delta: cotangent at the layer's output a_l (stacked, ReLU behind it already applied); x: the
 * layer's input x_{l-1} (t = 1); dx: theta_l^T delta_l before any mask, stacked, NULL unless
 * want_dx was set. */
typedef struct lips_layer_event {
    int layer;
    const lips_layer_info *info;
    lips_tensor delta, x;
    const lips_tensor *dx;
} lips_layer_event;

typedef lips_status (*lips_layer_visit)(void *user, const lips_layer_event *event);

typedef struct lips_vjp_args {
    int64_t t;              /* stacked cotangents in the seed */
    bool want_input;        /* carry the pass to the input x (costs the first layer's vjp) */
    lips_tensor *dx;        /* out, if want_input: view of the cotangent at the input */
    lips_layer_visit visit; /* or NULL */
    bool want_dx;           /* give dx to the visitor */
    void *user;
    double *theta_norm; /* or NULL: (B,t,t) f64, host-visible after sync, added to: Gram of the
                         * Jacobian with respect to every batch norm's gamma and beta (evaluation
                         * mode), through bn_gram */
    bool training; /* batch norm differentiates its batch statistics: as the last forward ran */
} lips_vjp_args;

/* Stacked VJP of the last forward from the seed. The seed's contents are consumed. */
lips_status lips_exec_vjp(lips_exec *ex, const lips_vjp_args *a);

/* Stacked JVP of the last forward (evaluation or training mode as it ran): tangents are put into
 * the tensor returned by lips_exec_tangent after it, *ydot is the view (K,1,1) of the result. */
lips_status lips_exec_tangent(lips_exec *ex, int64_t t, lips_tensor *xdot);
lips_status lips_exec_jvp(lips_exec *ex, int64_t t, lips_tensor *ydot);

/* Parameter gradient of the last forward, in its mode: sum over the batch of the vjp of the seed
 * (t = 1), grads (P reals, device) overwritten. */
lips_status lips_exec_grad(lips_exec *ex, void *grads);
/* The same, added to: for a batch that is run in parts (lips_net_chunk). */
lips_status lips_exec_grad_add(lips_exec *ex, void *grads);

/* The same chain for a caller with f64 theta (B,T,T), per layer weight and bias apart: see
 * lips_layer_gram, which applies the layer's gram function to one event (added to). */
lips_status lips_layer_gram(lips_exec *ex, const lips_layer_event *event, double *theta_weight,
                            double *theta_bias);

#endif
