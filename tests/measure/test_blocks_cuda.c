/*
 * Samples of a block on a device: as many as its memory and its launches ask for, of few samples no
 * more than there are; and two blocks at a time, planned as two.
 */
#include "../lib/cmocka_all.h"
#include "../lib/tiny_net.h"
#include "measure/survey.h"

static const lips_ops *device_ops(void)
{
    const lips_ops *ops = lips_backend_find("cuda");
    lips_device d;
    if (!ops || ops->probe(&d, 0) != LIPS_OK)
        skip();
    return ops;
}

static int64_t block(const lips_model_spec *spec, int64_t n)
{
    const lips_ops *ops = device_ops();
    lips_net *net;
    assert_int_equal(lips_net_create(&net, spec), LIPS_OK);
    const int64_t b = lips_survey_block(net, ops, n);
    lips_net_free(net);
    return b;
}

static void test_of_samples(void **state)
{
    (void)state;
    lips_model_spec spec = {
        .kind = "mlp", .width = 4, .depth = 2, .classes = 10, .c = 1, .h = 5, .w = 5};
    assert_int_equal(block(&spec, 1000000), 512);
    assert_int_equal(block(&spec, 512), 512);
    assert_int_equal(block(&spec, 20), 32); /* whole tiles */
    assert_int_equal(block(&spec, 1), 16);
    /* Grams of 3 layers, at the input, of the parameters and of the layer's input, and two more. */
    for (spec.classes = 100; spec.classes <= 400; spec.classes *= 2) {
        const double one = (3 * 3 + 2) * (double)(spec.classes * spec.classes) * sizeof(double);
        const int64_t b = block(&spec, 1000000);
        assert_true(b >= 16 && b <= 512 && (double)b * one <= (double)device_ops()->pass_bytes / 2);
    }
}

static size_t planned(const tiny_net *t, int64_t n, int64_t batch)
{
    size_t bytes = 0;
    lips_measure_args a = {.ops = device_ops(),
                           .threads = 1,
                           .batch = batch,
                           .network = {.net = t->net,
                                       .params = t->params,
                                       .buffers = t->buffers,
                                       .init = t->init,
                                       .epoch = -1},
                           .inputs = {.n = n, .x = t->x, .label = t->label, .split = "inputs"}};
    assert_int_equal(lips_metrics_parse(&a.metrics, "jacobian"), LIPS_OK);
    assert_int_equal(lips_measure_plan_bytes(&a, &bytes), LIPS_OK);
    return bytes;
}

/* While the host sums one, the device is with the other. */
static void test_two_at_a_time(void **state)
{
    (void)state;
    const lips_model_spec spec = {
        .kind = "mlp", .width = 16, .depth = 2, .classes = 10, .c = 1, .h = 8, .w = 8};
    tiny_net t = tiny_net_create(&spec, 48, 5);
    const size_t one = planned(&t, 16, 16), two = planned(&t, 32, 16), three = planned(&t, 48, 16);
    assert_true((double)two > 1.9 * (double)one && (double)three < 1.1 * (double)two);
    tiny_net_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_of_samples),
        cmocka_unit_test(test_two_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
