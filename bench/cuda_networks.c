/*
 * Whole networks on the cuda backend: the measuring pass, convnet (3 x 32 x 32) and mlp (28 x 28,
 * one hidden layer) at w = 1, 4, 8, 16, 32, 64:
 *
 *   jacobian         exact operator and Frobenius norms of the Jacobian of n images, K = 10 and
 * 100; f32, and with backward passes in TF32 and BF16 gradient         one ordinary gradient of the
 * n images, in blocks of BLOCK gradient_norms   each image's gradient norm, per layer and in all
 *   train_step       a batch of 128 with Adam by the trainer itself, as a CUDA graph and directly
 *
 * Whole calls from host memory to the results, uploads included, by the clock on the wall.
 * Operations as in bench/measure.c. err_rel: per-sample values of the first images against ref; of
 * train_step, the weights after two steps against the cpu backend's. Predictions: the layers'
 * products, poolings and Grams as cuda_kernels predicts them, and the launches. bench/peer has the
 * same in PyTorch. usage: cuda_networks [SELECT]; environment as cuda_kernels
 */
#include "common.h"
#include "gpu_op.h"
#include "network.h"

#include "config/options.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 10000, BLOCK = 1000, BATCH = 128, STEPS = 20, CHECKED_STEPS = 2, MEAN_OVER = 16 };
static const int64_t widths[] = {1, 4, 8, 16, 32, 64};
enum { WIDTHS = sizeof widths / sizeof *widths };
/* Of the host's time, with nothing recorded; and from one node of a graph to the next. */
static const double direct_seconds = 4e-6, node_seconds = 1.2e-6;

static const char *const precisions[] = {"f32", "tf32", "bf16"};

/* ---- predictions ---- */

static gpu_shape layer_shape(const lips_layer_info *l, int64_t b, int64_t t)
{
    return (gpu_shape){
        .b = b, .t = t, .c = l->c, .h = l->h, .w = l->w, .o = l->o, .geom = l->geom, .pool = 2};
}

/* Seconds of a batch of b: forward, vjp of t stacked cotangents down to the input if `input`, and
 * per layer its weight gradient or its per-sample Gram, or neither. */
static double passes(gpu *g, const lips_net *net, int64_t b, int64_t t, lips_precision back,
                     bool input, const char *each, int *launches)
{
    const lips_layer_info *l;
    double sum = 0;
    for (int i = 1; i <= lips_net_layers(net); i++) {
        l = lips_net_layer(net, i);
        const gpu_shape one = layer_shape(l, b, 1), many = layer_shape(l, b, t);
        char name[32];
#define OP(suffix) (snprintf(name, sizeof name, "%s_%s", l->conv ? "conv" : "linear", suffix), name)
        sum += gpu_op_predict(g, OP("forward"), one, LIPS_PRECISION_F32, launches);
        if (input || i > 1)
            sum += gpu_op_predict(g, OP("vjp"), many, back, launches);
        if (each)
            sum += gpu_op_predict(g, OP(each), one, back, launches);
#undef OP
        const lips_layer_info *next = i < lips_net_layers(net) ? lips_net_layer(net, i + 1) : NULL;
        if (!next || l->oh * l->ow == next->h * next->w)
            continue;
        const gpu_shape pool = {.b = b,
                                .t = 1,
                                .c = l->o,
                                .h = l->oh,
                                .w = l->ow,
                                .pool = next->h == 1 ? 0 : l->oh / next->h};
        gpu_shape pooled = pool;
        pooled.t = t;
        sum += gpu_op_predict(g, "avgpool_forward", pool, LIPS_PRECISION_F32, launches);
        sum += gpu_op_predict(g, "avgpool_vjp", pooled, LIPS_PRECISION_F32, launches);
    }
    return sum;
}

static double predict_jacobian(gpu *g, const lips_net *net, int64_t n, lips_precision back)
{
    const lips_model_spec *s = lips_net_spec(net);
    const gpu_shape x = {.b = BLOCK, .t = s->classes, .c = s->c, .h = s->h, .w = s->w};
    int launches = 0;
    double block = passes(g, net, BLOCK, s->classes, back, true, NULL, &launches);
    block += gpu_op_predict(g, "gram", x, LIPS_PRECISION_F32, &launches);
    block += 5 * gpu_op_predict(g, "norms",
                                (gpu_shape){.b = BLOCK, .t = s->classes, .c = 1, .h = 1, .w = 1},
                                LIPS_PRECISION_F32, &launches);
    return (block + launches * GPU_LAUNCH_SECONDS) * (double)n / BLOCK;
}

