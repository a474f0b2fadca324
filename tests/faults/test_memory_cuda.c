/*
 * Device memory: a network planned, run and given back on a device with less and less of it, and by
 * several threads at once; nothing stays behind, and a result is the usual one or there is none.
 */
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "nn/net.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { B = 9, K = 4, FEATURES = 3 * 8 * 8, THREADS = 4 };

static const lips_model_spec model = {
    .kind = "convnet", .width = 3, .classes = K, .c = 3, .h = 8, .w = 8, .batch_norm = true};

static const lips_ops *device_ops(void)
{
    const lips_ops *ops = lips_backend_find("cuda");
    lips_device d;
    if (!ops || ops->probe(&d, 0) != LIPS_OK)
        skip();
    return ops;
}

static size_t bytes_free(const lips_ops *ops)
{
    lips_device d;
    assert_int_equal(ops->probe(&d, 0), LIPS_OK);
    return d.bytes_free;
}

/* Everything that one pass owns; released in any state. */
typedef struct pass {
    lips_net *net;
    lips_backend *be;
    lips_exec *ex;
    void *params, *buffers, *grads, *gram;
} pass;

static void pass_free(pass *p)
{
    lips_exec_free(p->ex);
    if (p->be) {
        void *blocks[] = {p->params, p->buffers, p->grads, p->gram};
        for (int i = 0; i < 4; i++)
            p->be->ops->release(p->be, blocks[i]);
        p->be->ops->close(p->be);
    }
    lips_net_free(p->net);
}

static lips_status take_model(pass *p, const lips_ops *ops, const lips_model_spec *spec,
                              const lips_exec_spec *passes)
{
    int64_t params, buffers;
    *p = (pass){0};
    LIPS_TRY(lips_net_create(&p->net, spec));
    params = lips_net_params(p->net), buffers = lips_net_buffers(p->net);
    LIPS_TRY(ops->open(&p->be, 0));
    LIPS_TRY(ops->alloc(p->be, &p->params, (size_t)params * sizeof(float)));
    LIPS_TRY(ops->alloc(p->be, &p->buffers, (size_t)buffers * sizeof(float)));
    LIPS_TRY(ops->alloc(p->be, &p->grads, (size_t)params * sizeof(float)));
    LIPS_TRY(ops->alloc_shared(p->be, &p->gram, (size_t)(passes->cap * K * K) * sizeof(double)));
    LIPS_TRY(lips_exec_create(&p->ex, p->net, p->be, passes));
    lips_exec_set_params(p->ex, p->params, p->buffers);
    double *v = calloc((size_t)(params + buffers), sizeof *v);
    if (!v)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for the test");
    lips_status st = lips_net_init(p->net, LIPS_INIT_PYTORCH, 3, v, v + params);
    if (st == LIPS_OK)
        st = ops->write(p->be, p->params, 0, v, params);
    if (st == LIPS_OK)
        st = ops->write(p->be, p->buffers, 0, v + params, buffers);
    free(v);
    return st;
}

static lips_status take(pass *p, const lips_ops *ops)
{
    return take_model(p, ops, &model, &(lips_exec_spec){.cap = B, .t = K, .training = true});
}

/* Gram of the K vjps at the input, and the gradient's first value. */
static lips_status run(pass *p, double out[B * K * K + 1])
{
    const lips_ops *ops = p->be->ops;
    lips_tensor z, seed, dx;
    float x[B * FEATURES];
    for (int i = 0; i < B * FEATURES; i++)
        x[i] = (float)(i * 37 % 101) / 101;
    lips_exec_input(p->ex)->b = B;
    LIPS_TRY(ops->upload(p->be, lips_exec_input(p->ex), x, NULL));
    LIPS_TRY(lips_exec_forward(p->ex, true, &z));
    LIPS_TRY(lips_exec_seed(p->ex, 1, &seed));
    LIPS_TRY(ops->fill(p->be, &seed, 1));
    LIPS_TRY(lips_exec_grad(p->ex, p->grads));
    LIPS_TRY(ops->upload(p->be, lips_exec_input(p->ex), x, NULL));
    LIPS_TRY(lips_exec_forward(p->ex, false, &z));
    LIPS_TRY(lips_exec_seed(p->ex, K, &seed));
    LIPS_TRY(ops->eye(p->be, &seed, 1));
    LIPS_TRY(lips_exec_vjp(p->ex, &(lips_vjp_args){.t = K, .want_input = true, .dx = &dx}));
    LIPS_TRY(ops->zero(p->be, p->gram, (size_t)(B * K * K) * sizeof(double)));
    LIPS_TRY(ops->gram(p->be, &(lips_gram_args){.x = dx, .g = p->gram}));
    LIPS_TRY(ops->sync(p->be));
    memcpy(out, p->gram, (size_t)(B * K * K) * sizeof *out);
    return ops->read(p->be, out + B * K * K, p->grads, 0, 1);
}

