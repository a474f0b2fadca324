/* One sample, one class, dead networks, NaN, missing labels, threads, blocks; cpu against ref. */
#include "../lib/backends.h"
#include "../lib/tiny_net.h"
#include "measure/measure.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const lips_model_spec CONVNET = {
    .kind = "convnet", .width = 3, .classes = 10, .c = 3, .h = 8, .w = 8};
static const lips_model_spec MLP = {
    .kind = "mlp", .width = 7, .depth = 2, .classes = 10, .c = 1, .h = 5, .w = 5};

static lips_measure_args args(const tiny_net *t, const char *backend, const char *metrics)
{
    lips_measure_args a = {.ops = lips_backend_find(backend),
                           .threads = 1,
                           .per_sample = true,
                           .network = {.net = t->net,
                                       .params = t->params,
                                       .buffers = t->buffers,
                                       .init = t->init,
                                       .epoch = 3},
                           .inputs = {.n = t->n, .x = t->x, .label = t->label, .split = "test"}};
    assert_int_equal(lips_metrics_parse(&a.metrics, metrics), LIPS_OK);
    return a;
}

static lips_measurement run(const lips_measure_args *a)
{
    lips_measurement m;
    lips_status st = lips_measure_run(&m, a);
    if (st != LIPS_OK)
        print_error("%s\n", lips_error());
    assert_int_equal(st, LIPS_OK);
    return m;
}

static const lips_record *find(const lips_measurement *m, const char *quantity, const char *norm,
                               const char *output, int layer)
{
    for (int i = 0; i < m->n_records; i++) {
        const lips_record *r = &m->records[i];
        if (strcmp(r->quantity, quantity) == 0 && r->layer == layer &&
            (!norm || (r->norm && strcmp(r->norm, norm) == 0)) &&
            (!output || (r->output && strcmp(r->output, output) == 0)))
            return r;
    }
    print_error("no record %s %s %s %d\n", quantity, norm ? norm : "-", output ? output : "-",
                layer);
    fail();
    return NULL;
}

static void same_bits(const lips_measurement *a, const lips_measurement *b)
{
    assert_int_equal(a->n_samples, b->n_samples);
    assert_int_equal(a->n_records, b->n_records);
    for (int i = 0; i < a->n_samples; i++)
        assert_memory_equal(a->samples[i].v, b->samples[i].v, (size_t)a->n * sizeof(double));
    for (int i = 0; i < a->n_records; i++) {
        char x[1024], y[1024];
        lips_record_json(&a->records[i], x, sizeof x);
        lips_record_json(&b->records[i], y, sizeof y);
        assert_string_equal(x, y);
    }
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    const char *const backends[] = {"ref", tested_fast()};
    for (int i = 0; i < 2; i++)
        for (int conv = 0; conv < 2; conv++) {
            const int64_t n = tested_samples(backends[i], conv ? 70 : 300, 20);
            tiny_net t = tiny_net_create(conv ? &CONVNET : &MLP, n, 11);
            lips_measure_args a = args(&t, backends[i], n > 20 ? "all" : "B,C,ggn.trace");
            a.batch = n > 128 ? 128 : n > 20 ? 16 : 6; /* several blocks on every backend */
            lips_measurement one = run(&a);
            a.threads = 5;
            lips_measurement five = run(&a);
            same_bits(&one, &five);
            lips_measurement_free(&one);
            lips_measurement_free(&five);
            tiny_net_free(&t);
        }
}

static void blocks_do_not_matter(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&CONVNET, 19, 12);
    lips_measure_args a = args(&t, "ref", "all");
    lips_measurement standard = run(&a);
    for (int64_t batch = 1; batch <= 19; batch += 6) {
        a.batch = batch;
        lips_measurement m = run(&a);
        same_bits(&standard, &m);
        lips_measurement_free(&m);
    }
    lips_measurement_free(&standard);
    tiny_net_free(&t);
}

/* Relative to the largest value of the vector: a float's rounding grows with the depth and the
 * sizes of the sums, here about 100 * 2^-24 = 6e-6, bounded by 1e-5. A ReLU whose sum is within
 * rounding of 0 may flip; none of these seeds has one. */
