/*
 * bench/conv.c - the convolutions of convnet on CIFAR shapes, and the strided ones of resnet18 with
 * their 1x1 shortcuts, and the linear layers of vit on 64 tokens, ours and oneDNN's, one core.
 *
 * Rows: op x width x layer; forward and grad with t = 1, vjp and gram with t = 10 cotangents. flops
 * is lips_conv_flops (tests/ops/test_conv_cpu.c): of a direct convolution, padding included, so
 * that a faster algorithm may pass 100 % of the limit. err_rel is over some entries drawn at
 * random. Rows called onednn are its convolution in the layouts it likes best (conv_onednn.h).
 * usage: conv [SELECT], as every bench; environment BENCH_ALGO=N: lips_conv_algo number N
 */
#include "backend/cpu/conv.h"

#include "common.h"
#include "conv_onednn.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 32, COTANGENTS = 10 };

/* Entry error allowed, of the largest: 2^-24 sqrt(4608) for the longest sum is 4e-6. */
#define ERROR_MAX 2e-5

typedef struct job {
    lips_backend *be;
    lips_conv_op op;
    lips_conv_algo algo;
    lips_conv_args a;
    lips_tensor mask;
} job;

static const char *const ops[] = {"conv_forward", "conv_vjp", "conv_grad", "conv_gram"};

static float at(const lips_tensor *v, int64_t b, int64_t c, int64_t y, int64_t x, int64_t t)
{
    const int64_t i = (((b / v->lanes * v->c + c) * v->h + y) * v->w + x) * v->t + t;
    return ((const float *)v->data)[i * v->lanes + b % v->lanes];
}

static void run(void *user)
{
    job *j = user;
    bench_ok(lips_cpu_conv_run(j->be, j->op, &j->a, j->algo));
}

/* dW_t[o][c][ky][kx] of one sample. */
static double gradient(const job *j, int64_t b, int64_t t, int64_t o, int64_t c, int64_t ky,
                       int64_t kx)
{
    double sum = 0;
    for (int64_t y = 0; y < j->a.y.h; y++)
        for (int64_t x = 0; x < j->a.y.w; x++) {
            const lips_conv_geom *g = &j->a.geom;
            const int64_t iy = y * g->stride + ky - g->pad, ix = x * g->stride + kx - g->pad;
            if (iy >= 0 && iy < j->a.x.h && ix >= 0 && ix < j->a.x.w)
                sum += (double)at(&j->a.y, b, o, y, x, t) * (double)at(&j->a.x, b, c, iy, ix, 0);
        }
    return sum;
}

/* An output place of forward (o, y, x), or an input place of vjp. */
static double place(const job *j, int64_t b, int64_t t, int64_t ch, int64_t y, int64_t x)
{
    const bool fwd = j->op == LIPS_CONV_FORWARD;
    const lips_tensor *in = fwd ? &j->a.x : &j->a.y;
    const int64_t r = j->a.geom.r, stride = j->a.geom.stride, pad = j->a.geom.pad;
    const float *w = j->a.w;
    double sum = 0;
    for (int64_t i = 0; i < in->c; i++)
        for (int64_t k = 0; k < r * r; k++) {
            const int64_t o = fwd ? ch : i, c = fwd ? i : ch;
            int64_t iy = fwd ? y * stride + k / r - pad : y + pad - k / r;
            int64_t ix = fwd ? x * stride + k % r - pad : x + pad - k % r;
            if (iy < 0 || ix < 0 || (!fwd && (iy % stride || ix % stride)))
                continue;
            iy = fwd ? iy : iy / stride;
            ix = fwd ? ix : ix / stride;
            if (iy < in->h && ix < in->w)
                sum += (double)w[(o * j->a.x.c + c) * r * r + k] * (double)at(in, b, i, iy, ix, t);
        }
    if (!fwd && at(&j->mask, b, ch, y, x, 0) <= 0)
        return 0;
    return fwd && sum < 0 ? 0 : sum;
}

static double gram(const job *j, int64_t b, int64_t t, int64_t t2)
{
    const int64_t r = j->a.geom.r;
    double sum = 0;
    for (int64_t o = 0; o < j->a.y.c; o++)
        for (int64_t c = 0; c < j->a.x.c; c++)
            for (int64_t k = 0; k < r * r; k++)
                sum +=
                    gradient(j, b, t, o, c, k / r, k % r) * gradient(j, b, t2, o, c, k / r, k % r);
    return sum;
}

/* The i-th of a sequence of places: 0 <= it < n, spread by a large prime that depends on axis. */
static int64_t pick(int64_t i, int axis, int64_t n)
{
    static const int64_t primes[] = {7919, 104729, 1299709, 15485863, 179424673};
    return (i + 1) * primes[axis] / 97 % n;
}

/* The i-th place looked at: what is there, and what belongs there. */
static float look(const job *j, int64_t i, double *want)
{
    const lips_conv_args *a = &j->a;
    const lips_tensor *out = j->op == LIPS_CONV_FORWARD ? &a->y : &a->x;
    const int64_t b = pick(i, 0, a->x.b), t = pick(i, 1, a->y.t);
    *want = 0;
    if (j->op == LIPS_CONV_GRAM) {
        const int64_t t2 = (t + i) % a->y.t;
        *want = gram(j, b, t, t2);
        return (float)a->theta[(b * a->y.t + t) * a->y.t + t2];
    }
    if (j->op == LIPS_CONV_GRAD) {
        const int64_t r = a->geom.r, k = pick(i, 4, r * r);
        const int64_t o = pick(i, 2, a->y.c), c = pick(i, 3, a->x.c);
        for (int64_t s = 0; s < a->x.b; s++)
            *want += gradient(j, s, 0, o, c, k / r, k % r);
        return ((float *)a->dw)[(o * a->x.c + c) * r * r + k];
    }
    const int64_t c = pick(i, 2, out->c), y = pick(i, 3, out->h), x = pick(i, 4, out->w);
    *want = place(j, b, t, c, y, x);
    return at(out, b, c, y, x, t);
}

