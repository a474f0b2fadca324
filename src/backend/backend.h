/*
 * backend/backend.h - the table of operations that a backend offers on its own tensors.
 *
 * Shape letters, used with this meaning in every file:
 *   N samples of a data set      B samples of one batch        K classes (outputs of the network)
 *   T tangents or cotangents stacked per sample                P number of parameters
 *   C input channels, H height, W width of an image;  O output channels, R x R kernel
 *   L number of parameterised linear layers (linear, convolution), l = 1..L
 *
 * Rules of the table
 *   - `nn`, `train` and `measure` are written once against it. A NULL entry means "not offered".
 *   - Ops allocate nothing and own nothing; scratch is a caller's buffer sized by workspace().
 *   - An output is "overwritten" unless its comment says "added to".
 *   - Every wrapper checks its shapes and fails with LIPS_ERR_USAGE, giving value and range.
 *   - Ops are deterministic: same inputs, same bits, on any number of threads.
 *   - Backend memory (alloc) is touched by ops alone: the host's ways in and out are write, read,
 *     upload, download, zero, copy. Outputs for the host ("shared" below) lie in memory of
 *     alloc_shared, which belongs to the host and to the ops in turn: an op that writes it takes it
 *     (with what the host put there, or zero()), the next sync() gives it back. Grams (theta, g)
 *     that only norms reads may lie in memory of alloc instead, and then stay with the backend.
 *   - Host arrays that an op only reads (rows, labels, targets) are any memory, and free to be
 *     changed when the op returns.
 *   - A step of training can be recorded (record_begin) where all that its ops read lies in the
 *     backend's memory: rows, labels and targets in lips_rows, the rest in a lips_cursor.
 *   - A `real` is the backend's storage type: double in ref, float in cpu and cuda.
 */
#ifndef LIPS_BACKEND_BACKEND_H
#define LIPS_BACKEND_BACKEND_H

#include "backend/cursor.h"
#include "backend/precision.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct lips_backend lips_backend;
typedef struct lips_recorded lips_recorded;

/*
 * A batch of B samples of shape (C,H,W), T stacked values each, in the backend's memory and in the
 * backend's own layout (ref and cpu: element (s,c,y,x,t,l) at ((((s*C+c)*H+y)*W+x)*T+t)*lanes+l for
 * sample s*lanes+l; ref has lanes = 1). Flattening (C,H,W) to (C*H*W,1,1) is a change of the
 * descriptor only, in PyTorch's order. A view: owns nothing.
 *
 * Places of samples beyond b are never read into a result; ops keep them finite if inputs are.
 */
typedef struct lips_tensor {
    void *data;
    int64_t cap; /* samples that the memory is laid out for */
    int64_t b;   /* samples in use, 1 <= b <= cap */
    int64_t c, h, w;
    int64_t t;     /* stacked values per sample, >= 1; 1 for activations */
    int64_t lanes; /* samples side by side in the innermost dimension (layout, from plan_lanes) */
} lips_tensor;

/* Geometry of a convolution: R x R kernel, square stride and zero padding, no dilation, no groups.
 * Output size floor((H + 2 pad - R) / stride) + 1. */
typedef struct lips_conv_geom {
    int64_t r, stride, pad;
} lips_conv_geom;

/* Output size along one dimension of n inputs. */
static inline int64_t lips_conv_out(int64_t n, const lips_conv_geom *g)
{
    return (n + 2 * g->pad - g->r) / g->stride + 1;
}

/* Weights are in PyTorch's order: linear (O,C) row-major, convolution (O,C,R,R), in the parameter
 * buffer. */

typedef struct lips_linear_args {
    lips_tensor y;    /* forward: overwritten. vjp: the cotangent dy. grad, gram: dy */
    lips_tensor x;    /* forward: input. vjp: dx, overwritten. grad, gram: the input (t = 1) */
    const void *w;    /* (O,C) real; unused by grad, gram */
    const void *bias; /* forward: (O) real or NULL (as in jvp) */
    bool relu;        /* forward: y = max(0, y) after the bias; only with t = 1 */
    const lips_tensor *mask; /* vjp: NULL, or tensor (t = 1) of x's shape: dx *= (mask > 0) */
    void *dw;                /* grad: (O,C) real, added to. NULL: not wanted */
    void *db;                /* grad: (O) real, added to. NULL: not wanted */
    double *theta;           /* gram: (B,T,T) f64, shared, added to: weight part,
                              * <dy_t,dy_t'> <x,x> */
} lips_linear_args;

