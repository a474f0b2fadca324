/*
 * Whole training steps: gather a batch of 128, forward, loss, gradient, Adam. Samples per second
 * per core = 128 / med_us. bench/peer/train_step.py does the same in PyTorch and prints the ratio.
 * Operands as in training: 4000 samples, drawn anew for each step. Bytes are not counted; flops are
 * those of the layers' products (the first layer's input gradient is not needed).
 */
#include "common.h"

#include "base/random.h"
#include "nn/net.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 4000, B = 128, BATCHES = 64, CLASSES = 10, CHECKED = 16 };

typedef struct job {
    bench *b;
    lips_net *net;
    lips_exec *ex;
    float *x, *p, *g, *m, *v, *buffers;
    int64_t n, step, chunk, order[BATCHES * B], labels[B];
    double loss[B];
} job;

/* Forward, loss and gradient of chunk samples of the batch, as the trainer does them. */
static void part(job *j, const int64_t *idx, int64_t first)
{
    lips_backend *be = bench_backend(j->b);
    lips_tensor *in = lips_exec_input(j->ex), z, dz;
    in->b = j->chunk;
    bench_ok(be->ops->upload(be, in, j->x, idx));
    bench_ok(lips_exec_forward(j->ex, true, &z));
    bench_ok(lips_exec_seed(j->ex, 1, &dz));
    bench_ok(be->ops->loss(be, &(lips_loss_args){.kind = LIPS_LOSS_CROSS_ENTROPY,
                                                 .z = z,
                                                 .labels = j->labels + first,
                                                 .loss = j->loss + first,
                                                 .dz = &dz,
                                                 .scale = 1.0 / B}));
    bench_ok(first ? lips_exec_grad_add(j->ex, j->g) : lips_exec_grad(j->ex, j->g));
}

static void run(void *user)
{
    job *j = user;
    lips_backend *be = bench_backend(j->b);
    const int64_t *idx = j->order + j->step % BATCHES * B;
    for (int i = 0; i < B; i++)
        j->labels[i] = idx[i] % CLASSES;
    for (int64_t i = 0; i < B; i += j->chunk)
        part(j, idx + i, i);
    j->step++;
    bench_ok(be->ops->adam(be, &(lips_adam_args){.p = j->p,
                                                 .g = j->g,
                                                 .m = j->m,
                                                 .v = j->v,
                                                 .n = j->n,
                                                 .step = j->step,
                                                 .lr = 1e-3,
                                                 .beta1 = 0.9,
                                                 .beta2 = 0.999,
                                                 .eps = 1e-8}));
}

/* The gradient of the mean loss over the first CHECKED samples at the present parameters, host f64.
 */
static void gradient(job *j, lips_backend *be, const double *params, const double *buffers,
                     double *out)
{
    const lips_ops *o = be->ops;
    int64_t n_buffers = lips_net_buffers(j->net), labels[CHECKED];
    void *p = NULL, *g = NULL, *buf = NULL;
    lips_exec *ex = NULL;
    lips_tensor z, dz;
    for (int i = 0; i < CHECKED; i++)
        labels[i] = i % CLASSES;
    bench_ok(o->alloc(be, &p, (size_t)j->n * o->real_bytes));
    bench_ok(o->alloc(be, &g, (size_t)j->n * o->real_bytes));
    bench_ok(o->alloc(be, &buf, (size_t)(n_buffers + 1) * o->real_bytes));
    bench_ok(o->write(be, p, 0, params, j->n));
    bench_ok(o->write(be, buf, 0, buffers, n_buffers));
    bench_ok(
        lips_exec_create(&ex, j->net, be, &(lips_exec_spec){.cap = CHECKED, .training = true}));
    lips_exec_set_params(ex, p, buf);
    lips_exec_input(ex)->b = CHECKED;
    bench_ok(o->upload(be, lips_exec_input(ex), j->x, NULL));
    bench_ok(lips_exec_forward(ex, true, &z));
    bench_ok(lips_exec_seed(ex, 1, &dz));
    bench_ok(o->loss(be, &(lips_loss_args){.kind = LIPS_LOSS_CROSS_ENTROPY,
                                           .z = z,
                                           .labels = labels,
                                           .dz = &dz,
                                           .scale = 1.0 / CHECKED}));
    bench_ok(lips_exec_grad(ex, g));
    bench_ok(o->read(be, out, g, 0, j->n));
    lips_exec_free(ex);
    void *done[] = {p, g, buf};
    for (int i = 0; i < 3; i++)
        o->release(be, done[i]);
}

/* The gradient against ref's, at the parameters that training has come to. A ReLU whose input is
 * within rounding of 0 may fall on either side: 1e-3 of the norm. */
