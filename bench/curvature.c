/*
 * Curvature of convnet (3 x 32 x 32) and mlp (28 x 28, one hidden layer), K = 10: an ordinary
 * gradient of a batch (forward, loss, gradient), a Hessian product of the same batch with the
 * primal passes kept, and the exact Hessian trace of n samples (the whole measurement). Operations,
 * with F_1 the first layer's part of F, whose input has no derivative: 3 F - F_1 a gradient, 6 F -
 * 4 F_1 a product, (1 + K) F - K F_1 a trace, its Grams not counted. bench/peer/curvature.py prints
 * the product's time over the gradient's, and estimates the trace by 100 probes in PyTorch with the
 * same weights and inputs.
 */
#include "common.h"
#include "network.h"

#include "measure/measure.h"
#include "nn/second.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { K = 10, CHECKED = 2 };

/* One network on one backend, with a batch. */
typedef struct side {
    lips_backend *be;
    lips_exec *ex;
    lips_second *second;
    void *p, *v, *out;
    double *dots; /* (b,K) */
} side;

typedef struct job {
    lips_net *net;
    double *params, *direction;
    float *x;
    int64_t *label;
    int64_t b, n; /* batch; samples of the trace */
    side cpu;
} job;

static void open_side(side *s, const job *j, lips_backend *be, int64_t b)
{
    int64_t p = lips_net_params(j->net);
    size_t bytes = (size_t)p * be->ops->real_bytes;
    *s = (side){.be = be, .dots = bench_take(b * K, sizeof(double))};
    bench_ok(be->ops->alloc(be, &s->p, bytes));
    bench_ok(be->ops->alloc(be, &s->v, bytes));
    bench_ok(be->ops->alloc(be, &s->out, bytes));
    bench_ok(be->ops->write(be, s->p, 0, j->params, p));
    bench_ok(be->ops->write(be, s->v, 0, j->direction, p));
    bench_ok(lips_exec_create(&s->ex, j->net, be, &(lips_exec_spec){.cap = b, .t = 1}));
    lips_exec_set_params(s->ex, s->p, NULL);
    bench_ok(lips_second_create(&s->second, s->ex));
    lips_exec_input(s->ex)->b = b;
}

static void close_side(side *s)
{
    void *device[] = {s->p, s->v, s->out};
    lips_second_free(s->second);
    lips_exec_free(s->ex);
    for (int i = 0; i < 3; i++)
        s->be->ops->release(s->be, device[i]);
    free(s->dots);
}

static void forward(const job *j, side *s, lips_tensor *z)
{
    bench_ok(s->be->ops->upload(s->be, lips_exec_input(s->ex), j->x, NULL));
    bench_ok(lips_exec_forward(s->ex, false, z));
}

static void loss(const job *j, side *s, const lips_tensor *z, const lips_tensor *dz)
{
    bench_ok(s->be->ops->loss(s->be, &(lips_loss_args){.kind = LIPS_LOSS_CROSS_ENTROPY,
                                                       .z = *z,
                                                       .labels = j->label,
                                                       .dz = dz,
                                                       .scale = 1.0 / (double)z->b}));
}

static void gradient(const job *j, side *s)
{
    lips_tensor z, dz;
    forward(j, s, &z);
    bench_ok(lips_exec_seed(s->ex, 1, &dz));
    loss(j, s, &z, &dz);
    bench_ok(lips_exec_grad(s->ex, s->out));
}

static void prepare(const job *j, side *s)
{
    lips_tensor z, dz;
    forward(j, s, &z);
    bench_ok(lips_second_seed(s->second, &dz));
    loss(j, s, &z, &dz);
    bench_ok(lips_second_primal(s->second));
}

/* The loss's part is left out: (d2L/dz2) zdot is K numbers a sample, and the identity serves. */
static void product(const job *j, side *s)
{
    size_t bytes = (size_t)lips_net_params(j->net) * s->be->ops->real_bytes;
    lips_tensor zdot, seed;
    bench_ok(lips_second_jvp(s->second, s->v, &zdot));
    bench_ok(s->be->ops->download(s->be, s->dots, &zdot));
    bench_ok(lips_second_seed_dot(s->second, &seed));
    bench_ok(s->be->ops->upload_f64(s->be, &seed, s->dots));
    bench_ok(s->be->ops->zero(s->be, s->out, bytes));
    bench_ok(lips_second_vjp(s->second, s->v, s->out));
}

static void call_gradient(void *user)
{
    job *j = user;
    gradient(j, &j->cpu);
}

static void call_product(void *user)
{
    job *j = user;
    product(j, &j->cpu);
}

/* Of CHECKED samples on one backend, host f64. */
static double *checked(const job *j, const char *name, bool second)
{
    double *out = bench_take(lips_net_params(j->net), sizeof *out);
    lips_backend *be;
    side s;
    bench_ok(lips_backend_find(name)->open(&be, 0));
    open_side(&s, j, be, CHECKED);
    if (second) {
        prepare(j, &s);
        product(j, &s);
    } else
        gradient(j, &s);
    bench_ok(be->ops->read(be, out, s.out, 0, lips_net_params(j->net)));
    close_side(&s);
    be->ops->close(be);
    return out;
}

