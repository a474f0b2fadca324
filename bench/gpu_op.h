/*
 * bench/gpu_op.h - one operation of the backend table at one shape: its operands on the device and,
 * for the first samples, on the cpu backend; what it must move and compute; how it is run.
 */
#ifndef LIPS_BENCH_GPU_OP_H
#define LIPS_BENCH_GPU_OP_H

#include "gpu.h"

typedef struct gpu_shape {
    int64_t b, t;    /* samples, stacked values of each */
    int64_t c, h, w; /* input channels and places; attention's C is that of its output */
    int64_t o;       /* output channels; of sgd and adam: the number of parameters */
    lips_conv_geom geom;
    int64_t heads;
    int64_t pool; /* window; 0: global */
} gpu_shape;

struct gpu_op;

/* An op's operands on one backend: those that its description names. */
typedef struct gpu_side {
    lips_backend *be;
    const struct gpu_op *op;
    gpu_shape s;
    bool training;            /* batch norm */
    lips_precision precision; /* of products */
    lips_tensor x, y, in, mask;
    void *w, *d, *m1, *m2; /* weights, their gradient, two moments */
    void *v[4];            /* per channel: gamma, beta, mean, var */
    double *q, *r;         /* shared: (B,T,T), (B,2) */
    double *batch;         /* (2,C) f64: batch statistics */
    int64_t *labels;
    void *work;
    size_t work_bytes;
} gpu_side;

/* Of one thread for each value of an operand, counted in the machine code for sm_90 (the loop over
 * packs of 4, its instructions over its values): conversions to and from f64, f64 operations, and
 * all instructions, these among them. */
typedef struct gpu_counts {
    double conversions, f64, issued;
} gpu_counts;

/*
 * reads, writes: the operands' letters, each once for every time that its bytes must pass through
 * memory. x, y, i, m: tensors of one value (input, output, primal input, mask); X, Y: stacked ones;
 * w, d, a, b: weights, gradient, moments; v: channels; q: (B,T,T) f64; r: norms. The first letter
 * of writes is what is checked.
 */
typedef struct gpu_op {
    const char *name, *variant;
    const char *reads, *writes;
    lips_status (*run)(gpu_side *s);
    double (*flops)(const gpu_side *s); /* NULL: none worth counting */
    enum { GPU_SAME, GPU_CONV, GPU_POOL, GPU_LINEAR, GPU_ATTN, GPU_TOKENS, GPU_PICK } family;
    gpu_unit unit;   /* of convolutions and linear layers: as the precision says */
    double expected; /* share of the limit, for predictions */
    int launches;
    gpu_counts counts[2]; /* for the first two operands read; none where memory surely decides */
    bool streams;
    bool training;
    bool ref; /* cpu does not offer it: compared with ref */
} gpu_op;

/* NULL-terminated by name. */
extern const gpu_op gpu_ops[];
const gpu_op *gpu_op_find(const char *name, const char *variant);

/* Prints the rows of the op at the shape: f32, and with `precise` TF32 and BF16 as well. */
void gpu_op_rows(gpu *g, const char *name, const char *variant, gpu_shape s, bool precise);

/* gpu_bare.c: rows of kernels that no single op of the table stands for. */
void gpu_bare_rows(gpu *g);

/* Seconds that one call is predicted to take by the rates in use, but for its launches, which are
 * counted. */
double gpu_op_predict(gpu *g, const char *name, gpu_shape s, lips_precision precision,
                      int *launches);

/* gpu_library.c: NVIDIA's own call for the same product, without bias, ReLU or mask, on the op's
 * operands; false: there is none. */
bool gpu_op_library(gpu_side *s, lips_status (**call)(void *));

#endif