static double predict_gradient(gpu *g, const lips_net *net, int64_t n, const char *each)
{
    int launches = 0;
    const double block = passes(g, net, BLOCK, 1, LIPS_PRECISION_F32, false, each, &launches);
    return (block + launches * GPU_LAUNCH_SECONDS) * (double)n / BLOCK;
}

/* The device's own time of a training step, its launches counted apart. */
static double predict_work(gpu *g, const lips_net *net, lips_precision precision, int *launches)
{
    const gpu_shape params = {.b = 1, .t = 1, .c = 1, .h = 1, .w = 1, .o = lips_net_params(net)};
    const double sum = passes(g, net, BATCH, 1, precision, false, "grad", launches) +
                       gpu_op_predict(g, "adam", params, LIPS_PRECISION_F32, launches);
    *launches += 4 + lips_net_layers(net); /* gather, loss, its labels, zeroing; biases */
    return sum;
}

/* Op by op the device waits for the host where that is slower. */
static double predict_step(gpu *g, const lips_net *net, lips_precision precision, bool graph)
{
    int launches = 0;
    const double sum = predict_work(g, net, precision, &launches);
    const double device = sum + launches * (graph ? node_seconds : GPU_LAUNCH_SECONDS);
    const double host = graph ? 0 : launches * direct_seconds;
    return device > host ? device : host;
}

/* One step each of convnets of widths 1 to 16, several at once so that launches hide behind each
 * other's work, against PyTorch's eager steps one by one: some 55 launches, forward, loss, backward
 * and a fused Adam, that take its host at least 6 us each. */
static void predict_sweep(gpu *g)
{
    double ours = 0;
    for (int64_t w = 1; w <= 16; w++) {
        const lips_model_spec spec = bench_model("convnet", w, 10);
        lips_net *net = NULL;
        int launches = 0;
        bench_ok(lips_net_create(&net, &spec));
        ours += predict_work(g, net, LIPS_PRECISION_F32, &launches);
        lips_net_free(net);
    }
    const double theirs = 16 * 55 * 6e-6;
    gpu_target_of_bound(
        g, theirs >= 10 * ours,
        "sweep of convnets of widths 1..16 %.1f times as fast as the least that PyTorch's "
        "eager steps can take (%.2f ms), wanted 10 of what they take",
        theirs / ours, 1e3 * theirs);
}

/* What vmap(jacrev) of PyTorch cannot take less than: its convolutions in TF32 (its default) at
 * seven tenths of the rate, and for each value and cotangent five passes through memory: the
 * layer's input gradient reads and writes, the ReLU's reads two and writes one. */
static double predict_torch(gpu *g, const lips_net *net, int64_t n)
{
    const gpu_row products = {.flops = (double)(1 + lips_net_spec(net)->classes) *
                                       lips_net_forward_flops(net) * (double)n,
                              .unit = GPU_TF32};
    gpu_row values = {.unit = GPU_NONE};
    for (int i = 1; i <= lips_net_layers(net); i++) {
        const lips_layer_info *l = lips_net_layer(net, i);
        values.bytes += 4.0 * 5 * (double)(l->o * l->oh * l->ow);
    }
    values.bytes *= (double)(lips_net_spec(net)->classes * n);
    return gpu_floor(g, &products) / 0.7 + gpu_floor(g, &values);
}

/* ---- measuring ---- */

typedef struct job {
    gpu *g;
    bench_network b;
    bench_measuring how;
    int64_t n;
    /* the ordinary gradient */
    lips_exec *ex;
    void *p, *grads;
    int64_t block;
} job;

static lips_status call_measure(void *user)
{
    const job *j = user;
    lips_measurement m = bench_measure(&j->b, &j->how, j->n);
    lips_measurement_free(&m);
    return LIPS_OK;
}

static lips_status call_gradient(void *user)
{
    const job *j = user;
    lips_backend *be = &gpu_handle(j->g)->base;
    lips_tensor *in = lips_exec_input(j->ex), z, dz;
    const int64_t features = lips_tensor_features(in);
    LIPS_TRY(be->ops->zero(be, j->grads, (size_t)lips_net_params(j->b.net) * be->ops->real_bytes));
    for (int64_t i = 0; i < j->n; i += j->block) {
        in->b = j->n - i < j->block ? j->n - i : j->block;
        LIPS_TRY(be->ops->upload(be, in, j->b.x + i * features, NULL));
        LIPS_TRY(lips_exec_forward(j->ex, false, &z));
        LIPS_TRY(lips_exec_seed(j->ex, 1, &dz));
        LIPS_TRY(be->ops->loss(be, &(lips_loss_args){.kind = LIPS_LOSS_CROSS_ENTROPY,
                                                     .z = z,
                                                     .labels = j->b.label + i,
                                                     .dz = &dz,
                                                     .scale = 1.0 / (double)j->n}));
        LIPS_TRY(lips_exec_grad_add(j->ex, j->grads));
    }
    return LIPS_OK;
}