static void agrees_with_ref(void **state)
{
    (void)state;
    lips_model_spec bn = CONVNET;
    bn.batch_norm = true;
    const lips_model_spec resnet = {
        .kind = "resnet18", .width = 2, .classes = 3, .c = 3, .h = 8, .w = 8};
    const lips_model_spec vit = {
        .kind = "vit", .width = 4, .depth = 2, .classes = 3, .c = 3, .h = 8, .w = 8};
    const lips_model_spec many = {
        .kind = "mlp", .width = 5, .depth = 1, .classes = 40, .c = 1, .h = 3, .w = 3};
    const struct {
        const lips_model_spec *spec;
        const char *metrics;
    } cases[] = {{&CONVNET, "all"},
                 {&MLP, "all"},
                 {&bn, "all"},
                 {&resnet, "A,B,C,D,ggn.trace,landscape"},
                 {&vit, "A,B,C,D,ggn.trace,landscape"},
                 {&many, "A,B,C,ggn.trace,landscape"}};
    for (int i = 0; i < 6; i++) {
        tiny_net t = tiny_net_create(cases[i].spec, tested_samples(tested_fast(), 37, 6), 13);
        lips_measure_args a = args(&t, "ref", cases[i].metrics);
        lips_measure_args b = args(&t, tested_fast(), cases[i].metrics);
        lips_measurement ref = run(&a), fast = run(&b);
        assert_int_equal(ref.n_samples, fast.n_samples);
        for (int s = 0; s < ref.n_samples; s++) {
            double top = 0;
            for (int64_t j = 0; j < t.n; j++)
                top = fmax(top, fabs(ref.samples[s].v[j]));
            for (int64_t j = 0; j < t.n; j++)
                if (!(fabs(ref.samples[s].v[j] - fast.samples[s].v[j]) <= 1e-5 * top)) {
                    print_error("%s[%d]: ref %.9g, %.9g\n", ref.samples[s].name, (int)j,
                                ref.samples[s].v[j], fast.samples[s].v[j]);
                    fail();
                }
        }
        lips_measurement_free(&ref);
        lips_measurement_free(&fast);
        tiny_net_free(&t);
    }
}

static void rows_by_index(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&MLP, 20, 14);
    int64_t index[5] = {17, 3, 3, 0, 19};
    lips_measure_args a = args(&t, tested_fast(), "loss,jacobian");
    lips_measurement all = run(&a);
    a.inputs.index = index;
    a.inputs.n = 5;
    lips_measurement some = run(&a);
    for (int s = 0; s < some.n_samples; s++)
        for (int i = 0; i < 5; i++)
            assert_true(some.samples[s].v[i] == all.samples[s].v[index[i]]);
    assert_int_equal(find(&some, "loss", NULL, NULL, 0)->n, 5);
    lips_measurement_free(&all);
    lips_measurement_free(&some);
    tiny_net_free(&t);
}

/* Fewer numbers per sample than samples per block, in every scratch buffer (run under the
 * sanitizers). */
static void few_classes(void **state)
{
    (void)state;
    for (int64_t k = 1; k <= 4; k++) {
        lips_model_spec spec = MLP;
        spec.classes = k;
        const int64_t n = tested_samples(tested_fast(), 200, 9);
        tiny_net t = tiny_net_create(&spec, n, 22);
        lips_measure_args a = args(&t, tested_fast(), "all");
        lips_measurement m = run(&a);
        assert_int_equal(find(&m, "landscape.param_grad", NULL, "norm", 0)->n, n);
        lips_measurement_free(&m);
        tiny_net_free(&t);
    }
}