static int64_t weights(const lips_conv_args *a)
{
    return a->y.c * a->x.c * a->geom.r * a->geom.r;
}

static double check(void *user, int64_t *wrong)
{
    enum { MOST = 200 };
    job *j = user;
    const int64_t n = j->op == LIPS_CONV_GRAM ? 2 : j->op == LIPS_CONV_GRAD ? 20 : MOST;
    double want[MOST];
    float got[MOST];
    if (j->op == LIPS_CONV_GRAD)
        memset(j->a.dw, 0, (size_t)weights(&j->a) * sizeof(float));
    if (j->op == LIPS_CONV_GRAM)
        memset(j->a.theta, 0, (size_t)(j->a.x.b * j->a.y.t * j->a.y.t) * sizeof(double));
    run(j);
    for (int64_t i = 0; i < n; i++)
        got[i] = look(j, i, want + i);
    return bench_error(got, want, n, ERROR_MAX, wrong);
}

static double reals(const lips_tensor *v)
{
    return (double)(v->b * v->t * lips_tensor_features(v));
}

static void measure(bench *b, lips_conv_op op, int64_t c, int64_t o, int64_t hw, lips_conv_geom g)
{
    const bool stacked = op == LIPS_CONV_VJP || op == LIPS_CONV_GRAM;
    const int64_t t = stacked ? COTANGENTS : 1, batch = stacked ? BATCH / 2 : BATCH;
    const char *algo = getenv("BENCH_ALGO");
    job j = {.be = bench_backend(b), .op = op};
    j.algo = algo ? (lips_conv_algo)atoi(algo) : LIPS_CONV_AUTO;
    j.a = (lips_conv_args){.geom = g, .relu = op == LIPS_CONV_FORWARD};
    j.a.x = bench_tensor(b, batch, c, hw, hw, op == LIPS_CONV_VJP ? t : 1, true);
    j.a.y = bench_tensor(b, batch, o, lips_conv_out(hw, &g), lips_conv_out(hw, &g), t, true);
    j.mask = bench_tensor(b, batch, c, hw, hw, 1, true);
    j.a.mask = &j.mask;
    j.a.w = bench_reals(b, weights(&j.a));
    j.a.dw = bench_reals(b, weights(&j.a));
    j.a.theta = (double *)bench_reals(b, batch * t * t * 2);
    j.a.work = bench_reals(b, (int64_t)(lips_cpu_conv_work(op, &j.a, j.algo) / sizeof(float)));
    const double flops = lips_conv_flops(op, &j.a);
    char shape[64];
    snprintf(shape, sizeof shape, "C=%d,O=%d,HW=%d,R=%d/%d,B=%d,T=%d", (int)c, (int)o, (int)hw,
             (int)g.r, (int)g.stride, (int)batch, (int)t);
    bench_case row = {.op = ops[op],
                      .variant = lips_cpu_k(j.be)->name,
                      .dtype = "f32",
                      .shape = shape,
                      .flops = flops,
                      .call = run,
                      .user = &j,
                      .check = check,
                      .bytes = 4 * (reals(&j.a.x) + reals(&j.a.y) + (double)weights(&j.a))};
    bench_row(b, &row);
    if (op != LIPS_CONV_GRAM && bench_selected(b, &row)) {
        onednn d;
        onednn_create(&d, op, &j.a);
        row.variant = "onednn";
        row.call = onednn_run;
        row.user = &d;
        row.check = NULL;
        bench_row(b, &row);
        onednn_free(&d);
    }
    void *done[] = {j.a.x.data, j.a.y.data, j.mask.data, (void *)(size_t)j.a.w,
                    j.a.dw,     j.a.theta,  j.a.work};
    for (size_t i = 0; i < sizeof done / sizeof *done; i++)
        j.be->ops->release(j.be, done[i]);
}

int main(int argc, char **argv)
{
    const lips_conv_geom same = {3, 1, 1}, strided = {3, 2, 1}, shortcut = {1, 2, 0},
                         tokens = {1, 1, 0};
    bench *b = bench_begin(argc, argv);
    for (int op = LIPS_CONV_FORWARD; op <= LIPS_CONV_GRAM; op++)
        for (int64_t w = 1; w <= 64; w *= 2) {
            measure(b, (lips_conv_op)op, 3, w, 32, same);
            measure(b, (lips_conv_op)op, w, 2 * w, 32, same);
            measure(b, (lips_conv_op)op, 2 * w, 4 * w, 16, same);
            measure(b, (lips_conv_op)op, 4 * w, 8 * w, 8, same);
        }
    for (int op = LIPS_CONV_FORWARD; op <= LIPS_CONV_GRAM; op++)
        for (int64_t w = 1; w <= 64; w *= 4)
            for (int stage = 0; stage < 3; stage++) {
                measure(b, (lips_conv_op)op, w << stage, w << (stage + 1), 32 >> stage, strided);
                measure(b, (lips_conv_op)op, w << stage, w << (stage + 1), 32 >> stage, shortcut);
            }
    for (int op = LIPS_CONV_FORWARD; op <= LIPS_CONV_GRAM; op++)
        for (int64_t w = 4; w <= 64; w *= 4) {
            measure(b, (lips_conv_op)op, w, 3 * w, 8, tokens);
            measure(b, (lips_conv_op)op, w, 4 * w, 8, tokens);
            measure(b, (lips_conv_op)op, 4 * w, w, 8, tokens);
        }
    return bench_end(b);
}
