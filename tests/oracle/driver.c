/*
 * Runs one network for the comparison with PyTorch (test_network.py) and writes everything it
 * computed in float64.
 *
 * usage: driver BACKEND WEIGHTS INPUTS OUT model=mlp width=4 depth=1 classes=3 c=1 h=4 w=4
 *        batch_norm=0 loss=0 optimizer=sgd lr=0.1 momentum=0.9 weight_decay=0 steps=3 batch=4
 *
 * OUT: logits, loss, jacobian (N,K,D) and grad (P) in evaluation mode; grad_training; then params
 * and buffers after `steps` steps on consecutive batches. INPUTS: x (N,C,H,W), y (N) I64 or (N,K).
 */
#include "nn/net.h"
#include "train/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct run {
    const lips_ops *ops;
    lips_backend *be;
    lips_net *net;
    lips_exec *ex;
    lips_model_spec spec;
    lips_loss_kind loss;
    int64_t n, features, n_params, n_buffers, steps, batch;
    bool adam;
    double lr, momentum, weight_decay;
    float *x, *targets;
    int64_t *labels;
    double *host_params, *host_buffers;
    void *params, *buffers, *grads, *m, *v;
    lips_st_out_tensor out[8];
    int n_out;
} run;

/* The value of key among the arguments. */
static const char *option(char **argv, const char *key)
{
    size_t n = strlen(key);
    for (; *argv; argv++)
        if (!strncmp(*argv, key, n) && (*argv)[n] == '=')
            return *argv + n + 1;
    fprintf(stderr, "driver: %s is missing\n", key);
    exit(2);
}

static int64_t integer(char **argv, const char *key)
{
    return strtoll(option(argv, key), NULL, 10);
}

static void *must_alloc(size_t bytes)
{
    void *p = calloc(1, bytes ? bytes : 1);
    if (!p)
        abort();
    return p;
}

static double *emit(run *r, const char *name, int ndim, int64_t a, int64_t b, int64_t c)
{
    int64_t count = a * (ndim > 1 ? b : 1) * (ndim > 2 ? c : 1);
    double *data = must_alloc((size_t)count * sizeof *data);
    r->out[r->n_out++] = (lips_st_out_tensor){
        .name = name, .dtype = LIPS_F64, .ndim = ndim, .shape = {a, b, c}, .data = data};
    return data;
}

static lips_status read_inputs(run *r, const char *path)
{
    lips_st_file *f = NULL;
    LIPS_TRY(lips_st_read(&f, path));
    const lips_st_tensor *x = lips_st_find(f, "x"), *y = lips_st_find(f, "y");
    r->n = x->shape[0];
    r->features = x->count / r->n;
    r->x = must_alloc((size_t)x->count * sizeof *r->x);
    LIPS_TRY(lips_st_to_f32(x, r->x));
    if (y->dtype == LIPS_I64) {
        r->labels = must_alloc((size_t)y->count * sizeof *r->labels);
        LIPS_TRY(lips_st_to_i64(y, r->labels));
    } else {
        r->targets = must_alloc((size_t)y->count * sizeof *r->targets);
        LIPS_TRY(lips_st_to_f32(y, r->targets));
    }
    lips_st_free(f);
    return LIPS_OK;
}

static lips_status set_up(run *r, char **argv)
{
    r->spec = (lips_model_spec){.kind = option(argv, "model"),
                                .width = integer(argv, "width"),
                                .depth = integer(argv, "depth"),
                                .classes = integer(argv, "classes"),
                                .c = integer(argv, "c"),
                                .h = integer(argv, "h"),
                                .w = integer(argv, "w"),
                                .batch_norm = integer(argv, "batch_norm")};
    r->loss = (lips_loss_kind)integer(argv, "loss");
    r->adam = !strcmp(option(argv, "optimizer"), "adam");
    r->lr = strtod(option(argv, "lr"), NULL);
    r->momentum = strtod(option(argv, "momentum"), NULL);
    r->weight_decay = strtod(option(argv, "weight_decay"), NULL);
    r->steps = integer(argv, "steps");
    r->batch = integer(argv, "batch");
    r->ops = lips_backend_find(argv[1]);
    LIPS_TRY(lips_net_create(&r->net, &r->spec));
    r->n_params = lips_net_params(r->net);
    r->n_buffers = lips_net_buffers(r->net);
    r->host_params = must_alloc((size_t)r->n_params * sizeof(double));
    r->host_buffers = must_alloc((size_t)r->n_buffers * sizeof(double));
    lips_st_file *f = NULL;
    LIPS_TRY(lips_st_read(&f, argv[2]));
    LIPS_TRY(lips_weights_fill(r->net, f, r->host_params, r->host_buffers));
    lips_st_free(f);
    LIPS_TRY(read_inputs(r, argv[3]));
    LIPS_TRY(r->ops->open(&r->be, 0));
    LIPS_TRY(
        lips_exec_create(&r->ex, r->net, r->be,
                         &(lips_exec_spec){.cap = r->n, .t = r->spec.classes, .training = true}));
    void **vectors[] = {&r->params, &r->grads, &r->m, &r->v};
    for (int i = 0; i < 4; i++)
        LIPS_TRY(r->ops->alloc(r->be, vectors[i], (size_t)r->n_params * r->ops->real_bytes));
    LIPS_TRY(r->ops->alloc(r->be, &r->buffers, (size_t)r->n_buffers * r->ops->real_bytes));
    lips_exec_set_params(r->ex, r->params, r->buffers);
    return LIPS_OK;
}

static lips_status push(run *r)
{
    LIPS_TRY(r->ops->write(r->be, r->params, 0, r->host_params, r->n_params));
    return r->ops->write(r->be, r->buffers, 0, r->host_buffers, r->n_buffers);
}