static double check(void *user, int64_t *wrong)
{
    job *j = user;
    lips_backend *cpu = bench_backend(j->b), *ref = NULL;
    int64_t n_buffers = lips_net_buffers(j->net);
    double *v = calloc((size_t)(3 * j->n + n_buffers), sizeof *v), norm = 0, diff = 0;
    if (!v)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    double *want = v + j->n, *got = want + j->n, *buffers = got + j->n;
    /* At the initial weights: the timed steps end near a minimum, where the gradient is a
     * difference of large terms. Of some million activations a few lie on the other side of the
     * kink in f32, and may move the gradient by about 1e-3: a row past that is reported as wrong. */
    bench_ok(lips_net_init(j->net, LIPS_INIT_PYTORCH, 1, v, buffers));
    bench_ok(lips_backend_find("ref")->open(&ref, 0));
    gradient(j, ref, v, buffers, want);
    gradient(j, cpu, v, buffers, got);
    ref->ops->close(ref);
    for (int64_t i = 0; i < j->n; i++) {
        norm += want[i] * want[i];
        diff += (got[i] - want[i]) * (got[i] - want[i]);
    }
    free(v);
    *wrong = !(norm > 0 && diff <= 1e-6 * norm);
    return sqrt(diff / norm);
}

static float *vector(bench *b, int64_t n)
{
    void *p = NULL;
    bench_ok(bench_backend(b)->ops->alloc(bench_backend(b), &p, (size_t)n * sizeof(float)));
    return p;
}

static void set_up(job *j, const lips_model_spec *spec)
{
    lips_backend *be = bench_backend(j->b);
    bench_ok(lips_net_create(&j->net, spec));
    int64_t n = lips_net_params(j->net), buffers = lips_net_buffers(j->net);
    double *init = calloc((size_t)(n + buffers + 1), sizeof *init);
    if (!init)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    bench_ok(lips_net_init(j->net, LIPS_INIT_PYTORCH, 1, init, init + n));
    j->n = n;
    j->chunk = lips_net_chunk(j->net, be, B);
    j->p = vector(j->b, n);
    j->g = vector(j->b, n);
    j->m = vector(j->b, n);
    j->v = vector(j->b, n);
    j->buffers = vector(j->b, buffers + 1);
    bench_ok(be->ops->write(be, j->p, 0, init, n));
    bench_ok(be->ops->write(be, j->buffers, 0, init + n, buffers));
    free(init);
    bench_ok(
        lips_exec_create(&j->ex, j->net, be, &(lips_exec_spec){.cap = j->chunk, .training = true}));
    lips_exec_set_params(j->ex, j->p, j->buffers);
    j->x = bench_reals(j->b, SAMPLES * spec->c * spec->h * spec->w);
    lips_rng rng = {.seed = 1, .stream = LIPS_STREAM_TEST};
    for (uint64_t i = 0; i < BATCHES * B; i++)
        j->order[i] = (int64_t)lips_rng_below(&rng, i, SAMPLES);
}

static void row(bench *b, const lips_model_spec *spec)
{
    char shape[64], variant[32];
    snprintf(shape, sizeof shape, "w=%lld,B=%d", (long long)spec->width, B);
    snprintf(variant, sizeof variant, "%s%s", spec->kind, spec->batch_norm ? "_bn" : "");
    bench_case c = {.op = "train_step",
                    .variant = variant,
                    .dtype = "f32",
                    .shape = shape,
                    .call = run,
                    .check = check};
    if (!bench_selected(b, &c))
        return;
    job *j = calloc(1, sizeof *j);
    if (!j)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    j->b = b;
    set_up(j, spec);
    const lips_layer_info *first = lips_net_layer(j->net, 1);
    double layer1 = 2.0 * (double)(first->o * first->oh * first->ow * first->c) *
                    (first->conv ? (double)(first->geom.r * first->geom.r) : 1);
    c.flops = B * (3 * lips_net_forward_flops(j->net) - layer1);
    c.user = j;
    bench_row(b, &c);
    lips_exec_free(j->ex);
    lips_net_free(j->net);
    float *done[] = {j->x, j->p, j->g, j->m, j->v, j->buffers};
    for (int i = 0; i < 6; i++)
        bench_backend(b)->ops->release(bench_backend(b), done[i]);
    free(j);
}

int main(int argc, char **argv)
{
    bench *b = bench_begin(argc, argv);
    for (int64_t w = 2; w <= 512; w *= 2)
        row(b, &(lips_model_spec){.kind = "mlp",
                                  .width = w,
                                  .depth = 1,
                                  .classes = CLASSES,
                                  .c = 1,
                                  .h = 28,
                                  .w = 28});
    for (int bn = 0; bn < 2; bn++)
        for (int64_t w = 1; w <= 16; w *= 2)
            row(b, &(lips_model_spec){.kind = "convnet",
                                      .width = w,
                                      .classes = CLASSES,
                                      .c = 3,
                                      .h = 32,
                                      .w = 32,
                                      .batch_norm = bn});
    return bench_end(b);
}