typedef struct lips_conv_args {
    lips_tensor y; /* as in lips_linear_args */
    lips_tensor x;
    lips_conv_geom geom;
    const void *w; /* (O,C,R,R) real */
    const void *bias;
    bool relu;
    const lips_tensor *mask;
    void *dw; /* (O,C,R,R) */
    void *db;
    double *theta; /* gram: (B,T,T) f64, shared, added to:
                    * sum_{p,p'} <dy_{t,p},dy_{t',p'}><patch_p,patch_p'> */
    void *work;    /* workspace(), 64-byte aligned */
} lips_conv_args;

typedef struct lips_pool_args {
    lips_tensor y; /* pooled */
    lips_tensor x; /* at full resolution */
    int64_t k;     /* k x k, stride k; H and W must be divisible by it. 0: global (1/(HW) sum) */
    const lips_tensor *mask; /* vjp only: as in lips_linear_args */
} lips_pool_args;

typedef struct lips_relu_args {
    lips_tensor y; /* overwritten; may be x (in place). forward: max(0,x). mask: x * (mask > 0) */
    lips_tensor x;
    const lips_tensor *mask; /* mask form only; t = 1, shared by the T stacked values */
} lips_relu_args;

/* Batch normalisation over (B,H,W) per channel (Ioffe & Szegedy 2015; PyTorch's BatchNorm2d):
 * xhat = (x - mean) / sqrt(var + eps), y = gamma xhat + beta; biased variance in training. */
typedef struct lips_bn_args {
    lips_tensor y;         /* forward, jvp: overwritten. vjp, grad, gram: the cotangent */
    lips_tensor x;         /* forward, grad, gram: the input. jvp: tangent in. vjp: overwritten */
    const lips_tensor *in; /* jvp, vjp in training mode: the primal input (t = 1); else NULL */
    const void *gamma, *beta; /* (C) real */
    void *mean, *var; /* (C) real: running statistics; updated by forward in training mode with
                       * the unbiased variance, read in evaluation mode */
    void *tracked;    /* (1) real: num_batches_tracked, += 1 by forward in training mode; or NULL */
    double *batch_mean, *batch_var; /* (C) f64, backend or shared, training mode: written by
                                     * forward, read by the others */
    bool training;
    double eps, momentum; /* PyTorch: 1e-5, 0.1 (running = (1-m) running + m batch) */
    void *dgamma, *dbeta; /* grad: (C) real, added to */
    double *theta;        /* gram, evaluation mode: (B,T,T) f64, shared, added to: gamma and
                           * beta part */
} lips_bn_args;

/* Bias alone: y += bias (forward); db += sum over samples and positions (grad); theta +=
 * <sum_p dy_t, sum_p dy_t'> (gram). Its jvp and vjp with respect to the input are the identity. */
typedef struct lips_bias_args {
    lips_tensor y;
    const void *bias; /* forward: (C) real */
    void *db;         /* grad: (C) real, added to */
    double *theta;    /* gram: (B,T,T) f64, shared, added to */
} lips_bias_args;

/* Layer normalisation over the C channels of each place (Ba, Kiros, Hinton 2016; PyTorch's
 * LayerNorm on tokens): xhat = (x - mean) r with r = 1/sqrt(var + eps), biased variance; y = gamma
 * xhat + beta. mean and r belong to a sample's place and are shared by its stacked values. With
 * P(u) = u - mean(u) - xhat mean(xhat u):  jvp  ydot = gamma r P(xdot),  vjp  dx = r P(gamma dy).
 */