static double check_vector(const job *j, bool second, int64_t *wrong)
{
    int64_t p = lips_net_params(j->net);
    double *want = checked(j, "ref", second), *got = checked(j, "cpu", second);
    float *narrow = bench_take(p, sizeof *narrow);
    for (int64_t i = 0; i < p; i++)
        narrow[i] = (float)got[i];
    double error = bench_error(narrow, want, p, 1e-4, wrong);
    free(want), free(got), free(narrow);
    return error;
}

static double check_gradient(void *user, int64_t *wrong)
{
    return check_vector(user, false, wrong);
}

static double check_product(void *user, int64_t *wrong)
{
    return check_vector(user, true, wrong);
}

static double trace(const job *j, const char *backend, int64_t n)
{
    lips_measurement m;
    lips_measure_args a = {.ops = lips_backend_find(backend),
                           .threads = 1,
                           .batch = strcmp(backend, "ref") == 0 ? 1 : 0,
                           .network = {.net = j->net, .params = j->params, .epoch = -1},
                           .inputs = {.n = n, .x = j->x, .label = j->label, .split = "inputs"}};
    bench_ok(lips_metrics_parse(&a.metrics, "hessian.trace"));
    bench_ok(lips_measure_run(&m, &a));
    double value = m.records[0].value;
    lips_measurement_free(&m);
    return value;
}

static void call_trace(void *user)
{
    job *j = user;
    trace(j, "cpu", j->n);
}

static double check_trace(void *user, int64_t *wrong)
{
    job *j = user;
    double want = trace(j, "ref", CHECKED), error = fabs(trace(j, "cpu", CHECKED) / want - 1);
    *wrong = !(error <= 1e-5);
    return error;
}

/* The first layer's part of the forward pass. */
static double first_flops(const lips_net *net)
{
    const lips_layer_info *l = lips_net_layer(net, 1);
    double taps = l->conv ? (double)(l->c * l->geom.r * l->geom.r) : (double)(l->c * l->h * l->w);
    return 2 * (double)(l->o * l->oh * l->ow) * taps;
}

static void rows(bench *b, const char *kind, int64_t w)
{
    bool conv = strcmp(kind, "convnet") == 0;
    int64_t side_px = conv ? 32 : 28, channels = conv ? 3 : 1;
    lips_model_spec spec = {.kind = kind,
                            .width = w,
                            .depth = 1,
                            .classes = K,
                            .c = channels,
                            .h = side_px,
                            .w = side_px};
    job j = {.b = conv ? 16 : 128, .n = conv ? 64 : 512};
    char shape[64];
    bench_ok(lips_net_create(&j.net, &spec));
    int64_t params = lips_net_params(j.net);
    double flops = lips_net_forward_flops(j.net), first = first_flops(j.net);
    j.params = bench_take(params, sizeof *j.params);
    j.direction = bench_take(params, sizeof *j.direction);
    j.x = bench_take(j.n * channels * side_px * side_px, sizeof *j.x);
    j.label = bench_take(j.n, sizeof *j.label);
    bench_fill_params(j.net, j.params);
    bench_fill_samples(j.net, j.n, j.x, j.label);
    for (int64_t i = 0; i < params; i++)
        j.direction[i] = (double)bench_uniform(2, i);
    open_side(&j.cpu, &j, bench_backend(b), j.b);
    snprintf(shape, sizeof shape, "w=%lld,n=%lld", (long long)w, (long long)j.b);
    bench_case c = {.op = "gradient",
                    .variant = kind,
                    .dtype = "f32",
                    .shape = shape,
                    .bytes = 8.0 * (double)params,
                    .flops = (3 * flops - first) * (double)j.b,
                    .call = call_gradient,
                    .user = &j,
                    .check = check_gradient};
    bench_row(b, &c);
    prepare(&j, &j.cpu);
    c.op = "hessian_product", c.call = call_product, c.check = check_product;
    c.flops = (6 * flops - 4 * first) * (double)j.b;
    bench_row(b, &c);
    snprintf(shape, sizeof shape, "w=%lld,n=%lld", (long long)w, (long long)j.n);
    c.op = "hessian_trace", c.call = call_trace, c.check = check_trace;
    c.flops = ((1 + K) * flops - K * first) * (double)j.n;
    if (bench_selected(b, &c))
        printf("# trace %s w=%lld %.9g\n", kind, (long long)w, trace(&j, "cpu", j.n));
    bench_row(b, &c);
    close_side(&j.cpu);
    free(j.params), free(j.direction), free(j.x), free(j.label);
    lips_net_free(j.net);
}

int main(int argc, char **argv)
{
    bench *b = bench_begin(argc, argv);
    rows(b, "convnet", 4);
    rows(b, "convnet", 16);
    rows(b, "convnet", 64);
    rows(b, "mlp", 16);
    rows(b, "mlp", 128);
    rows(b, "mlp", 512);
    return bench_end(b);
}
