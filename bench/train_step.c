/*
 * Whole training steps: gather a batch of 128, forward, loss, gradient, Adam. Samples per second
 * per core = 128 / med_us. bench/peer/train_step.py does the same in PyTorch and prints the ratio.
 * Operands as in training: 4000 samples, drawn anew for each step. Bytes are not counted; flops are
 * those of the layers' products (the first layer's input gradient is not needed).
 */
#include "common.h"

#include "base/random.h"
#include "nn/exec.h"

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

/* One backend's half of the check: the first CHECKED samples at the initial weights. Training ends
 * near a minimum, where the gradient is a difference of large terms. */
typedef struct half {
    lips_backend *be;
    lips_exec *ex;
    void *p, *g, *buffers;
    lips_tensor z;
} half;

static void half_forward(half *h, job *j, lips_backend *be, const double *init)
{
    const lips_ops *o = be->ops;
    int64_t n_buffers = lips_net_buffers(j->net);
    *h = (half){.be = be};
    bench_ok(o->alloc(be, &h->p, (size_t)j->n * o->real_bytes));
    bench_ok(o->alloc(be, &h->g, (size_t)j->n * o->real_bytes));
    bench_ok(o->alloc(be, &h->buffers, (size_t)(n_buffers + 1) * o->real_bytes));
    bench_ok(o->write(be, h->p, 0, init, j->n));
    bench_ok(o->write(be, h->buffers, 0, init + j->n, n_buffers));
    bench_ok(
        lips_exec_create(&h->ex, j->net, be, &(lips_exec_spec){.cap = CHECKED, .training = true}));
    lips_exec_set_params(h->ex, h->p, h->buffers);
    lips_exec_input(h->ex)->b = CHECKED;
    bench_ok(o->upload(be, lips_exec_input(h->ex), j->x, NULL));
    bench_ok(lips_exec_forward(h->ex, true, &h->z));
}

static void half_gradient(half *h, job *j, double *out)
{
    int64_t labels[CHECKED];
    lips_tensor dz;
    for (int i = 0; i < CHECKED; i++)
        labels[i] = i % CLASSES;
    bench_ok(lips_exec_seed(h->ex, 1, &dz));
    bench_ok(h->be->ops->loss(h->be, &(lips_loss_args){.kind = LIPS_LOSS_CROSS_ENTROPY,
                                                       .z = h->z,
                                                       .labels = labels,
                                                       .dz = &dz,
                                                       .scale = 1.0 / CHECKED}));
    bench_ok(lips_exec_grad(h->ex, h->g));
    bench_ok(h->be->ops->read(h->be, out, h->g, 0, j->n));
}

static void half_free(half *h)
{
    void *done[] = {h->p, h->g, h->buffers};
    lips_exec_free(h->ex);
    for (int i = 0; i < 3; i++)
        h->be->ops->release(h->be, done[i]);
}

/* A ReLU whose input is within rounding of 0 may fall on either side, and both gradients are then
 * right: one such among 590 000 activations moves the gradient by 1e-4..5e-3 of its norm
 * (convnet_bn w=8: 10 of 150 draws of the inputs have one with Winograd's forward, 7 with the
 * direct one; the others agree to 1e-6). So ref takes over the side of every such ReLU and the
 * gradients are compared at the same masks. Returns how many differed by more than rounding: by
 * more than 1e-5 of the root mean square, ten times the forward passes' relative error. */
static int64_t same_masks(half *ref, half *cpu, const lips_net *net)
{
    int64_t far = 0;
    for (int v = 0; v < net->n_values; v++) {
        lips_tensor a = lips_exec_value(ref->ex, v), b = lips_exec_value(cpu->ex, v);
        int64_t n = a.b * lips_tensor_features(&a);
        double *mine, *other, squares = 0;
        if (!net->values[v].relu)
            continue;
        mine = malloc((size_t)(2 * n) * sizeof *mine);
        if (!mine)
            bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
        other = mine + n;
        bench_ok(ref->be->ops->download(ref->be, mine, &a));
        bench_ok(cpu->be->ops->download(cpu->be, other, &b));
        for (int64_t i = 0; i < n; i++)
            squares += mine[i] * mine[i];
        for (int64_t i = 0; i < n; i++)
            if ((mine[i] > 0) != (other[i] > 0)) {
                far += !(fmax(mine[i], other[i]) <= 1e-5 * sqrt(squares / (double)n));
                mine[i] = other[i];
            }
        bench_ok(ref->be->ops->upload_f64(ref->be, &a, mine));
        free(mine);
    }
    return far;
}

/* The gradient against ref's. */
static double check(void *user, int64_t *wrong)
{
    job *j = user;
    lips_backend *be = NULL;
    half ref, cpu;
    double *want = calloc((size_t)(3 * j->n + lips_net_buffers(j->net)), sizeof *want);
    double norm = 0, diff = 0;
    if (!want)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    double *got = want + j->n, *init = got + j->n;
    bench_ok(lips_net_init(j->net, LIPS_INIT_PYTORCH, 1, init, init + j->n));
    bench_ok(lips_backend_find("ref")->open(&be, 0));
    half_forward(&ref, j, be, init);
    half_forward(&cpu, j, bench_backend(j->b), init);
    *wrong = same_masks(&ref, &cpu, j->net);
    half_gradient(&ref, j, want);
    half_gradient(&cpu, j, got);
    half_free(&ref);
    half_free(&cpu);
    be->ops->close(be);
    for (int64_t i = 0; i < j->n; i++) {
        norm += want[i] * want[i];
        diff += (got[i] - want[i]) * (got[i] - want[i]);
    }
    free(want);
    *wrong += !(norm > 0 && diff <= 1e-10 * norm);
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
    for (int bn = 0; bn < 2; bn++)
        for (int64_t w = 1; w <= 16; w *= 2)
            row(b, &(lips_model_spec){.kind = "resnet18",
                                      .width = w,
                                      .classes = CLASSES,
                                      .c = 3,
                                      .h = 32,
                                      .w = 32,
                                      .batch_norm = bn});
    for (int64_t w = 1; w <= 64; w *= w < 4 ? 2 : 4)
        row(b, &(lips_model_spec){.kind = "vit",
                                  .width = w,
                                  .depth = 6,
                                  .classes = CLASSES,
                                  .c = 3,
                                  .h = 32,
                                  .w = 32});
    return bench_end(b);
}