/* A row of the whole network. `call` NULL: prediction. */
static double network_row(gpu *g, job *j, const char *op, const char *dtype, double flops,
                          double predicted, lips_status (*call)(void *), bool checked)
{
    const lips_model_spec *s = lips_net_spec(j->b.net);
    char shape[96];
    snprintf(shape, sizeof shape, "w=%lld,n=%lld,K=%lld", (long long)s->width, (long long)j->n,
             (long long)s->classes);
    const gpu_row r = {.op = op,
                       .variant = s->kind,
                       .dtype = dtype,
                       .shape = shape,
                       .bytes = 4.0 * (double)(j->n * s->c * s->h * s->w),
                       .flops = flops * (double)j->n,
                       .unit = strstr(dtype, "tf32")   ? GPU_TF32
                               : strstr(dtype, "bf16") ? GPU_BF16
                                                       : GPU_F32,
                       .expected = 1,
                       .predicted = predicted};
    gpu_found found = {0};
    if (!gpu_selected(g, &r))
        return 0;
    if (!gpu_is_there(g))
        return gpu_print(g, &r, NULL);
    const double tolerance = strcmp(dtype, "f32") == 0 ? 1e-5 : 1e-2;
    if (checked) {
        found.checked = true;
        found.error =
            bench_measure_error(&j->b, &j->how, strcmp(s->kind, "mlp") && s->width > 16 ? 1 : 4,
                                tolerance, &found.wrong);
    }
    found.time = gpu_clock(g, call, j, GPU_WALL);
    return gpu_print(g, &r, &found);
}

/* For the comparison with another program: a comment line that it can read, the mean of the first
 * images. */
static void print_mean(const job *j, const char *what, const char *quantity)
{
    const lips_model_spec *s = lips_net_spec(j->b.net);
    char shape[96];
    snprintf(shape, sizeof shape, "w=%lld,n=%lld,K=%lld", (long long)s->width, (long long)j->n,
             (long long)s->classes);
    const gpu_row r = {.op = what, .variant = s->kind, .shape = shape};
    if (!gpu_is_there(j->g) || !gpu_selected(j->g, &r))
        return;
    lips_measurement m = bench_measure(&j->b, &j->how, j->n < MEAN_OVER ? j->n : MEAN_OVER);
    for (int i = 0; i < m.n_records; i++)
        if (strcmp(m.records[i].quantity, quantity) == 0) {
            printf("# %s %s w=%lld K=%lld %.9g\n", what, s->kind, (long long)s->width,
                   (long long)s->classes, m.records[i].mean);
            break;
        }
    lips_measurement_free(&m);
}

static void jacobian(gpu *g, const char *kind, int64_t w, int64_t classes, int64_t n)
{
    static const char *const dtypes[] = {"f32", "f32/tf32", "f32/bf16"};
    const lips_model_spec spec = bench_model(kind, w, classes);
    job j = {.g = g, .n = n, .how = {.backend = "cuda", .metrics = "jacobian", .threads = 1}};
    bench_network_make(&j.b, &spec, n);
    print_mean(&j, "mean", "jacobian");
    const double flops = (double)(1 + classes) * lips_net_forward_flops(j.b.net);
    double least = INFINITY;
    for (int p = LIPS_PRECISION_F32; p <= LIPS_PRECISION_BF16; p++) {
        j.how.arithmetic.backward = (lips_precision)p;
        const double t =
            network_row(g, &j, "jacobian", dtypes[p], flops,
                        predict_jacobian(g, j.b.net, n, (lips_precision)p), call_measure, true);
        least = t > 0 && t < least ? t : least;
    }
    const double wanted = w == 64 ? 4 : 10;
    if (!gpu_is_there(g) && isfinite(least) && strcmp(kind, "convnet") == 0 && classes == 10 &&
        (w <= 8 || w == 64))
        gpu_target_of_bound(
            g, predict_torch(g, j.b.net, n) >= wanted * least,
            "w=%lld exact operator norms %.1f times as fast as the least that PyTorch's "
            "vmap(jacrev) can take (%.1f ms), wanted %.0f of what it takes",
            (long long)w, predict_torch(g, j.b.net, n) / least, 1e3 * predict_torch(g, j.b.net, n),
            wanted);
    bench_network_free(&j.b);
}

