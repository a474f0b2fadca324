#include "netcase.h"

#include "base/random.h"
#include "cmocka_all.h"
#include "opcase.h"

#include <stdio.h>
#include <stdlib.h>

const netcase_model netcase_models[] = {
    {"mlp depth 0", {.kind = "mlp", .width = 1, .depth = 0, .classes = 3, .c = 1, .h = 3, .w = 4}},
    {"mlp depth 1", {.kind = "mlp", .width = 7, .depth = 1, .classes = 3, .c = 2, .h = 3, .w = 3}},
    {"mlp depth 3", {.kind = "mlp", .width = 5, .depth = 3, .classes = 4, .c = 1, .h = 5, .w = 1}},
    {"convnet w1", {.kind = "convnet", .width = 1, .classes = 3, .c = 2, .h = 4, .w = 4}},
    {"convnet w2", {.kind = "convnet", .width = 2, .classes = 4, .c = 3, .h = 4, .w = 4}},
    {"convnet w1 bn",
     {.kind = "convnet", .width = 1, .classes = 3, .c = 2, .h = 8, .w = 4, .batch_norm = true}},
    {"resnet18 w1", {.kind = "resnet18", .width = 1, .classes = 3, .c = 2, .h = 5, .w = 4}},
    {"resnet18 w1 bn",
     {.kind = "resnet18", .width = 1, .classes = 3, .c = 1, .h = 6, .w = 5, .batch_norm = true}},
    {"vit w4 d2", {.kind = "vit", .width = 4, .depth = 2, .classes = 3, .c = 1, .h = 8, .w = 4}},
    {"vit w3 d1", {.kind = "vit", .width = 3, .depth = 1, .classes = 4, .c = 2, .h = 4, .w = 4}},
};
const int netcase_n_models = sizeof netcase_models / sizeof netcase_models[0];

int netcase_offered(const lips_ops *ops)
{
    static const lips_ops *said;
    for (int m = 0; m < netcase_n_models; m++) {
        lips_net *net;
        opcase_ok(lips_net_create(&net, &netcase_models[m].spec));
        const char *lacks = lips_net_lacks(net, ops);
        lips_net_free(net);
        if (!lacks)
            continue;
        if (said != ops)
            fprintf(stderr, "SKIP %s: %s has no %s\n", netcase_models[m].name, ops->name, lacks);
        said = ops;
        return m;
    }
    return netcase_n_models;
}

