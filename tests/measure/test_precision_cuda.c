/*
 * measure_precision: backward passes of fewer bits leave the forward pass as it is, bit for bit,
 * and so every ReLU's mask; the norms are then off by a rounding of the operands alone.
 */
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "../lib/tiny_net.h"
#include "measure/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 12 };

static const lips_ops *device_ops(void)
{
    const lips_ops *ops = lips_backend_find("cuda");
    lips_device d;
    if (!ops || ops->probe(&d, 0) != LIPS_OK)
        skip();
    return ops;
}

static lips_measurement measure(const tiny_net *t, lips_precision backward)
{
    lips_measurement m;
    lips_measure_args a = {
        .ops = device_ops(),
        .threads = 1,
        .per_sample = true,
        .arithmetic = {.backward = backward, .conv = LIPS_LIBRARY_OWN},
        .network = {.net = t->net, .params = t->params, .buffers = t->buffers, .epoch = -1},
        .inputs = {.n = t->n, .x = t->x, .label = t->label, .split = "inputs"}};
    assert_int_equal(lips_metrics_parse(&a.metrics, "loss,error,jacobian,layer.act_norm"), LIPS_OK);
    assert_int_equal(lips_measure_run(&m, &a), LIPS_OK);
    return m;
}

/* Operands of 11 or 8 bits in at most 21 products one after another, each off by 2^-12 or 2^-9 at
 * random: 0.001 or 0.009 of the largest sample. The bounds leave a factor of ten for the
 * constants. */
static void check(const tiny_net *t, lips_precision backward, double most)
{
    lips_measurement exact = measure(t, LIPS_PRECISION_F32), few = measure(t, backward);
    bool any = false;
    assert_int_equal(exact.n_samples, few.n_samples);
    for (int s = 0; s < exact.n_samples; s++) {
        const double *x = exact.samples[s].v, *y = few.samples[s].v;
        double top = 0;
        if (strncmp(exact.samples[s].name, "jacobian", 8) != 0) {
            assert_memory_equal(x, y, N * sizeof *x); /* of the forward pass */
            continue;
        }
        for (int i = 0; i < N; i++)
            top = fmax(top, x[i]);
        for (int i = 0; i < N; i++) {
            any |= x[i] != y[i];
            assert_true(fabs(x[i] - y[i]) <= most * top);
        }
    }
    assert_true(any); /* the precision was used */
    lips_measurement_free(&few);
    lips_measurement_free(&exact);
}

static void forward_stays(void **state)
{
    (void)state;
    static const lips_model_spec specs[] = {
        {.kind = "mlp", .width = 40, .depth = 2, .classes = 5, .c = 1, .h = 6, .w = 6},
        {.kind = "convnet", .width = 5, .classes = 3, .c = 3, .h = 8, .w = 8, .batch_norm = true},
        {.kind = "resnet18", .width = 3, .classes = 3, .c = 3, .h = 8, .w = 8}};
    for (int i = 0; i < 3; i++) {
        tiny_net t = tiny_net_create(&specs[i], N, 31);
        check(&t, LIPS_PRECISION_TF32, 0.01);
        check(&t, LIPS_PRECISION_BF16, 0.08);
        tiny_net_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(forward_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