typedef struct lips_ln_args {
    lips_tensor y; /* forward, jvp: overwritten. Others: the cotangent dy */
    lips_tensor x; /* forward, grad, gram: the input. jvp: tangent in. vjp, vjp_dot: overwritten */
    const lips_tensor *in;    /* jvp, vjp, vjp_dot, grad_dot: the primal input (t = 1) */
    const lips_tensor *dot;   /* vjp_dot, grad_dot: tangent of in (t = 1) */
    const void *gamma, *beta; /* (C) real */
    double eps;
    void *dgamma, *dbeta; /* grad, grad_dot: (C) real, added to. NULL: not wanted */
    double *theta;        /* gram: (B,T,T) f64, shared, added to: gamma and beta part */
} lips_ln_args;

/* GELU with the error function (Hendrycks & Gimpel 2016; PyTorch's default): y = x Phi(x). */
typedef struct lips_gelu_args {
    lips_tensor y;          /* overwritten; may be x. forward: gelu(x). slope: x gelu'(in) */
    lips_tensor x;          /* vjp_dot (t = 1): y = x gelu''(in) dot */
    const lips_tensor *in;  /* slope, vjp_dot: t = 1, shared by the T stacked values */
    const lips_tensor *dot; /* vjp_dot: tangent of in (t = 1) */
} lips_gelu_args;

/* Dot-product attention among the N = H*W tokens of a sample (Vaswani et al. 2017). x (3C,H,W)
 * holds q, k, v one after another, each C channels = heads x d; per head P = softmax(q'k / sqrt(d))
 * over keys and y = sum_j P[i][j] v[j]. P is computed once per sample, for all stacked values. */
typedef struct lips_attn_args {
    lips_tensor y;          /* (C,H,W) forward, jvp: overwritten. Others: the cotangent dy */
    lips_tensor x;          /* (3C,H,W) forward: input. jvp: tangent in. Others: overwritten */
    const lips_tensor *in;  /* jvp, vjp, vjp_dot: the primal input (t = 1) */
    const lips_tensor *dot; /* vjp_dot: tangent of in (t = 1) */
    int64_t heads;          /* divides C */
    void *work;             /* workspace(), 64-byte aligned */
} lips_attn_args;

/* A class token put before the H*W places of x, and a position added to each (Dosovitskiy et al.
 * 2021): y[:,0] = token + pos[0], y[:,1+p] = x[:,p] + pos[1+p]. */
typedef struct lips_tokens_args {
    lips_tensor y;           /* (C,1,1+HW) forward: overwritten. Others: the cotangent dy */
    const lips_tensor *x;    /* (C,H,W) forward: input, NULL counts as 0. vjp: dx, overwritten */
    const void *token;       /* forward: (C) real, NULL counts as 0 (as in jvp) */
    const void *pos;         /* forward: (1+HW,C) real, NULL counts as 0 */
    const lips_tensor *mask; /* vjp: as in lips_linear_args */
    void *dtoken, *dpos;     /* grad: added to. NULL: not wanted */
    double *theta;           /* gram: (B,T,T) f64, shared, added to: both parameters' part */
} lips_tokens_args;

/* One place out of H*W: y[c] = x[c, at]. Forward of stacked tensors is the jvp; the vjp puts dy
 * there and 0 elsewhere. */
typedef struct lips_pick_args {
    lips_tensor y;           /* (C,1,1) */
    lips_tensor x;           /* (C,H,W) forward: input. vjp: dx, overwritten */
    int64_t at;              /* place in 0..H*W-1 */
    const lips_tensor *mask; /* vjp: as in lips_linear_args */
} lips_pick_args;

/* N rows of (C,H,W) of a data set in the backend's memory, so that batches are gathered there; with
 * them their labels or targets, if there are any. A view: the memory is the caller's. */
typedef struct lips_rows {
    void *memory; /* alloc(), lips_rows_bytes() of it (backend/rows.h) */
    int64_t n, c, h, w;
    bool packed;     /* kept as bytes: every value is in the table (lips_rows_fit) */
    int64_t classes; /* labels are in 0..classes-1; 0: no labels */
    int64_t targets; /* values of a row's target; 0: no targets */
} lips_rows;

typedef struct lips_rows_source {
    const float *x;        /* (N,C,H,W) host */
    const float *table;    /* (C,256) host: the values of channel c, rising; [c][0] is black */
    const int64_t *source; /* (N) host: number of each sample in its file */
    const int64_t *labels; /* (N) host, where rows have classes */
    const float *targets;  /* (N,targets) host, where rows have them */
} lips_rows_source;