double *netcase_random(uint32_t stream_epoch, int64_t n)
{
    lips_rng rng = {.seed = 0x4e7, .stream = LIPS_STREAM_TEST, .epoch = stream_epoch};
    double *v = malloc((size_t)(n ? n : 1) * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (double)(float)lips_rng_normal(&rng, (uint64_t)i);
    return v;
}

/* Statistics and norm parameters that no test passes with by accident. */
static void stir_norms(netcase *c)
{
    double *r = netcase_random(3, c->n_params + c->n_buffers);
    for (int i = 0; i < c->net->n_segments; i++) {
        const lips_segment *s = &c->net->segments[i];
        for (int64_t k = s->offset; !s->layer && k < s->offset + s->count; k++)
            c->params[k] = (double)(float)(c->params[k] + 0.3 * r[k]);
    }
    for (int i = 0; i < c->net->n_buffer_segments; i++) {
        const lips_segment *s = &c->net->buffer_segments[i];
        for (int64_t k = s->offset; s->ndim && k < s->offset + s->count; k++) {
            double v = 0.2 * r[c->n_params + k];
            c->buffers[k] = (double)(float)(s->role == LIPS_ROLE_RUNNING_VAR ? 0.5 + v * v : v);
        }
    }
    free(r);
}

void netcase_open_net(netcase *c, const lips_ops *ops, lips_net *net, const lips_exec_spec *exec)
{
    *c = (netcase){.ops = ops,
                   .net = net,
                   .n_params = net->n_params,
                   .n_buffers = net->n_buffers,
                   .classes = net->spec.classes,
                   .features = net->spec.c * net->spec.h * net->spec.w};
    opcase_ok(ops->open(&c->be, 0));
    opcase_ok(lips_exec_create(&c->ex, net, c->be, exec));
    c->params = netcase_random(1, c->n_params);
    c->buffers = netcase_random(1, c->n_buffers);
    opcase_ok(lips_net_init(net, LIPS_INIT_PYTORCH, 11, c->params, c->buffers));
    stir_norms(c);
    c->x = netcase_random(2, NETCASE_BATCH * c->features);
    for (int64_t i = 0; i < NETCASE_BATCH; i++)
        c->labels[i] = (i * 5 + 1) % c->classes;
    size_t real = ops->real_bytes;
    opcase_ok(ops->alloc(c->be, &c->dev_params, (size_t)c->n_params * real));
    opcase_ok(ops->alloc(c->be, &c->dev_grads, (size_t)c->n_params * real));
    opcase_ok(ops->alloc(c->be, &c->dev_buffers, (size_t)c->n_buffers * real));
    lips_exec_set_params(c->ex, c->dev_params, c->dev_buffers);
    netcase_push(c);
}

void netcase_open(netcase *c, const lips_ops *ops, const lips_model_spec *model,
                  const lips_exec_spec *exec)
{
    lips_net *net;
    opcase_ok(lips_net_create(&net, model));
    netcase_open_net(c, ops, net, exec);
}

void netcase_close(netcase *c)
{
    lips_exec_free(c->ex);
    c->ops->release(c->be, c->dev_params);
    c->ops->release(c->be, c->dev_grads);
    c->ops->release(c->be, c->dev_buffers);
    c->ops->close(c->be);
    lips_net_free(c->net);
    free(c->params), free(c->buffers), free(c->x);
}

void netcase_push(netcase *c)
{
    opcase_ok(c->ops->write(c->be, c->dev_params, 0, c->params, c->n_params));
    opcase_ok(c->ops->write(c->be, c->dev_buffers, 0, c->buffers, c->n_buffers));
}

void netcase_forward(netcase *c, int64_t first, int64_t b, bool training, lips_tensor *z)
{
    lips_tensor *input = lips_exec_input(c->ex);
    input->b = b;
    opcase_ok(c->ops->upload_f64(c->be, input, c->x + first * c->features));
    opcase_ok(lips_exec_forward(c->ex, training, z));
}

double netcase_loss(netcase *c, int64_t b, bool training)
{
    lips_tensor z;
    double sum = 0, *loss = NULL;
    void *p;
    netcase_push(c);
    netcase_forward(c, 0, b, training, &z);
    opcase_ok(c->ops->alloc_shared(c->be, &p, (size_t)b * sizeof(double)));
    loss = p;
    opcase_ok(c->ops->loss(c->be, &(lips_loss_args){.z = z, .labels = c->labels, .loss = loss}));
    opcase_ok(c->ops->sync(c->be));
    for (int64_t i = 0; i < b; i++)
        sum += loss[i];
    c->ops->release(c->be, p);
    return sum / (double)b;
}

void netcase_grad(netcase *c, int64_t b, bool training, double *grads)
{
    lips_tensor z, seed;
    netcase_push(c);
    netcase_forward(c, 0, b, training, &z);
    opcase_ok(lips_exec_seed(c->ex, 1, &seed));
    opcase_ok(c->ops->loss(
        c->be,
        &(lips_loss_args){.z = z, .labels = c->labels, .dz = &seed, .scale = 1 / (double)b}));
    opcase_ok(lips_exec_grad(c->ex, c->dev_grads));
    opcase_ok(c->ops->sync(c->be));
    opcase_ok(c->ops->read(c->be, grads, c->dev_grads, 0, c->n_params));
}

void netcase_seed(netcase *c, int64_t t, const double *values)
{
    lips_tensor seed;
    opcase_ok(lips_exec_seed(c->ex, t, &seed));
    opcase_ok(c->ops->upload_f64(c->be, &seed, values));
}

double *netcase_values(netcase *c, const lips_tensor *t)
{
    double *v = malloc((size_t)(t->b * lips_tensor_features(t) * t->t) * sizeof *v);
    assert_non_null(v);
    opcase_ok(c->ops->download(c->be, v, t));
    return v;
}