static lips_status whole(const lips_ops *ops, double out[B * K * K + 1])
{
    pass p;
    lips_status st = take(&p, ops);
    if (st == LIPS_OK)
        st = run(&p, out);
    pass_free(&p);
    return st;
}

static void test_less_and_less(void **state)
{
    (void)state;
    const lips_ops *ops = device_ops();
    if (!backend_is_emulated(ops))
        skip(); /* a real device's memory cannot be taken away */
    double want[B * K * K + 1], got[B * K * K + 1];
    assert_int_equal(whole(ops, want), LIPS_OK);
    int ran = 0, refused = 0;
    for (int kib = 2048; kib >= 0; kib -= kib > 256 ? 128 : 16) {
        char text[32];
        snprintf(text, sizeof text, "%d", kib << 10);
        setenv("CUSIM_MEMORY", text, 1);
        lips_status st = whole(ops, got);
        if (st == LIPS_OK) {
            assert_memory_equal(got, want, sizeof want);
            ran++;
        } else {
            assert_int_equal(st, LIPS_ERR_MEMORY);
            assert_non_null(strstr(lips_error(), "bytes asked"));
            assert_non_null(strstr(lips_error(), "free on the device"));
            refused++;
        }
        assert_true(bytes_free(ops) == (size_t)kib << 10);
    }
    unsetenv("CUSIM_MEMORY");
    assert_true(ran > 2 && refused > 2);
    assert_int_equal(whole(ops, got), LIPS_OK);
    assert_memory_equal(got, want, sizeof want);
}

static lips_status layer_grams(void *user, const lips_layer_event *event)
{
    pass *p = user;
    return lips_layer_gram(p->ex, event, p->gram, event->info->bias >= 0 ? p->gram : NULL);
}

static lips_status grams_of_layers(pass *p)
{
    const lips_ops *ops = p->be->ops;
    lips_tensor z, seed, dx;
    LIPS_TRY(lips_exec_forward(p->ex, false, &z));
    LIPS_TRY(lips_exec_seed(p->ex, 1, &seed));
    LIPS_TRY(ops->fill(p->be, &seed, 1));
    return lips_exec_vjp(p->ex,
                         &(lips_vjp_args){.t = 1, .dx = &dx, .visit = layer_grams, .user = p});
}

/* What a handle takes for itself while a pass runs, its scratch, is planned: here for Gram matrices
 * of convolutions, which take most. */
static void test_own_memory_is_planned(void **state)
{
    (void)state;
    const lips_ops *ops = device_ops();
    const lips_exec_spec passes = {.cap = B, .t = 1};
    lips_model_spec wide = model;
    pass p;
    wide.width = 32;
    assert_int_equal(take_model(&p, ops, &wide, &passes), LIPS_OK);
    lips_exec_input(p.ex)->b = B;
    assert_int_equal(ops->fill(p.be, lips_exec_input(p.ex), 0.5), LIPS_OK);
    const size_t planned = lips_exec_own_bytes(p.net, p.be, &passes), before = bytes_free(ops);
    assert_int_equal(grams_of_layers(&p), LIPS_OK);
    assert_int_equal(ops->sync(p.be), LIPS_OK);
    const size_t used = before - bytes_free(ops);
    if (used == 0 || (backend_is_emulated(ops) && used > planned))
        fail_msg("%zu bytes taken, %zu planned", used, planned);
    pass_free(&p);
}

typedef struct worker {
    pthread_t id;
    const lips_ops *ops;
    lips_status st;
    double out[B * K * K + 1];
} worker;

static void *work(void *argument)
{
    worker *w = argument;
    w->st = whole(w->ops, w->out);
    return NULL;
}

/* A handle, a stream and a plan each. */
static void test_several_at_once(void **state)
{
    (void)state;
    const lips_ops *ops = device_ops();
    size_t before = bytes_free(ops);
    worker w[THREADS];
    for (int i = 0; i < THREADS; i++) {
        w[i] = (worker){.ops = ops};
        assert_int_equal(pthread_create(&w[i].id, NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(w[i].id, NULL), 0);
        assert_int_equal(w[i].st, LIPS_OK);
        assert_memory_equal(w[i].out, w[0].out, sizeof w[0].out);
    }
    assert_true(bytes_free(ops) >= before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_less_and_less),
        cmocka_unit_test(test_own_memory_is_planned),
        cmocka_unit_test(test_several_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