static void one_sample_one_class(void **state)
{
    (void)state;
    lips_model_spec spec = MLP;
    spec.classes = 1;
    tiny_net t = tiny_net_create(&spec, 1, 15);
    lips_measure_args a = args(&t, tested_fast(), "all");
    lips_measurement m = run(&a);
    const lips_record *r = find(&m, "jacobian", "op", "logits", 0);
    assert_true(r->form == LIPS_FORM_STATS && r->n == 1 && r->std_err == 0 && r->mean > 0);
    assert_true(find(&m, "jacobian", "op", "softmax", 0)->mean ==
                0); /* one probability is always 1 */
    assert_true(find(&m, "loss", NULL, NULL, 0)->value == 0);
    assert_true(find(&m, "landscape.param_grad", NULL, "norm", 0)->mean == 0);
    assert_true(find(&m, "logit_hessian.min_nonzero", NULL, NULL, 0)->form == LIPS_FORM_NULL);
    lips_measurement_free(&m);
    tiny_net_free(&t);
}

/* First layer's bias so low that no unit fires: every derivative through it is exactly 0. */
static void dead_network(void **state)
{
    (void)state;
    const char *const backends[] = {"ref", tested_fast()};
    for (int conv = 0; conv < 2; conv++) {
        tiny_net t = tiny_net_create(conv ? &CONVNET : &MLP, 18, 16);
        const lips_segment *seg;
        lips_net_segments(t.net, &seg);
        const lips_segment *bias = &seg[lips_net_layer(t.net, 1)->bias];
        for (int64_t i = 0; i < bias->count; i++)
            t.params[bias->offset + i] = -1e4;
        for (int b = 0; b < 2; b++) {
            lips_measure_args a = args(&t, backends[b], "all");
            lips_measurement m = run(&a);
            static const char *const outputs[] = {"logits", "softmax", "log_softmax",
                                                  "target_logit", "loss"};
            for (int o = 0; o < 5; o++) {
                const lips_record *r = find(&m, "jacobian", "op", outputs[o], 0);
                assert_true(r->form == LIPS_FORM_STATS && r->mean == 0 && r->max == 0);
            }
            assert_true(find(&m, "layer.param_jacobian", "op", NULL, 1)->max == 0);
            assert_true(find(&m, "layer.act_norm", NULL, NULL, 2)->max == 0);
            assert_int_equal(find(&m, "bound.layer", NULL, "right", 2)->form, LIPS_FORM_NULL);
            assert_int_equal(find(&m, "bound.layer", NULL, "ratio", 1)->form, LIPS_FORM_NULL);
            assert_true(find(&m, "bound.layer", NULL, "violations", 1)->value == 0);
            assert_true(find(&m, "landscape.input_grad", NULL, "norm", 0)->max == 0);
            lips_measurement_free(&m);
        }
        tiny_net_free(&t);
    }
}

/* A NaN or infinite pixel makes that sample's values NaN, and nobody else's. */
static void nan_inputs_stay_apart(void **state)
{
    (void)state;
    const char *const backends[] = {"ref", tested_fast()};
    for (int b = 0; b < 2; b++)
        for (int conv = 0; conv < 2; conv++) {
            tiny_net t = tiny_net_create(conv ? &CONVNET : &MLP, 20, 17);
            lips_measure_args a = args(&t, backends[b], "A,B,C,H");
            lips_measurement clean = run(&a);
            t.x[4 * t.d + 3] = NAN;
            t.x[18 * t.d] = -INFINITY;
            lips_measurement dirty = run(&a);
            for (int s = 0; s < clean.n_samples; s++)
                for (int64_t i = 0; i < t.n; i++) {
                    double x = clean.samples[s].v[i], y = dirty.samples[s].v[i];
                    bool hit = i == 4 || i == 18,
                         error = strcmp(clean.samples[s].name, "error") == 0;
                    assert_true(!hit ? x == y : error ? y == 1 : isnan(y));
                }
            char line[1024];
            lips_record_json(find(&dirty, "jacobian", "op", "logits", 0), line, sizeof line);
            assert_non_null(strstr(line, "\"finite\":false"));
            lips_measurement_free(&clean);
            lips_measurement_free(&dirty);
            tiny_net_free(&t);
        }
}

