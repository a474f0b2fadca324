/* A batch that is run in parts has the gradient of the whole. */
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "nn/net.h"

#include <stdlib.h>

enum { BATCH = 37, CLASSES = 4, SIDE = 8, FEATURES = SIDE * SIDE };

static void ok(lips_status st)
{
    if (st != LIPS_OK)
        fail_msg("%s\n%s", lips_error(), lips_error_trace());
}

static lips_net *net_of(const char *kind, bool batch_norm)
{
    lips_net *net = NULL;
    ok(lips_net_create(&net, &(lips_model_spec){.kind = kind,
                                                .width = 3,
                                                .depth = 1,
                                                .classes = CLASSES,
                                                .c = 1,
                                                .h = SIDE,
                                                .w = SIDE,
                                                .batch_norm = batch_norm}));
    return net;
}

/* The gradient of the mean loss over the batch, run chunk samples at a time; caller frees. */
static double *gradient(const lips_net *net, const lips_ops *ops, int64_t chunk)
{
    lips_backend *be = NULL;
    lips_exec *ex = NULL;
    void *params = NULL, *grads = NULL;
    int64_t n = lips_net_params(net), labels[BATCH];
    float x[BATCH * FEATURES];
    double *host = calloc((size_t)n, sizeof *host);
    assert_non_null(host);
    for (int i = 0; i < BATCH * FEATURES; i++)
        x[i] = (float)(i * 37 % 101) / 50 - 1;
    for (int i = 0; i < BATCH; i++)
        labels[i] = i % CLASSES;
    ok(ops->open(&be, 0));
    ok(ops->alloc(be, &params, (size_t)n * ops->real_bytes));
    ok(ops->alloc(be, &grads, (size_t)n * ops->real_bytes));
    ok(lips_net_init(net, LIPS_INIT_PYTORCH, 5, host, NULL));
    ok(ops->write(be, params, 0, host, n));
    ok(lips_exec_create(&ex, net, be, &(lips_exec_spec){.cap = chunk, .t = 1, .training = true}));
    lips_exec_set_params(ex, params, NULL);
    for (int64_t i = 0; i < BATCH; i += chunk) {
        lips_tensor *in = lips_exec_input(ex), z, dz;
        in->b = BATCH - i < chunk ? BATCH - i : chunk;
        ok(ops->upload(be, in, x + i * FEATURES, NULL));
        ok(lips_exec_forward(ex, true, &z));
        ok(lips_exec_seed(ex, 1, &dz));
        ok(ops->loss(
            be, &(lips_loss_args){.z = z, .labels = labels + i, .dz = &dz, .scale = 1.0 / BATCH}));
        ok(i ? lips_exec_grad_add(ex, grads) : lips_exec_grad(ex, grads));
    }
    ok(ops->read(be, host, grads, 0, n));
    lips_exec_free(ex);
    ops->release(be, grads);
    ops->release(be, params);
    ops->close(be);
    return host;
}

static void test_gradient(void **state)
{
    (void)state;
    for (int b = 0; tested_backend(b); b++) {
        lips_net *net = net_of("convnet", false);
        double *whole = gradient(net, tested_backend(b), BATCH);
        const int64_t chunks[] = {1, 16, 20};
        for (int i = 0; i < 3; i++) {
            double *parts = gradient(net, tested_backend(b), chunks[i]);
            double tol = tested_backend(b)->real_bytes == 8 ? 1e-12 : 2e-6;
            assert_true(cmp_check("gradient in parts", parts, whole, lips_net_params(net), tol));
            free(parts);
        }
        free(whole);
        lips_net_free(net);
    }
}

/* Parts only where no sample sees another, and never more than the batch. */
static void test_choice(void **state)
{
    (void)state;
    const lips_ops *ref = lips_backend_find("ref"), *cpu = lips_backend_find("cpu");
    lips_net *images = net_of("convnet", false), *normed = net_of("convnet", true);
    lips_net *flat = net_of("mlp", false);
    lips_backend *be = NULL;
    ok(cpu->open(&be, 0));
    assert_int_equal(lips_net_chunk(images, be, 128), cpu->image_chunk);
    assert_int_equal(lips_net_chunk(images, be, 7), 7);
    assert_int_equal(lips_net_chunk(normed, be, 128), 128);
    assert_int_equal(lips_net_chunk(flat, be, 128), 128);
    cpu->close(be);
    ok(ref->open(&be, 0));
    assert_int_equal(lips_net_chunk(images, be, 128), 128);
    ref->close(be);
    lips_net_free(images);
    lips_net_free(normed);
    lips_net_free(flat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradient),
                                       cmocka_unit_test(test_choice)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