typedef enum lips_loss_kind { LIPS_LOSS_CROSS_ENTROPY, LIPS_LOSS_MSE } lips_loss_kind;

/* Per-sample loss of logits z (K,1,1): cross-entropy log sum exp z - z_y, or 1/2 |z - y|^2. */
typedef struct lips_loss_args {
    lips_loss_kind kind;
    lips_tensor z; /* logits, t = 1 */
    const int64_t
        *labels; /* (B) class numbers, host; cross-entropy, or mse against one-hot; or NULL */
    const float *targets;  /* (B,K) host: mse against given targets; or NULL */
    const lips_rows *rows; /* instead of both: what lies with the rows that order and cursor say, as
                            * in lips_gather_args; mse: targets, if there are any */
    const int64_t *order;
    const lips_cursor *cursor;
    int64_t first;
    double *loss;  /* (B) f64, backend or shared, overwritten; NULL: not wanted */
    int64_t *pred; /* (B) shared, argmax z (lowest index wins), overwritten; NULL: not
                           * wanted */
    const lips_tensor
        *dz;      /* d(scale * sum of losses)/dz, overwritten, 0 beyond b; NULL: not wanted */
    double scale; /* usually 1/B */
} lips_loss_args;

/* y = scale (d2 loss/dz2) v per sample: of cross-entropy diag(p) - p p' with p = softmax(z), of mse
 * the identity. It needs no labels. */
typedef struct lips_loss_curve_args {
    lips_loss_kind kind;
    lips_tensor z, v, y; /* (K,1,1), t = 1: logits; tangent; overwritten, 0 beyond b, may be v */
    double scale;
} lips_loss_curve_args;

/* In place on n reals. SGD as in PyTorch: g += wd p; m = mu m + g (first step: m = g); p -= lr m.
 */
typedef struct lips_sgd_args {
    void *p;       /* parameters */
    const void *g; /* gradient */
    void *m;       /* momentum buffer, zero before the first step */
    int64_t n;
    double lr, momentum, weight_decay;
    const lips_cursor *cursor; /* NULL, or backend memory: rate stands for lr, nothing is done once
                                * it has stopped */
} lips_sgd_args;

/* Adam as in PyTorch (Kingma & Ba 2015; L2 weight decay added to g): step counts from 1. */
typedef struct lips_adam_args {
    void *p;
    const void *g;
    void *m, *v;
    int64_t n, step;
    double lr, beta1, beta2, eps, weight_decay;
    const lips_cursor *cursor; /* the same; updates stands for step */
} lips_adam_args;

/*
 * Between a step's gradient and its update: judges the batch and moves the cursor past it.
 *   loss = mean of the batch's losses (f64, fixed order)
 *   stop = LOSS if it is not finite; GRADIENT if it is above loss_watch and not |g| < grad_max
 *   stopped, now or before: buffers = kept; else kept = buffers, row += b, updates += 1, and
 *   adam_rate and adam_root of that number of updates
 */
typedef struct lips_advance_args {
    lips_cursor *cursor; /* backend memory */
    const double *loss;  /* (B) f64, backend memory, what the loss op wrote */
    int64_t b;
    const void *g; /* (n) real: the gradient */
    int64_t n;
    void *buffers, *kept; /* (n_buffers) real: the step's, and those before it; NULL if none */
    int64_t n_buffers;
    double loss_watch, grad_max, beta1, beta2;
} lips_advance_args;

typedef struct lips_gram_args {
    lips_tensor x; /* stacked, T values per sample */
    double *g;     /* (B,T,T) f64, shared, added to: g[b][t][t'] = sum_i x[b,i,t] x[b,i,t'],
                    * symmetric */
} lips_gram_args;

/* Row index[i]; or order[cursor->row + first + i]; or, with neither, first + i; 0 for places beyond
 * b. augment: the crop and flip of lips_augment (data/data.h), bit for bit. */
typedef struct lips_gather_args {
    const lips_rows *rows;
    lips_tensor y;             /* (C,H,W), t = 1, overwritten */
    const int64_t *index;      /* (B) host, or NULL */
    const int64_t *order;      /* backend memory: row numbers; or NULL */
    const lips_cursor *cursor; /* backend memory, with order; its epoch stands for epoch */
    int64_t first;
    bool augment;
    uint64_t seed;
    int64_t epoch;
} lips_gather_args;