/* Gradient of the mean loss of samples first..first+b-1 into r->grads; losses (b) if not NULL. */
static lips_status gradient(run *r, int64_t first, int64_t b, bool training, double *losses,
                            double *logits)
{
    lips_tensor z, seed, *input = lips_exec_input(r->ex);
    void *loss = NULL;
    input->b = b;
    LIPS_TRY(r->ops->upload(r->be, input, r->x + first * r->features, NULL));
    LIPS_TRY(lips_exec_forward(r->ex, training, &z));
    if (logits)
        LIPS_TRY(r->ops->download(r->be, logits, &z));
    LIPS_TRY(lips_exec_seed(r->ex, 1, &seed));
    LIPS_TRY(r->ops->alloc_shared(r->be, &loss, (size_t)b * sizeof(double)));
    LIPS_TRY(r->ops->loss(
        r->be,
        &(lips_loss_args){.kind = r->loss,
                          .z = z,
                          .labels = r->labels ? r->labels + first : NULL,
                          .targets = r->targets ? r->targets + first * r->spec.classes : NULL,
                          .loss = loss,
                          .dz = &seed,
                          .scale = 1 / (double)b}));
    LIPS_TRY(lips_exec_grad(r->ex, r->grads));
    LIPS_TRY(r->ops->sync(r->be));
    if (losses)
        memcpy(losses, loss, (size_t)b * sizeof *losses);
    r->ops->release(r->be, loss);
    return LIPS_OK;
}

/* The whole Jacobian, for the comparison alone. */
static lips_status jacobian(run *r)
{
    lips_tensor seed, dx;
    int64_t k = r->spec.classes;
    LIPS_TRY(lips_exec_seed(r->ex, k, &seed));
    LIPS_TRY(r->ops->eye(r->be, &seed, 1));
    LIPS_TRY(lips_exec_vjp(r->ex, &(lips_vjp_args){.t = k, .want_input = true, .dx = &dx}));
    return r->ops->download(r->be, emit(r, "jacobian", 3, r->n, k, r->features), &dx);
}

static lips_status step(run *r, int64_t number)
{
    int64_t first = number * r->batch % (r->n - r->batch + 1);
    LIPS_TRY(gradient(r, first, r->batch, true, NULL, NULL));
    if (r->adam)
        return r->ops->adam(r->be, &(lips_adam_args){.p = r->params,
                                                     .g = r->grads,
                                                     .m = r->m,
                                                     .v = r->v,
                                                     .n = r->n_params,
                                                     .step = number + 1,
                                                     .lr = r->lr,
                                                     .beta1 = 0.9,
                                                     .beta2 = 0.999,
                                                     .eps = 1e-8,
                                                     .weight_decay = r->weight_decay});
    return r->ops->sgd(r->be, &(lips_sgd_args){.p = r->params,
                                               .g = r->grads,
                                               .m = r->m,
                                               .n = r->n_params,
                                               .lr = r->lr,
                                               .momentum = r->momentum,
                                               .weight_decay = r->weight_decay});
}

static lips_status work(run *r)
{
    LIPS_TRY(push(r));
    double *loss = emit(r, "loss", 1, r->n, 1, 1),
           *logits = emit(r, "logits", 2, r->n, r->spec.classes, 1);
    LIPS_TRY(gradient(r, 0, r->n, false, loss, logits));
    LIPS_TRY(r->ops->read(r->be, emit(r, "grad", 1, r->n_params, 1, 1), r->grads, 0, r->n_params));
    LIPS_TRY(jacobian(r));
    LIPS_TRY(gradient(r, 0, r->n, true, NULL, NULL));
    LIPS_TRY(r->ops->read(r->be, emit(r, "grad_training", 1, r->n_params, 1, 1), r->grads, 0,
                          r->n_params));
    LIPS_TRY(push(r));
    for (int64_t i = 0; i < r->steps; i++)
        LIPS_TRY(step(r, i));
    LIPS_TRY(r->ops->sync(r->be));
    LIPS_TRY(
        r->ops->read(r->be, emit(r, "params", 1, r->n_params, 1, 1), r->params, 0, r->n_params));
    if (r->n_buffers)
        LIPS_TRY(r->ops->read(r->be, emit(r, "buffers", 1, r->n_buffers, 1, 1), r->buffers, 0,
                              r->n_buffers));
    return LIPS_OK;
}

static void tear_down(run *r)
{
    lips_exec_free(r->ex);
    void *vectors[] = {r->params, r->buffers, r->grads, r->m, r->v};
    for (int i = 0; r->be && i < 5; i++)
        if (vectors[i])
            r->ops->release(r->be, vectors[i]);
    if (r->be)
        r->ops->close(r->be);
    lips_net_free(r->net);
    for (int i = 0; i < r->n_out; i++)
        free((void *)(size_t)r->out[i].data);
    free(r->x), free(r->targets), free(r->labels), free(r->host_params), free(r->host_buffers);
}

int main(int argc, char **argv)
{
    run r = {0};
    if (argc < 6) {
        fprintf(stderr, "usage: driver BACKEND WEIGHTS INPUTS OUT key=value...\n");
        return 2;
    }
    lips_status st = set_up(&r, argv);
    if (st == LIPS_OK)
        st = work(&r);
    if (st == LIPS_OK)
        st = lips_st_write(argv[4], r.out, r.n_out, NULL, 0);
    if (st != LIPS_OK)
        fprintf(stderr, "driver: %s\n", lips_error());
    tear_down(&r);
    return st == LIPS_OK ? 0 : 1;
}
