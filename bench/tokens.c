/*
 * bench/tokens.c - the operations on tokens of a vision transformer on 65 tokens (32 x 32 images),
 * 16 samples, one core: layer norm, GELU, and attention forward, with ten stacked cotangents, and
 * its second derivative. err_rel: against ref on the same operands.
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 16, TOKENS = 65, STACK = 10 };

typedef enum kind {
    LN_FORWARD,
    LN_VJP,
    LN_GRAD,
    GELU_FORWARD,
    GELU_SLOPE,
    ATTN_FORWARD,
    ATTN_VJP,
    ATTN_VJP_DOT,
    KINDS
} kind;

/* Everything an op reads or writes, on one backend. in, dot: t = 1; x, y: stacked where the op is.
 */
typedef struct operands {
    lips_backend *be;
    lips_tensor in, dot, x, y;
    void *gamma, *beta, *grad, *work;
} operands;

typedef struct job {
    kind k;
    int64_t heads;
    operands cpu;
} job;

static lips_status apply(const job *j, const operands *o)
{
    const lips_ops *ops = o->be->ops;
    lips_ln_args ln = {.y = o->y,
                       .x = o->x,
                       .in = &o->in,
                       .gamma = o->gamma,
                       .beta = o->beta,
                       .eps = 1e-6,
                       .dgamma = o->grad};
    lips_gelu_args gelu = {.y = o->x, .x = o->y, .in = &o->in};
    lips_attn_args attn = {
        .y = o->y, .x = o->x, .in = &o->in, .dot = &o->dot, .heads = j->heads, .work = o->work};
    switch (j->k) {
    case LN_FORWARD: return ops->ln_forward(o->be, &ln);
    case LN_VJP: return ops->ln_vjp(o->be, &ln);
    case LN_GRAD: return ops->ln_grad(o->be, &ln);
    case GELU_FORWARD: return ops->gelu_forward(o->be, &gelu);
    case GELU_SLOPE: return ops->gelu_slope(o->be, &gelu);
    case ATTN_FORWARD: return ops->attn_forward(o->be, &attn);
    case ATTN_VJP: return ops->attn_vjp(o->be, &attn);
    case ATTN_VJP_DOT: return ops->attn_vjp_dot(o->be, &attn);
    case KINDS: break;
    }
    return lips_fail(LIPS_ERR_USAGE, "bench: no such op");
}

static void run(void *user)
{
    job *j = user;
    bench_ok(apply(j, &j->cpu));
}

/* Which of x and y the op writes. */
static const lips_tensor *output(const job *j, const operands *o)
{
    return j->k == LN_FORWARD || j->k == ATTN_FORWARD ? &o->y : &o->x;
}

static double *values(const operands *o, const lips_tensor *t)
{
    double *v = malloc((size_t)(t->b * lips_tensor_features(t) * t->t) * sizeof *v);
    if (!v)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    bench_ok(o->be->ops->download(o->be, v, t));
    return v;
}

static lips_tensor copied(const operands *to, const operands *from, const lips_tensor *t)
{
    lips_tensor out = *t;
    double *v = values(from, t);
    out.lanes = to->be->ops->plan_lanes(to->be, out.cap, true);
    bench_ok(to->be->ops->alloc(to->be, &out.data, to->be->ops->tensor_bytes(to->be, &out)));
    bench_ok(to->be->ops->upload_f64(to->be, &out, v));
    free(v);
    return out;
}

static void *reals(const operands *to, const float *from, int64_t n)
{
    void *p = NULL;
    bench_ok(to->be->ops->alloc(to->be, &p, (size_t)n * sizeof(double)));
    for (int64_t i = 0; i < n; i++)
        ((double *)p)[i] = from ? (double)from[i] : 0;
    return p;
}

static void release(const operands *o)
{
    void *all[] = {o->in.data, o->dot.data, o->x.data, o->y.data,
                   o->gamma,   o->beta,     o->grad,   o->work};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        o->be->ops->release(o->be, all[i]);
}