/* Fetches that may be under way at once: their slots are 0.. */
enum { LIPS_FETCHES = 2 };

/* Largest K of norms: a matrix in a multiprocessor's shared memory. */
enum { LIPS_NORMS_MAX = 104 };

/* What is made of a Gram matrix g = J J' of the logits before its norms are taken; p is
 * softmax(z). */
typedef enum lips_output_map {
    LIPS_MAP_PLAIN,       /* g */
    LIPS_MAP_SOFTMAX,     /* S g S, S = diag(p) - p p' */
    LIPS_MAP_LOG_SOFTMAX, /* A g A', A = I - 1 p' */
    LIPS_MAP_VECTOR,      /* p' g p for any vectors p: the matrix is 1 x 1 */
    LIPS_MAP_TRACE        /* tr(S g): the matrix is 1 x 1 */
} lips_output_map;

/* Of each of N symmetric K x K matrices: op = sqrt(largest eigenvalue), fro = sqrt(trace), roots of
 * negative numbers being 0. To full relative precision also where p is near a unit vector. A
 * non-finite entry gives NaN for that matrix alone. */
typedef struct lips_norms_args {
    lips_output_map map;
    const double *g;  /* (N,K,K) f64, backend or shared, symmetric */
    const double *p;  /* (rows,K) host or shared: matrix i takes row i % rows; NULL for PLAIN */
    int64_t rows;     /* of p; 0: N */
    double *op, *fro; /* (N) f64, shared, overwritten; may be the same for a 1 x 1 matrix */
    int64_t n, k;     /* 1 <= K <= LIPS_NORMS_MAX */
} lips_norms_args;

/* Most vectors that dots and combine take at a time. */
enum { LIPS_VECTORS_MAX = 128 };

/* Products with one vector. Every backend adds in the same order, to the same bits: pieces of
 * LIPS_VECTOR_PIECE places one after another; in a piece 16 chains, place j in chain j % 16, as far
 * as whole sixteens go; chain m + 8 is added to chain m, these 8 in their order, then the places
 * that are left. */
typedef struct lips_dots_args {
    double *out;      /* (count) f64, shared, overwritten: out[i] = sum_j q[i][j] w[j] */
    const double *q;  /* (count,n) f64, backend */
    const double *w;  /* (n) f64, backend; may be of q */
    int64_t count, n; /* 1 <= count <= LIPS_VECTORS_MAX */
} lips_dots_args;

enum { LIPS_VECTOR_PIECE = 1024 };

/* y = keep y + (factor c[0]) q[0] + (factor c[1]) q[1] ..., in this order; keep 0: y is
 * overwritten. */
typedef struct lips_combine_args {
    double *y; /* (n) f64, backend, none of q */
    double keep, factor;
    const double *q;  /* (count,n) f64, backend */
    const double *c;  /* (count) f64, host or shared */
    int64_t count, n; /* 0 <= count <= LIPS_VECTORS_MAX */
} lips_combine_args;

/* Whose kernels compute products, where a backend has a choice: by measurement of each shape on the
 * device, its own, or the vendor's library where that offers the shape. */
typedef enum lips_library { LIPS_LIBRARY_AUTO, LIPS_LIBRARY_OWN, LIPS_LIBRARY_NVIDIA } lips_library;

/* What a handle is asked for; all zero: f32 and measured choices. */
typedef struct lips_arithmetic {
    lips_precision forward, backward;
    lips_library conv, linear;
} lips_arithmetic;

typedef lips_status (*lips_linear_fn)(lips_backend *, const lips_linear_args *);
typedef lips_status (*lips_conv_fn)(lips_backend *, const lips_conv_args *);
typedef lips_status (*lips_pool_fn)(lips_backend *, const lips_pool_args *);
typedef lips_status (*lips_relu_fn)(lips_backend *, const lips_relu_args *);
typedef lips_status (*lips_bn_fn)(lips_backend *, const lips_bn_args *);
typedef lips_status (*lips_bias_fn)(lips_backend *, const lips_bias_args *);
typedef lips_status (*lips_ln_fn)(lips_backend *, const lips_ln_args *);
typedef lips_status (*lips_gelu_fn)(lips_backend *, const lips_gelu_args *);
typedef lips_status (*lips_attn_fn)(lips_backend *, const lips_attn_args *);
typedef lips_status (*lips_tokens_fn)(lips_backend *, const lips_tokens_args *);
typedef lips_status (*lips_pick_fn)(lips_backend *, const lips_pick_args *);