/* A network with a NaN weight measures as NaN, without an error. */
static void nan_weights(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&MLP, 5, 18);
    for (int64_t i = 0; i < t.p; i++)
        t.params[i] = NAN;
    lips_measure_args a = args(&t, tested_fast(), "all");
    lips_measurement m = run(&a);
    assert_true(isnan(find(&m, "jacobian", "op", "logits", 0)->mean));
    assert_true(isnan(find(&m, "loss", NULL, NULL, 0)->value));
    assert_true(isnan(find(&m, "landscape.loss_max", NULL, NULL, 0)->value));
    assert_true(find(&m, "error", NULL, NULL, 0)->value == 1);
    assert_true(isnan(find(&m, "layer.weight_op", NULL, NULL, 1)->value));
    assert_true(isnan(find(&m, "distance.total", NULL, NULL, 0)->value));
    lips_measurement_free(&m);
    tiny_net_free(&t);
}

static void missing_labels(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&MLP, 5, 19);
    lips_measure_args a = args(&t, "ref", "all");
    a.inputs.label = NULL;
    a.network.init = NULL;
    lips_measurement m = run(&a);
    static const char *const without[] = {"loss",
                                          "error",
                                          "landscape.input_grad",
                                          "landscape.param_grad",
                                          "landscape.loss_max",
                                          "distance.layer",
                                          "distance.total"};
    for (size_t i = 0; i < sizeof without / sizeof *without; i++)
        for (int j = 0; j < m.n_records; j++)
            if (strcmp(m.records[j].quantity, without[i]) == 0) {
                assert_int_equal(m.records[j].form, LIPS_FORM_NULL);
                assert_true(strlen(m.records[j].reason) > 0);
            }
    assert_int_equal(find(&m, "jacobian", "op", "target_logit", 0)->form, LIPS_FORM_NULL);
    assert_int_equal(find(&m, "jacobian", "op", "loss", 0)->form, LIPS_FORM_NULL);
    assert_int_equal(find(&m, "jacobian", "op", "softmax", 0)->form, LIPS_FORM_STATS);
    lips_measurement_free(&m);
    /* real targets serve the squared loss */
    float target[50] = {0};
    a.inputs.target = target;
    a.network.loss = LIPS_LOSS_MSE;
    m = run(&a);
    assert_int_equal(find(&m, "loss", NULL, NULL, 0)->form, LIPS_FORM_VALUE);
    assert_int_equal(find(&m, "error", NULL, NULL, 0)->form, LIPS_FORM_NULL);
    lips_measurement_free(&m);
    tiny_net_free(&t);
}

static void refusals(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&MLP, 5, 20);
    lips_measure_args a = args(&t, "ref", "loss");
    lips_measurement m;
    t.label[2] = 10;
    assert_int_equal(lips_measure_run(&m, &a), LIPS_ERR_DATA);
    assert_non_null(strstr(lips_error(), "label 10 of sample 2"));
    t.label[2] = 2;
    a.inputs.n = 0;
    assert_int_equal(lips_measure_run(&m, &a), LIPS_ERR_USAGE);
    a.inputs.n = 5;
    a.threads = 0;
    assert_int_equal(lips_measure_run(&m, &a), LIPS_ERR_USAGE);
    lips_measurement_free(&m); /* after a failure, and twice: harmless */
    lips_measurement_free(&m);
    tiny_net_free(&t);
}

static void bytes_are_planned(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&CONVNET, 40, 21);
    lips_measure_args a = args(&t, "cpu", "jacobian"); /* a device has two blocks at least */
    size_t one, two, all;
    assert_int_equal(lips_measure_plan_bytes(&a, &one), LIPS_OK);
    a.threads = 2;
    assert_int_equal(lips_measure_plan_bytes(&a, &two), LIPS_OK);
    a = args(&t, "cpu", "all");
    assert_int_equal(lips_measure_plan_bytes(&a, &all), LIPS_OK);
    assert_true(one > 100000 && two > one && two <= 2 * one && all > one);
    tiny_net_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(blocks_do_not_matter),
        cmocka_unit_test(agrees_with_ref),
        cmocka_unit_test(rows_by_index),
        cmocka_unit_test(few_classes),
        cmocka_unit_test(one_sample_one_class),
        cmocka_unit_test(dead_network),
        cmocka_unit_test(nan_inputs_stay_apart),
        cmocka_unit_test(nan_weights),
        cmocka_unit_test(missing_labels),
        cmocka_unit_test(refusals),
        cmocka_unit_test(bytes_are_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
