/*
 * The measuring pass on convnet (3 x 32 x 32) and mlp (28 x 28, one hidden layer), K = 10, by what
 * is asked of it:
 *
 *   gradient         one ordinary gradient of the n samples (forward, loss, gradient), as in training
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

#include "measure/measure.h"

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
    lips_net *net;
    double *params;
    float *x;
    int64_t *label;
    int64_t checked;
    const char *metrics;
    /* the ordinary gradient */
    lips_backend *be;
    lips_exec *ex;
    void *p, *grads;
    int64_t chunk;
} job;

static lips_measure_args measure_args(const job *j, const char *backend, int64_t n, bool per_sample)
{
    lips_measure_args a = {.ops = lips_backend_find(backend),
                           .threads = 1,
                           .batch = strcmp(backend, "ref") == 0 ? 1 : 0,
                           .per_sample = per_sample,
                           .network = {.net = j->net, .params = j->params, .epoch = -1},
                           .inputs = {.n = n, .x = j->x, .label = j->label, .split = "inputs"}};
    bench_ok(lips_metrics_parse(&a.metrics, j->metrics));
    return a;
}

static lips_measurement measure(const job *j, const char *backend, int64_t n, bool per_sample)
{
    lips_measurement m;
    lips_measure_args a = measure_args(j, backend, n, per_sample);
    bench_ok(lips_measure_run(&m, &a));
    return m;
}

static void call_measure(void *user)
{
    const job *j = user;
    lips_measurement m = measure(j, "cpu", SAMPLES, false);
    lips_measurement_free(&m);
}

static double check_samples(void *user, int64_t *wrong)
{
    const job *j = user;
    lips_measurement got = measure(j, "cpu", j->checked, true);
    lips_measurement want = measure(j, "ref", j->checked, true);
    float *narrow = bench_take(j->checked, sizeof *narrow);
    double worst = 0;
    for (int s = 0; s < want.n_samples; s++) {
        for (int64_t i = 0; i < j->checked; i++)
            narrow[i] = (float)got.samples[s].v[i];
        double error = bench_error(narrow, want.samples[s].v, j->checked, 1e-5, wrong);
        worst = error > worst || isnan(error) ? error : worst;
    }
    free(narrow);
    lips_measurement_free(&got);
    lips_measurement_free(&want);
    return worst;
}

/* Gradient of the mean loss of n samples, chunk by chunk as the trainer does. */
static void gradient(const job *j, lips_backend *be, lips_exec *ex, void *grads, int64_t chunk,
                     int64_t n)
{
    int64_t features = lips_tensor_features(lips_exec_input(ex));
    bench_ok(be->ops->zero(be, grads, (size_t)lips_net_params(j->net) * be->ops->real_bytes));
    for (int64_t i = 0; i < n; i += chunk) {
        lips_tensor z, dz;
        lips_exec_input(ex)->b = n - i < chunk ? n - i : chunk;
        bench_ok(be->ops->upload(be, lips_exec_input(ex), j->x + i * features, NULL));
        bench_ok(lips_exec_forward(ex, false, &z));
        bench_ok(lips_exec_seed(ex, 1, &dz));
        bench_ok(be->ops->loss(be, &(lips_loss_args){.kind = LIPS_LOSS_CROSS_ENTROPY,
                                                     .z = z,
                                                     .labels = j->label + i,
                                                     .dz = &dz,
                                                     .scale = 1.0 / (double)n}));
        bench_ok(lips_exec_grad_add(ex, grads));
    }
}

static void open_gradient(job *j, lips_backend *be)
{
    int64_t p = lips_net_params(j->net);
    size_t bytes = (size_t)p * be->ops->real_bytes;
    j->be = be;
    j->chunk = lips_net_chunk(j->net, be, SAMPLES);
    bench_ok(be->ops->alloc(be, &j->p, bytes));
    bench_ok(be->ops->alloc(be, &j->grads, bytes));
    bench_ok(be->ops->write(be, j->p, 0, j->params, p));
    bench_ok(lips_exec_create(&j->ex, j->net, be, &(lips_exec_spec){.cap = j->chunk, .t = 1}));
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
    int64_t p = lips_net_params(j->net);
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
    int64_t p = lips_net_params(j->net);
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
    j->metrics = metrics;
    c.op = op;
    c.call = call_measure;
    c.check = flops > 0 ? check_samples : NULL;
    c.flops = flops * SAMPLES;
    bench_row(b, &c);
}

static void rows(bench *b, const char *kind, int64_t w)
{
    bool conv = strcmp(kind, "convnet") == 0;
    int64_t side = conv ? 32 : 28, channels = conv ? 3 : 1;
    lips_model_spec spec = {
        .kind = kind, .width = w, .depth = 1, .classes = K, .c = channels, .h = side, .w = side};
    job j = {.checked = conv && w > 16 ? 1 : 4, .metrics = all_passes};
    bench_ok(lips_net_create(&j.net, &spec));
    double flops = lips_net_forward_flops(j.net), first = first_flops(j.net);
    j.params = bench_take(lips_net_params(j.net), sizeof *j.params);
    j.x = bench_take(SAMPLES * channels * side * side, sizeof *j.x);
    j.label = bench_take(SAMPLES, sizeof *j.label);
    bench_fill_params(j.net, j.params);
    bench_fill_samples(j.net, SAMPLES, j.x, j.label);
    open_gradient(&j, bench_backend(b));
    char shape[64];
    snprintf(shape, sizeof shape, "w=%lld,n=%d", (long long)w, SAMPLES);
    bench_case c = {.op = "gradient",
                    .variant = kind,
                    .dtype = "f32",
                    .shape = shape,
                    .bytes = 4.0 * (double)(SAMPLES * channels * side * side) +
                             8.0 * (double)lips_net_params(j.net),
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
        j.metrics = all_passes;
        lips_measure_args a = measure_args(&j, "cpu", SAMPLES, false);
        bench_ok(lips_measure_plan_bytes(&a, &bytes));
        printf("# plan %s w=%lld %.1f MB\n", kind, (long long)w, (double)bytes * 1e-6);
    }
    close_gradient(&j);
    free(j.params), free(j.x), free(j.label);
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
