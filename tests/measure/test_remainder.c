/*
 * The Hessian's trace of networks with curved maps: the estimate does not depend on the number of
 * threads, and networks without curved maps have none.
 */
#include "../lib/cmocka_all.h"
#include "../lib/backends.h"
#include "../lib/tiny_net.h"
#include "measure/measure.h"

#include <math.h>
#include <string.h>

static const lips_model_spec VIT = {
    .kind = "vit", .width = 4, .depth = 1, .classes = 3, .c = 1, .h = 4, .w = 8};
static const lips_model_spec MLP = {
    .kind = "mlp", .width = 4, .depth = 1, .classes = 3, .c = 1, .h = 4, .w = 8};

static void measure(lips_measurement *out, const tiny_net *t, int threads, const char *metrics)
{
    lips_measure_args a = {.ops = lips_backend_find(tested_fast()),
                           .threads = threads,
                           .network = {.net = t->net, .params = t->params, .epoch = -1},
                           .inputs = {.n = t->n, .x = t->x, .label = t->label, .split = "inputs"}};
    assert_int_equal(lips_metrics_parse(&a.metrics, metrics), LIPS_OK);
    assert_int_equal(lips_measure_run(out, &a), LIPS_OK);
}

static const lips_record *find(const lips_measurement *m, const char *quantity, int layer)
{
    for (int i = 0; i < m->n_records; i++)
        if (!strcmp(m->records[i].quantity, quantity) && m->records[i].layer == layer)
            return &m->records[i];
    fail_msg("no %s of layer %d", quantity, layer);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&VIT, 40, 5); /* three blocks */
    lips_measurement one, three;
    measure(&one, &t, 1, "hessian.trace");
    measure(&three, &t, 3, "hessian.trace");
    assert_int_equal(one.n_records, lips_net_layers(t.net) + 1);
    assert_int_equal(three.n_records, one.n_records);
    for (int i = 0; i < one.n_records; i++) {
        const lips_record *a = &one.records[i], *b = &three.records[i];
        assert_true(isfinite(a->value) && isfinite(a->std_err) && a->std_err > 0);
        assert_memory_equal(&a->value, &b->value, sizeof a->value);
        assert_memory_equal(&a->std_err, &b->std_err, sizeof a->std_err);
        assert_false(a->exact);
        /* 64 draws at least, the same number in each block; a device takes all samples at once */
        assert_int_equal(a->iterations, lips_backend_find(tested_fast())->pass_bytes ? 64 : 66);
    }
    lips_measurement_free(&one);
    lips_measurement_free(&three);
    tiny_net_free(&t);
}

/* The trace that the landscape's inequality uses is the Hessian's. */
static void test_landscape(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&VIT, 20, 6);
    lips_measurement m;
    measure(&m, &t, 2, "hessian.trace,ggn.trace,bound.landscape");
    const double trace = find(&m, "hessian.trace", 0)->value;
    assert_true(trace != find(&m, "ggn.trace", 0)->value);
    double used = NAN;
    for (int i = 0; i < m.n_records; i++)
        if (m.records[i].output && !strcmp(m.records[i].output, "param.trace"))
            used = m.records[i].value;
    assert_true(used == trace);
    lips_measurement_free(&m);
    tiny_net_free(&t);
}

static void test_piecewise_linear(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&MLP, 20, 7);
    lips_measurement m;
    measure(&m, &t, 1, "hessian.trace,ggn.trace");
    for (int l = 0; l <= lips_net_layers(t.net); l++) {
        const lips_record *h = find(&m, "hessian.trace", l);
        assert_true(h->exact && h->iterations < 0);
        assert_true(h->value == find(&m, "ggn.trace", l)->value);
    }
    lips_measurement_free(&m);
    tiny_net_free(&t);
}

/* A sample that is not finite makes the estimate NaN, not a number that looks like one. */
static void test_not_finite(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&VIT, 20, 8);
    lips_measurement m;
    t.x[3] = NAN;
    measure(&m, &t, 2, "hessian.trace");
    assert_true(isnan(find(&m, "hessian.trace", 0)->value));
    lips_measurement_free(&m);
    tiny_net_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_landscape),
        cmocka_unit_test(test_piecewise_linear),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