static double check(void *user, int64_t *wrong)
{
    job *j = user;
    operands ref = {0}, *cpu = &j->cpu;
    int64_t c = cpu->y.c;
    bench_ok(lips_backend_find("ref")->open(&ref.be, 0));
    ref.in = copied(&ref, cpu, &cpu->in);
    ref.dot = copied(&ref, cpu, &cpu->dot);
    ref.x = copied(&ref, cpu, &cpu->x);
    ref.y = copied(&ref, cpu, &cpu->y);
    ref.gamma = reals(&ref, cpu->gamma, c);
    ref.beta = reals(&ref, cpu->beta, c);
    ref.grad = reals(&ref, NULL, c);
    ref.work = reals(&ref, NULL, 4 * TOKENS * TOKENS);
    for (int64_t i = 0; i < c; i++)
        ((float *)cpu->grad)[i] = 0;
    bench_ok(apply(j, cpu));
    bench_ok(apply(j, &ref));
    const lips_tensor *t = output(j, cpu);
    int64_t n = j->k == LN_GRAD ? c : t->b * lips_tensor_features(t) * t->t;
    double *want = j->k == LN_GRAD ? ref.grad : values(&ref, output(j, &ref));
    double *mine = j->k == LN_GRAD ? NULL : values(cpu, t);
    float *got = malloc((size_t)n * sizeof *got);
    if (!got)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    for (int64_t i = 0; i < n; i++)
        got[i] = mine ? (float)mine[i] : ((float *)cpu->grad)[i];
    double error = bench_error(got, want, n, 1e-5, wrong);
    free(got);
    if (mine) {
        free(mine);
        free(want);
    }
    release(&ref);
    ref.be->ops->close(ref.be);
    return error;
}

static const struct {
    const char *op;
    int64_t parts; /* channels of x and in, of width */
    bool stacked;
    double products; /* N x N x channels multiply-adds per stacked value; once per sample */
    double once;
} ops[KINDS] = {
    [LN_FORWARD] = {"ln_forward", 1, false, 0, 0},
    [LN_VJP] = {"ln_vjp", 1, true, 0, 0},
    [LN_GRAD] = {"ln_grad", 1, false, 0, 0},
    [GELU_FORWARD] = {"gelu_forward", 1, false, 0, 0},
    [GELU_SLOPE] = {"gelu_slope", 1, true, 0, 0},
    [ATTN_FORWARD] = {"attn_forward", 3, false, 2, 0},
    [ATTN_VJP] = {"attn_vjp", 3, true, 4, 1},
    [ATTN_VJP_DOT] = {"attn_vjp_dot", 3, false, 10, 0},
};

static void row(bench *b, kind k, int64_t width)
{
    int64_t t = ops[k].stacked ? STACK : 1, parts = ops[k].parts;
    job j = {.k = k, .heads = width % 32 == 0 ? width / 32 : 1};
    operands *o = &j.cpu;
    char shape[64];
    snprintf(shape, sizeof shape, "B=%d,C=%lld,N=%d,T=%lld", SAMPLES, (long long)width, TOKENS,
             (long long)t);
    double values_moved = (double)(SAMPLES * TOKENS * width * (parts * t + t + parts));
    bench_case c = {.op = ops[k].op,
                    .variant = "cpu",
                    .dtype = "f32",
                    .shape = shape,
                    .bytes = 4 * values_moved,
                    .flops = 2.0 * SAMPLES * TOKENS * TOKENS * (double)width *
                             (ops[k].products * (double)t + ops[k].once),
                    .call = run,
                    .user = &j,
                    .check = check};
    if (!bench_selected(b, &c))
        return;
    o->be = bench_backend(b);
    o->in = bench_tensor(b, SAMPLES, parts * width, 1, TOKENS, 1, true);
    o->dot = bench_tensor(b, SAMPLES, parts * width, 1, TOKENS, 1, true);
    o->x = bench_tensor(b, SAMPLES, parts * width, 1, TOKENS, t, true);
    o->y = bench_tensor(b, SAMPLES, width, 1, TOKENS, t, true);
    o->gamma = bench_reals(b, width);
    o->beta = bench_reals(b, width);
    o->grad = bench_reals(b, width);
    lips_attn_args plan = {.y = o->y, .x = o->x, .heads = j.heads};
    bench_ok(o->be->ops->alloc(o->be, &o->work,
                               parts == 3 ? o->be->ops->attn_workspace(o->be, &plan) : 64));
    bench_row(b, &c);
    release(o);
}

int main(int argc, char **argv)
{
    bench *b = bench_begin(argc, argv);
    for (int64_t width = 4; width <= 64; width *= 4)
        for (int k = 0; k < KINDS; k++)
            row(b, (kind)k, width);
    return bench_end(b);
}