/* What a backend runs on. */
typedef struct lips_device {
    int count;                /* devices of this backend on this machine */
    char name[128];           /* of the one asked for */
    char detail[256];         /* what a reader of a result may want to know, "" if nothing */
    size_t bytes, bytes_free; /* its own memory; 0: the host's */
    int64_t threads;          /* that it holds at once; 0: unknown */
    int capability;           /* a GPU's: 90 for 9.0; else 0 */
    bool emulated;            /* a stand-in for tests: its results are right, its speed is not */
} lips_device;

/* A layer for own_bytes: its input and output for as many samples as are run at once, y with as
 * many stacked values as there will be. */
typedef struct lips_own_args {
    lips_tensor x, y;
    const lips_conv_geom *geom; /* of a convolution, else NULL */
    bool layer, norms;          /* linear or convolution; layer normalisation */
    int64_t vectors,
        places; /* instead of all that, for dots of so many vectors of so many places */
} lips_own_args;

/* One measured choice, as texts: device, libraries and sizes; what was chosen; the times. */
typedef void lips_choice_fn(void *user, const char *product, const char *way, const char *times);

typedef struct lips_ops {
    const char *name;  /* "ref", "cpu", "cuda": stamped into records */
    size_t real_bytes; /* 8 or 4 */
    /* Samples of a network on images that are best run at a time, because a pass then stays in
     * cache; 0: the whole batch. */
    int64_t image_chunk;
    /* Device memory that a pass of measuring may take, about: as many samples are run at a time as
     * fit, so that narrow networks keep the device busy. 0: as many as suit a processor's
     * caches. */
    size_t pass_bytes;

    /* Is there such a device, and can this backend use it? LIPS_ERR_UNSUPPORTED with one line
     * where not: none at all, too old, its driver too old; LIPS_ERR_USAGE: no such index. */
    lips_status (*probe)(lips_device *out, int device);
    /* Hands over what measurement has chosen so far on this machine. NULL: nothing to choose. */
    void (*each_choice)(lips_choice_fn *f, void *user);
    /* Measured choices are kept in that file too, and taken from it before they are measured or
     * looked up elsewhere: who names the same file gets the same bits. After open, before the first
     * op; a file that cannot be written is a warning. NULL: nothing to choose. */
    lips_status (*keep_choices)(lips_backend *, const char *path);
    /* Bytes that the handle takes for itself when it runs such a layer's ops, forward and backward:
     * scratch and libraries' workspaces. One handle takes the most of its layers. NULL: nothing. */
    size_t (*own_bytes)(lips_backend *, const lips_own_args *);
    lips_status (*open)(lips_backend **out, int device); /* device: index of a GPU, else ignored */
    void (*close)(lips_backend *);

    /* Of the products of linear and conv entries from the next on: forward (also as jvp), and vjp,
     * grad, gram (backward). NULL: only the backend's own storage type. After open: f32, f32. */
    lips_status (*set_precision)(lips_backend *, lips_precision forward, lips_precision backward);
    /* Of conv and of linear entries. NULL: nothing to choose. After open: AUTO, AUTO. */
    lips_status (*set_libraries)(lips_backend *, lips_library conv, lips_library linear);

    /* Memory: 64-byte aligned, zeroed; LIPS_ERR_MEMORY names the bytes asked. */
    lips_status (*alloc)(lips_backend *, void **out, size_t bytes);
    lips_status (*alloc_shared)(lips_backend *, void **out, size_t bytes); /* for shared outputs */
    void (*release)(lips_backend *, void *);
    /* All earlier ops are done, shared memory is the host's. */
    lips_status (*sync)(lips_backend *);

    /* Vectors of reals in the parameter order; host side in double. off and n count reals. What
     * read, diff_sumsq and download give is there when they return. */
    lips_status (*write)(lips_backend *, void *dst, int64_t off, const double *src, int64_t n);
    lips_status (*read)(lips_backend *, double *dst, const void *src, int64_t off, int64_t n);
    lips_status (*zero)(lips_backend *, void *dst, size_t bytes);
    lips_status (*copy)(lips_backend *, void *dst, const void *src, size_t bytes);
    /* Any bytes: put from the host to backend memory; fetch from backend memory to shared memory
     * that no op writes, without waiting: they are there when await(slot) has returned. */
    lips_status (*put)(lips_backend *, void *dst, const void *src, size_t bytes);
    lips_status (*fetch)(lips_backend *, void *dst, const void *src, size_t bytes, int slot);
    lips_status (*await)(lips_backend *, int slot);
    /* *out = sum_i (a_i - b_i)^2 in f64, fixed order; b NULL counts as 0. */
    lips_status (*diff_sumsq)(lips_backend *, double *out, const void *a, const void *b, int64_t n);

    /* Long vectors of doubles in the backend's memory, for iterations whose directions f32 cannot
     * hold. narrow: n reals, rounded from doubles. widen: dst += factor src in f64. signs: 1 or -1,
     * vector number draw >= 0 of the stream LIPS_STREAM_SIGNS (base/random.h): place i is bit i %
     * 128 of the words at draw ceil(n / 128) + i / 128, set for 1. */
    lips_status (*dots)(lips_backend *, const lips_dots_args *);
    lips_status (*combine)(lips_backend *, const lips_combine_args *);
    lips_status (*narrow)(lips_backend *, void *dst, const double *src, int64_t n);
    lips_status (*widen)(lips_backend *, double *dst, double factor, const void *src, int64_t n);
    lips_status (*signs)(lips_backend *, double *dst, int64_t draw, int64_t n);

    /* Tensors. plan_lanes: the layout parameter for all tensors of one plan; spatial says whether
     * any tensor has H*W > 1. tensor_bytes: memory for t->cap, c, h, w, t, lanes. */
    int64_t (*plan_lanes)(lips_backend *, int64_t cap, bool spatial);
    size_t (*tensor_bytes)(lips_backend *, const lips_tensor *t);
    /* dst (b samples, t = 1) = rows of src: sample i is src[(idx ? idx[i] : i) * C*H*W ...] in
     * (C,H,W) order, host f32. Places beyond b become 0. */
    lips_status (*upload)(lips_backend *, const lips_tensor *dst, const float *src,
                          const int64_t *idx);
    /* The same in f64 with stacked values, src (B,T,C,H,W) host; ref keeps all digits. */
    lips_status (*upload_f64)(lips_backend *, const lips_tensor *dst, const double *src);
    lips_status (*download)(lips_backend *, double *dst /* (B,T,C,H,W) host */,
                            const lips_tensor *src);
    lips_status (*fill)(lips_backend *, const lips_tensor *dst, double value);
    /* dst = one-hot stack: dst[b,k,t] = (k == t) * scale; needs t == c, h = w = 1. Seeds the K
     * vjps. */
    lips_status (*eye)(lips_backend *, const lips_tensor *dst, double scale);
    /* y = a + b elementwise (same shape; y may be a or b). */
    lips_status (*add)(lips_backend *, const lips_tensor *y, const lips_tensor *a,
                       const lips_tensor *b);

    lips_linear_fn linear_forward, linear_vjp, linear_grad, linear_gram;
    /* Scratch bytes that conv_* need for these args (data pointers may be NULL). */
    size_t (*conv_workspace)(lips_backend *, const lips_conv_args *);
    lips_conv_fn conv_forward, conv_vjp, conv_grad, conv_gram;
    lips_bias_fn bias_forward, bias_grad, bias_gram;
    lips_relu_fn relu_forward, relu_mask;      /* relu_mask is both the jvp and the vjp */
    lips_pool_fn avgpool_forward, avgpool_vjp; /* forward of stacked tensors is the jvp */
    lips_bn_fn bn_forward, bn_jvp, bn_vjp, bn_grad, bn_gram;
    /* ..._dot: derivative of the vjp or of the grad (its part of gamma) along a tangent of the
     * input, dy held: what Hessian products of maps that are not linear need; t = 1. */
    lips_ln_fn ln_forward, ln_jvp, ln_vjp, ln_grad, ln_gram, ln_vjp_dot, ln_grad_dot;
    lips_gelu_fn gelu_forward, gelu_slope,
        gelu_vjp_dot; /* gelu_slope is both the jvp and the vjp */
    size_t (*attn_workspace)(lips_backend *, const lips_attn_args *); /* enough for each attn_* */
    lips_attn_fn attn_forward, attn_jvp, attn_vjp, attn_vjp_dot;
    lips_tokens_fn tokens_forward, tokens_vjp, tokens_grad, tokens_gram;
    lips_pick_fn pick_forward, pick_vjp;

    lips_status (*loss)(lips_backend *, const lips_loss_args *);
    lips_status (*sgd)(lips_backend *, const lips_sgd_args *);
    lips_status (*adam)(lips_backend *, const lips_adam_args *);
    lips_status (*advance)(lips_backend *, const lips_advance_args *);
    lips_status (*gram)(lips_backend *, const lips_gram_args *);
    /* Not offered: the host's own (measure/eigen.h). */
    lips_status (*norms)(lips_backend *, const lips_norms_args *);
    /* Not offered: the host's own, between a download and an upload. */
    lips_status (*loss_curve)(lips_backend *, const lips_loss_curve_args *);
    /* Not offered: upload, of rows that the host has augmented. */
    lips_status (*rows_load)(lips_backend *, const lips_rows *, const lips_rows_source *);
    lips_status (*gather)(lips_backend *, const lips_gather_args *);

    /* Not offered: run the ops each time. Ops between record_begin and record_end are not run but
     * kept, to be run by each replay in one go, on the memory that they name, which stays the
     * caller's to keep. Each must have run before with the same sizes (what that prepares cannot be
     * prepared in a recording), and may neither take host arrays, nor write shared memory, nor
     * wait: LIPS_ERR_USAGE. After an error of one of them, and after one of its own, record_end
     * has dropped what there was: ops run again. out NULL: drop it anyway. */
    lips_status (*record_begin)(lips_backend *);
    lips_status (*record_end)(lips_backend *, lips_recorded **out);
    lips_status (*replay)(lips_backend *, const lips_recorded *);
    void (*recorded_free)(lips_backend *, lips_recorded *);
} lips_ops;

