/*
 * cpu/attention.c - dot-product attention, lanes (samples) innermost: every product of two lanes'
 * values is one lane-wise multiply-add (isa/conv_dot.c), and the softmax runs over lanes too.
 *
 *   forward   S = q'k,  P = softmax(a S),  y = v P'                        a = 1/sqrt(d)
 *   jvp       S' = q'k' + ..., P' = a P (S' - sum P S'),  y' = v P' + v' P
 *   vjp       dP = dy'v,  dS = a P (dP - sum P dP),  dq = k dS', dk = q dS, dv = dy P
 *   vjp_dot   the derivative of the vjp along q', k', v': backend/ref/attention.c has the formulas
 *
 * Shapes     q, k, v, y per head (d, N) blocks, N*lanes floats from channel to channel; matrices
 * (i,j) (N, N) blocks. Stacked values of x and y lie between tokens and are copied out one by one
 * Work split per slab, 16 lanes and head: P once, then all stacked values; products in chunks of
 *            CHUNK columns, whose operand stays in the first-level cache
 * Precision  f32, fused multiply-adds in chains over d or N
 * Order      fixed by the shapes
 * Cost       2 N^2 d multiply-adds per head and lane forward, 4 N^2 d each cotangent and tangent
 * Proof      tests/ops/test_backends.c      Speed  bench/tokens.c
 */
#include "backend/cpu/conv.h"
#include "backend/cpu/ops.h"
#include "backend/cpu/tokens.h"

#include <math.h>

enum { CHUNK = 12, BLOCK = LIPS_CONV_BLOCK, MATRICES = 4, COPIES = 3 };

/* A (d, N) or (N, N) array of blocks seen as rows of a product: element (r, i) is at r*row +
 * i*step. */
typedef struct view {
    float *at;
    int64_t row, step;
} view;

typedef struct head {
    const lips_cpu_kernels *k;
    int64_t d, n;
    float scale;
    float *m[MATRICES];  /* (N,N) */
    float *copy[COPIES]; /* (d,N) of one stacked value */
    int64_t *offset;     /* (max(d,N)) */
} head;

static void carve(head *h, const lips_attn_args *a, lips_conv_arena *mem)
{
    h->n = a->y.h * a->y.w;
    h->d = a->y.c / a->heads;
    h->scale = (float)(1 / sqrt((double)h->d));
    for (int i = 0; i < MATRICES; i++)
        h->m[i] = lips_conv_take(mem, h->n * h->n * BLOCK, sizeof(float));
    for (int i = 0; i < COPIES; i++)
        h->copy[i] = lips_conv_take(mem, h->d * h->n * BLOCK, sizeof(float));
    h->offset = lips_conv_take(mem, lips_conv_max(h->d, h->n), sizeof(int64_t));
}

size_t lips_cpu_attn_workspace(lips_backend *be, const lips_attn_args *a)
{
    head h;
    lips_conv_arena mem = {0};
    (void)be;
    if (lips_check_attn_plan(a) != LIPS_OK)
        return 0;
    carve(&h, a, &mem);
    return mem.used;
}

/* out[r][s] (+)= sum_{i<cols} a[r][i] b[s][i], r < rows, s < others. */
typedef struct product {
    view out, a, b;
    int64_t rows, others, cols;
    bool resume;
} product;

static void multiply(const head *h, const product *p)
{
    for (int64_t s = 0; s < p->others; s++)
        h->offset[s] = s * p->b.row;
    for (int64_t s = 0; s < p->others; s += CHUNK) {
        lips_conv_dot d = {.a = p->a.at,
                           .b = p->b.at,
                           .out = p->out.at + s * p->out.step,
                           .m = p->rows,
                           .j = lips_conv_min(CHUNK, p->others - s),
                           .rows = 1,
                           .cols = p->cols,
                           .am = p->a.row,
                           .ai = p->a.step,
                           .bj = h->offset + s,
                           .bi = p->b.step,
                           .om = p->out.row,
                           .oj = p->out.step,
                           .resume = p->resume};
        h->k->conv->dot(&d);
    }
}

static view flip(view v)
{
    return (view){v.at, v.step, v.row};
}

static view matrix(const head *h, int i)
{
    return (view){h->m[i], h->n * BLOCK, BLOCK};
}

/* Rows are channels, from channel first on, of one block of 16 lanes of a slab; stacked value t. */
static view channels(const lips_tensor *x, int64_t block, int64_t first, int64_t t)
{
    int64_t lane = block * BLOCK, places = x->h * x->w, step = x->t * x->lanes;
    return (view){lips_cpu_slab(x, lane / x->lanes) + first * places * step + t * x->lanes +
                      lane % x->lanes,
                  places * step, step};
}

/* The three parts of a (3C,H,W) tensor. */
typedef struct triple {
    view q, k, v;
} triple;

static triple parts(const lips_tensor *x, int64_t block, int64_t first, int64_t t)
{
    return (triple){channels(x, block, first, t), channels(x, block, x->c / 3 + first, t),
                    channels(x, block, 2 * (x->c / 3) + first, t)};
}

/* A copy of (d,N) whose strides do not depend on the stack. */
static view copied(const head *h, int i, view v)
{
    for (int64_t c = 0; c < h->d; c++)
        h->k->conv->pack(h->copy[i] + c * h->n * BLOCK, v.at + c * v.row, h->n, v.step);
    return (view){h->copy[i], h->n * BLOCK, BLOCK};
}

/* out[i][j] (+)= sum_c a[c][i] b[c][j] */
static void scores(const head *h, view out, view a, view b, bool resume)
{
    multiply(h, &(product){.out = out,
                           .a = flip(a),
                           .b = flip(b),
                           .rows = h->n,
                           .others = h->n,
                           .cols = h->d,
                           .resume = resume});
}