static void open_gradient(job *j)
{
    lips_backend *be = &gpu_handle(j->g)->base;
    const size_t bytes = (size_t)lips_net_params(j->b.net) * be->ops->real_bytes;
    j->block = j->n < BLOCK ? j->n : BLOCK;
    bench_ok(be->ops->alloc(be, &j->p, bytes));
    bench_ok(be->ops->alloc(be, &j->grads, bytes));
    bench_ok(be->ops->write(be, j->p, 0, j->b.params, lips_net_params(j->b.net)));
    bench_ok(lips_exec_create(&j->ex, j->b.net, be, &(lips_exec_spec){.cap = j->block, .t = 1}));
    lips_exec_set_params(j->ex, j->p, NULL);
}

static void gradients(gpu *g, const char *kind, int64_t w, int64_t n)
{
    const lips_model_spec spec = bench_model(kind, w, 10);
    job j = {.g = g,
             .n = n,
             .how = {.backend = "cuda",
                     .metrics = "layer.loss_grad_param,landscape.param_grad",
                     .threads = 1}};
    bench_network_make(&j.b, &spec, n);
    const double flops = lips_net_forward_flops(j.b.net);
    print_mean(&j, "gradmean", "landscape.param_grad");
    if (gpu_is_there(g))
        open_gradient(&j);
    const double plain = network_row(g, &j, "gradient", "f32", 3 * flops,
                                     predict_gradient(g, j.b.net, n, "grad"), call_gradient, false);
    const double norms = network_row(g, &j, "gradient_norms", "f32", 2 * flops,
                                     predict_gradient(g, j.b.net, n, "gram"), call_measure, true);
    if (plain > 0 && norms > 0)
        gpu_target(g, norms <= plain,
                   "%s w=%lld: per-sample gradient norms %.2f of a plain gradient", kind,
                   (long long)w, norms / plain);
    if (gpu_is_there(g)) {
        lips_backend *be = &gpu_handle(g)->base;
        lips_exec_free(j.ex);
        be->ops->release(be, j.p);
        be->ops->release(be, j.grads);
    }
    bench_network_free(&j.b);
}

/* ---- training ---- */

static void set_key(lips_config *c, const char *key, const char *value)
{
    const lips_option *options;
    lips_options(&options);
    bench_ok(lips_option_set(&options[lips_option_find(key)], c, value));
}

static lips_config config(const lips_model_spec *s, lips_precision precision, bool graph)
{
    lips_config c;
    lips_config_defaults(&c);
    set_key(&c, "model", s->kind);
    set_key(&c, "batch", "128");
    set_key(&c, "optimizer", "adam");
    set_key(&c, "lr", "0.001");
    set_key(&c, "precision", precisions[precision]);
    if (lips_option_find("cuda_graph") >= 0)
        set_key(&c, "cuda_graph", graph ? "true" : "false");
    c.width = s->width;
    c.depth = s->depth;
    return c;
}

/* n samples of the benches as a training set. A view. */
static lips_dataset dataset(const bench_network *b, int64_t *source, int64_t n)
{
    const lips_model_spec *s = lips_net_spec(b->net);
    for (int64_t i = 0; i < n; i++)
        source[i] = i;
    return (lips_dataset){.c = s->c,
                          .h = s->h,
                          .w = s->w,
                          .classes = s->classes,
                          .train = {.n = n,
                                    .x = b->x,
                                    .label = b->label,
                                    .label_clean = b->label,
                                    .source_index = source},
                          .mean = {0},
                          .std = {1, 1, 1, 1}};
}

static lips_status call_epoch(void *user)
{
    return lips_trainer_run_epoch(user);
}

/* Weights after an epoch of the set. */
static double *trained(const bench_network *b, const lips_config *c, const lips_dataset *d,
                       const char *backend)
{
    lips_backend *be = NULL;
    lips_trainer *tr = NULL;
    const lips_arithmetic a = {.forward = c->precision,
                               .backward = c->precision,
                               .conv = c->cuda_conv,
                               .linear = c->cuda_linear};
    double *p = bench_take(lips_net_params(b->net), sizeof *p);
    double *buffers = bench_take(lips_net_buffers(b->net) + 1, sizeof *buffers);
    bench_ok(lips_backend_find(backend)->open(&be, 0));
    if (strcmp(backend, "cuda") == 0)
        bench_ok(lips_backend_arithmetic(be, &a));
    bench_ok(lips_trainer_create(&tr, c, b->net, d, be));
    bench_ok(lips_trainer_run_epoch(tr));
    bench_ok(lips_trainer_get_params(tr, p, buffers));
    lips_trainer_free(tr);
    be->ops->close(be);
    free(buffers);
    return p;
}

