/*
 * The measuring pass on convnet (3 x 32 x 32) and mlp (28 x 28, one hidden layer), K = 10, by what
 * is asked of it:
 *
 *   gradient         one ordinary gradient of the n samples (forward, loss, gradient), as in
 *                    training
 *   gradient_norms   each sample's parameter gradient norm, per layer and in all
 *   measure_B        the exact Jacobian norms (section B)
 *   measure_BCH      sections B and C and the exact Hessian trace, but for
 *   weight_norms     the layers' norms of section C, once per network whatever n is
 *
 * Operations are those of forward and cotangents, the Grams' not counted: 3 F - F_1 a gradient, 2 F
 * - F_1 its norms, (1 + K) F the others, with F_1 the first layer's part of F; of weight_norms
 * none. err_rel: per-sample values of the first samples against ref, the worst of all series; a
 * gradient against ref's. After its rows each network's planned memory for the pass on one thread.
 * At the end bench/peer/measure.py prints the ratios, and the same norms' time in PyTorch.
 */
#include "common.h"
#include "network.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { K = 10, SAMPLES = 128 };

static const char gradient_norms[] = "layer.loss_grad_param,landscape.param_grad";
static const char section_b[] = "B";
static const char all_passes[] = "B,layer.input_jacobian,layer.param_jacobian,layer.bias_jacobian,"
                                 "layer.loss_grad_input,layer.loss_grad_param,layer.act_norm,"
                                 "hessian.trace";
static const char weight_norms[] = "layer.weight_op,layer.weight_op_reshaped,layer.weight_fro";

typedef struct job {
    bench_network b;
    int64_t checked;
    bench_measuring how;
    /* the ordinary gradient */
    lips_backend *be;
    lips_exec *ex;
    void *p, *grads;
    int64_t chunk;
} job;

static void call_measure(void *user)
{
    const job *j = user;
    lips_measurement m = bench_measure(&j->b, &j->how, SAMPLES);
    lips_measurement_free(&m);
}

static double check_samples(void *user, int64_t *wrong)
{
    const job *j = user;
    return bench_measure_error(&j->b, &j->how, j->checked, 1e-5, wrong);
}

/* Gradient of the mean loss of n samples, chunk by chunk as the trainer does. */
static void gradient(const job *j, lips_backend *be, lips_exec *ex, void *grads, int64_t chunk,
                     int64_t n)
{
    int64_t features = lips_tensor_features(lips_exec_input(ex));
    bench_ok(be->ops->zero(be, grads, (size_t)lips_net_params(j->b.net) * be->ops->real_bytes));
    for (int64_t i = 0; i < n; i += chunk) {
        lips_tensor z, dz;
        lips_exec_input(ex)->b = n - i < chunk ? n - i : chunk;
        bench_ok(be->ops->upload(be, lips_exec_input(ex), j->b.x + i * features, NULL));
        bench_ok(lips_exec_forward(ex, false, &z));
        bench_ok(lips_exec_seed(ex, 1, &dz));
        bench_ok(be->ops->loss(be, &(lips_loss_args){.kind = LIPS_LOSS_CROSS_ENTROPY,
                                                     .z = z,
                                                     .labels = j->b.label + i,
                                                     .dz = &dz,
                                                     .scale = 1.0 / (double)n}));
        bench_ok(lips_exec_grad_add(ex, grads));
    }
}

static void open_gradient(job *j, lips_backend *be)
{
    int64_t p = lips_net_params(j->b.net);
    size_t bytes = (size_t)p * be->ops->real_bytes;
    j->be = be;
    j->chunk = lips_net_chunk(j->b.net, be, SAMPLES);
    bench_ok(be->ops->alloc(be, &j->p, bytes));
    bench_ok(be->ops->alloc(be, &j->grads, bytes));
    bench_ok(be->ops->write(be, j->p, 0, j->b.params, p));
    bench_ok(lips_exec_create(&j->ex, j->b.net, be, &(lips_exec_spec){.cap = j->chunk, .t = 1}));
    lips_exec_set_params(j->ex, j->p, NULL);
}