/* A backend's handle starts with its table; one handle is used by one thread at a time. */
struct lips_backend {
    const lips_ops *ops;
};

/* The compiled-in backends, NULL-terminated. */
extern const lips_ops *const lips_backends[];

/* The table called name; NULL if there is none. */
const lips_ops *lips_backend_find(const char *name);

/* The table that a user's word for it means, with a device that is there. "auto": cuda where its
 * device can be used and is not an emulated one, else cpu, with one line on stderr saying why.
 * LIPS_ERR_USAGE for an unknown name or index, LIPS_ERR_UNSUPPORTED if it cannot be used. */
lips_status lips_backend_choose(const lips_ops **out, const char *name, int device);

/* What a result says that it was computed on: the table's name, or "emulated"; an error if the
 * device does not answer. */
lips_status lips_backend_label(const char **out, const lips_ops *ops, int device);

/* Sets a handle's arithmetic. Precisions other than f32 are LIPS_ERR_USAGE where the backend has
 * none; a choice of libraries means nothing to a backend that has one way only. */
lips_status lips_backend_arithmetic(lips_backend *be, const lips_arithmetic *a);

/* For records: "float64", "float32", "tf32", "bf16", or "float32/bf16" for forward / backward. */
const char *lips_precision_label(const lips_ops *ops, lips_precision forward,
                                 lips_precision backward);

/* Address of real number off in a vector of reals. */
static inline void *lips_real_at(const lips_backend *be, const void *base, int64_t off)
{
    return (char *)(size_t)base + (size_t)off * be->ops->real_bytes;
}

/* Number of floats/doubles from one stacked value's channel to the next is layout; this is the
 * plain element count of one sample, C*H*W. */
static inline int64_t lips_tensor_features(const lips_tensor *t)
{
    return t->c * t->h * t->w;
}

#endif