static void check_step(const bench_network *b, const lips_config *c, int64_t *source,
                       gpu_found *found)
{
    const int64_t n = lips_net_params(b->net);
    const lips_dataset d = dataset(b, source, CHECKED_STEPS * c->batch);
    double *want = trained(b, c, &d, "cpu"), *got = trained(b, c, &d, "cuda"), norm = 0, diff = 0;
    for (int64_t i = 0; i < n; i++) {
        norm += want[i] * want[i];
        diff += (got[i] - want[i]) * (got[i] - want[i]);
    }
    free(want), free(got);
    found->checked = true;
    found->error = sqrt(diff / norm);
    found->wrong = !(found->error <= (c->precision == LIPS_PRECISION_F32 ? 1e-3 : 2e-2));
}

static void step(gpu *g, const bench_network *b, int64_t *source, lips_precision precision,
                 bool graph)
{
    const lips_model_spec *s = lips_net_spec(b->net);
    const lips_config c = config(s, precision, graph);
    const int steps = gpu_is_tiny(g) ? CHECKED_STEPS : STEPS;
    const lips_dataset d = dataset(b, source, steps * BATCH);
    char shape[96];
    snprintf(shape, sizeof shape, "w=%lld,B=%d,%s", (long long)s->width, BATCH,
             graph ? "graph" : "direct");
    const gpu_row r = {.op = "train_step",
                       .variant = s->kind,
                       .dtype = precisions[precision],
                       .shape = shape,
                       .bytes = 4.0 * (double)(BATCH * s->c * s->h * s->w) +
                                28.0 * (double)lips_net_params(b->net),
                       .flops = 3 * BATCH * lips_net_forward_flops(b->net),
                       .unit = (gpu_unit)(GPU_F32 + (int)precision),
                       .predicted = predict_step(g, b->net, precision, graph)};
    gpu_found found = {0};
    if (!gpu_selected(g, &r))
        return;
    if (!gpu_is_there(g)) {
        gpu_print(g, &r, NULL);
        return;
    }
    lips_backend *be = &gpu_handle(g)->base;
    lips_trainer *tr = NULL;
    check_step(b, &c, source, &found);
    bench_ok(be->ops->set_precision(be, precision, precision));
    bench_ok(lips_trainer_create(&tr, &c, b->net, &d, be));
    found.time = gpu_clock(g, call_epoch, tr, GPU_WALL);
    found.time.p5 /= steps, found.time.median /= steps, found.time.p95 /= steps;
    gpu_print(g, &r, &found);
    lips_trainer_free(tr);
    bench_ok(be->ops->set_precision(be, LIPS_PRECISION_F32, LIPS_PRECISION_F32));
}

static void steps(gpu *g, const char *kind, int64_t w)
{
    const lips_model_spec spec = bench_model(kind, w, 10);
    const bool recorded = lips_option_find("cuda_graph") >= 0;
    bench_network b;
    int64_t *source = bench_take(STEPS * BATCH, sizeof *source);
    bench_network_make(&b, &spec, STEPS * BATCH);
    for (int p = LIPS_PRECISION_F32; p <= LIPS_PRECISION_BF16; p++) {
        step(g, &b, source, (lips_precision)p, false);
        if (recorded)
            step(g, &b, source, (lips_precision)p, true);
    }
    bench_network_free(&b);
    free(source);
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = {"convnet", "mlp"};
    gpu *g = gpu_begin(argc, argv);
    const int last = gpu_is_tiny(g) ? 2 : WIDTHS;
    const int64_t n = gpu_is_tiny(g) ? 5 : N;
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < last; i++)
            jacobian(g, kinds[k], widths[i], 10, n);
        jacobian(g, kinds[k], gpu_is_tiny(g) ? 1 : 4, 100, n);
        for (int i = 0; i < last; i++)
            gradients(g, kinds[k], widths[i], n);
        for (int i = 0; i < last; i++)
            steps(g, kinds[k], widths[i]);
    }
    if (!gpu_is_there(g))
        predict_sweep(g);
    return gpu_end(g);
}