/* out[c][i] (+)= sum_j m[i][j] x[c][j] */
static void mix(const head *h, view out, view m, view x, bool resume)
{
    multiply(h, &(product){.out = flip(out),
                           .a = m,
                           .b = x,
                           .rows = h->n,
                           .others = h->d,
                           .cols = h->n,
                           .resume = resume});
}

static void probabilities(const head *h, const triple *in)
{
    scores(h, matrix(h, 0), in->q, in->k, false);
    h->k->tokens->softmax(h->m[0], h->n, h->n, h->scale);
}

/* One head of one block of 16 lanes: channels first.. of q. */
typedef void head_fn(const head *h, const lips_attn_args *a, int64_t block, int64_t first);

static void each_head(lips_backend *be, const lips_attn_args *a, head_fn *run)
{
    head h = {.k = lips_cpu_k(be)};
    lips_conv_arena mem = {.base = a->work};
    carve(&h, a, &mem);
    int64_t blocks = lips_cpu_slabs(&a->y) * (a->y.lanes / BLOCK);
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t number = 0; number < a->heads; number++)
            run(&h, a, block, number * h.d);
}

static void forward(const head *h, const lips_attn_args *a, int64_t block, int64_t first)
{
    triple in = parts(&a->x, block, first, 0);
    probabilities(h, &in);
    mix(h, channels(&a->y, block, first, 0), matrix(h, 0), in.v, false);
}

static void jvp(const head *h, const lips_attn_args *a, int64_t block, int64_t first)
{
    triple in = parts(a->in, block, first, 0);
    probabilities(h, &in);
    for (int64_t t = 0; t < a->x.t; t++) {
        triple dot = parts(&a->x, block, first, t);
        view y = channels(&a->y, block, first, t);
        scores(h, matrix(h, 1), copied(h, 0, dot.q), in.k, false);
        scores(h, matrix(h, 1), in.q, copied(h, 1, dot.k), true);
        h->k->tokens->soften(h->m[1], h->m[0], h->n, h->n, h->scale);
        mix(h, y, matrix(h, 1), in.v, false);
        mix(h, y, matrix(h, 0), copied(h, 2, dot.v), true);
    }
}

static void vjp(const head *h, const lips_attn_args *a, int64_t block, int64_t first)
{
    triple in = parts(a->in, block, first, 0);
    probabilities(h, &in);
    for (int64_t t = 0; t < a->x.t; t++) {
        triple dx = parts(&a->x, block, first, t);
        view dy = copied(h, 0, channels(&a->y, block, first, t));
        scores(h, matrix(h, 1), dy, in.v, false);
        h->k->tokens->soften(h->m[1], h->m[0], h->n, h->n, h->scale);
        mix(h, dx.q, matrix(h, 1), in.k, false);
        mix(h, dx.k, flip(matrix(h, 1)), in.q, false);
        mix(h, dx.v, flip(matrix(h, 0)), dy, false);
    }
}

/* m: 0 P, 1 dS, 2 P', 3 dS'. */
static void vjp_dot(const head *h, const lips_attn_args *a, int64_t block, int64_t first)
{
    triple in = parts(a->in, block, first, 0), dot = parts(a->dot, block, first, 0);
    triple dx = parts(&a->x, block, first, 0);
    view dy = channels(&a->y, block, first, 0);
    probabilities(h, &in);
    scores(h, matrix(h, 2), dot.q, in.k, false);
    scores(h, matrix(h, 2), in.q, dot.k, true);
    h->k->tokens->soften(h->m[2], h->m[0], h->n, h->n, h->scale);
    scores(h, matrix(h, 1), dy, in.v, false);
    scores(h, matrix(h, 3), dy, dot.v, false);
    h->k->tokens->soften_dot(h->m[1], h->m[3], h->m[0], h->m[2], h->n, h->n, h->scale);
    mix(h, dx.q, matrix(h, 3), in.k, false);
    mix(h, dx.q, matrix(h, 1), dot.k, true);
    mix(h, dx.k, flip(matrix(h, 3)), in.q, false);
    mix(h, dx.k, flip(matrix(h, 1)), dot.q, true);
    mix(h, dx.v, flip(matrix(h, 2)), dy, false);
}

static lips_status run(lips_backend *be, const lips_attn_args *a, lips_pass pass, const char *op,
                       head_fn *fn)
{
    LIPS_TRY(lips_check_attn(pass, a));
    LIPS_TRY(lips_cpu_layout(op, &a->x));
    if ((uintptr_t)a->work % 64)
        return lips_fail(LIPS_ERR_USAGE, "%s: work is %p, must be 64-byte aligned", op, a->work);
    each_head(be, a, fn);
    return LIPS_OK;
}

lips_status lips_cpu_attn_forward(lips_backend *be, const lips_attn_args *a)
{
    return run(be, a, LIPS_FORWARD, "attn_forward", forward);
}

lips_status lips_cpu_attn_jvp(lips_backend *be, const lips_attn_args *a)
{
    return run(be, a, LIPS_JVP, "attn_jvp", jvp);
}

lips_status lips_cpu_attn_vjp(lips_backend *be, const lips_attn_args *a)
{
    return run(be, a, LIPS_VJP, "attn_vjp", vjp);
}

lips_status lips_cpu_attn_vjp_dot(lips_backend *be, const lips_attn_args *a)
{
    return run(be, a, LIPS_VJP_DOT, "attn_vjp_dot", vjp_dot);
}