static void close_gradient(job *j)
{
    lips_exec_free(j->ex);
    j->be->ops->release(j->be, j->p);
    j->be->ops->release(j->be, j->grads);
}

static void call_gradient(void *user)
{
    const job *j = user;
    gradient(j, j->be, j->ex, j->grads, j->chunk, SAMPLES);
}

/* The gradient of the first samples, host f64. */
static double *first_gradient(const job *j, const char *backend)
{
    int64_t p = lips_net_params(j->b.net);
    double *out = bench_take(p, sizeof *out);
    job side = *j;
    lips_backend *be;
    bench_ok(lips_backend_find(backend)->open(&be, 0));
    open_gradient(&side, be);
    gradient(&side, be, side.ex, side.grads, side.chunk, j->checked);
    bench_ok(be->ops->read(be, out, side.grads, 0, p));
    close_gradient(&side);
    be->ops->close(be);
    return out;
}

static double check_gradient(void *user, int64_t *wrong)
{
    const job *j = user;
    int64_t p = lips_net_params(j->b.net);
    double *want = first_gradient(j, "ref"), *got = first_gradient(j, "cpu");
    float *narrow = bench_take(p, sizeof *narrow);
    for (int64_t i = 0; i < p; i++)
        narrow[i] = (float)got[i];
    double error = bench_error(narrow, want, p, 1e-4, wrong);
    free(want), free(got), free(narrow);
    return error;
}

/* The first layer's part of the forward pass. */
static double first_flops(const lips_net *net)
{
    const lips_layer_info *l = lips_net_layer(net, 1);
    double taps = l->conv ? (double)(l->c * l->geom.r * l->geom.r) : (double)(l->c * l->h * l->w);
    return 2 * (double)(l->o * l->oh * l->ow) * taps;
}

static void measure_row(bench *b, bench_case c, job *j, const char *op, const char *metrics,
                        double flops)
{
    j->how.metrics = metrics;
    c.op = op;
    c.call = call_measure;
    c.check = flops > 0 ? check_samples : NULL;
    c.flops = flops * SAMPLES;
    bench_row(b, &c);
}

static void rows(bench *b, const char *kind, int64_t w)
{
    bool conv = strcmp(kind, "convnet") == 0;
    const lips_model_spec spec = bench_model(kind, w, K);
    job j = {.checked = conv && w > 16 ? 1 : 4,
             .how = {.backend = "cpu", .metrics = all_passes, .threads = 1}};
    bench_network_make(&j.b, &spec, SAMPLES);
    double flops = lips_net_forward_flops(j.b.net), first = first_flops(j.b.net);
    open_gradient(&j, bench_backend(b));
    char shape[64];
    snprintf(shape, sizeof shape, "w=%lld,n=%d", (long long)w, SAMPLES);
    bench_case c = {.op = "gradient",
                    .variant = kind,
                    .dtype = "f32",
                    .shape = shape,
                    .bytes = 4.0 * (double)(SAMPLES * spec.c * spec.h * spec.w) +
                             8.0 * (double)lips_net_params(j.b.net),
                    .flops = (3 * flops - first) * SAMPLES,
                    .call = call_gradient,
                    .user = &j,
                    .check = check_gradient};
    bench_row(b, &c);
    measure_row(b, c, &j, "gradient_norms", gradient_norms, 2 * flops - first);
    measure_row(b, c, &j, "measure_B", section_b, (1 + K) * flops);
    measure_row(b, c, &j, "measure_BCH", all_passes, (1 + K) * flops);
    measure_row(b, c, &j, "weight_norms", weight_norms, 0);
    if (bench_selected(b, &c)) {
        size_t bytes;
        j.how.metrics = all_passes;
        lips_measure_args a = bench_measure_args(&j.b, &j.how, SAMPLES);
        bench_ok(lips_measure_plan_bytes(&a, &bytes));
        printf("# plan %s w=%lld %.1f MB\n", kind, (long long)w, (double)bytes * 1e-6);
    }
    close_gradient(&j);
    bench_network_free(&j.b);
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
