/*
 * Bounds on a network's Lipschitz constant: against its nodes' explicit matrices, above every
 * sampled Jacobian; networks with sums; the record of the chain.
 */
#include "../lib/cmocka_all.h"
#include "../lib/backends.h"
#include "../lib/tiny_net.h"
#include "measure/emit.h"
#include "measure/measure.h"
#include "nn/graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const lips_model_spec MLP = {
    .kind = "mlp", .width = 6, .depth = 2, .classes = 3, .c = 1, .h = 2, .w = 3};
static const lips_model_spec NARROW = {
    .kind = "mlp", .width = 1, .depth = 1, .classes = 1, .c = 1, .h = 1, .w = 4};
static const lips_model_spec CONVNET = {
    .kind = "convnet", .width = 2, .classes = 4, .c = 2, .h = 8, .w = 4};
static const lips_model_spec CONVNET_BN = {
    .kind = "convnet", .width = 2, .classes = 4, .c = 2, .h = 8, .w = 4, .batch_norm = true};

static void ok(lips_status st)
{
    if (st != LIPS_OK)
        print_error("%s\n", lips_error());
    assert_int_equal(st, LIPS_OK);
}

static lips_measurement measure(const tiny_net *t, const char *backend, const char *metrics)
{
    lips_measurement m;
    lips_measure_args a = {.ops = lips_backend_find(backend),
                           .threads = 1,
                           .per_sample = true,
                           .network = {.net = t->net,
                                       .params = t->params,
                                       .buffers = t->buffers,
                                       .epoch = -1,
                                       .loss = LIPS_LOSS_CROSS_ENTROPY},
                           .inputs = {.n = t->n, .x = t->x, .label = t->label, .split = "inputs"}};
    ok(lips_metrics_parse(&a.metrics, metrics));
    ok(lips_measure_run(&m, &a));
    return m;
}

static const lips_record *record(const lips_measurement *m, const char *quantity, int layer)
{
    for (int i = 0; i < m->n_records; i++)
        if (strcmp(m->records[i].quantity, quantity) == 0 && m->records[i].layer == layer)
            return &m->records[i];
    print_error("no record %s\n", quantity);
    fail();
    return NULL;
}

/* What the certified bound should be: layers' norms, 1/2 twice, 1/sqrt(positions), batch norms'
 * scales. */
static double expected(const tiny_net *t, const lips_measurement *m)
{
    const lips_model_spec *spec = lips_net_spec(t->net);
    const lips_segment *seg, *buf;
    int count = lips_net_segments(t->net, &seg), buffers = lips_net_buffer_segments(t->net, &buf);
    double bound = 1;
    for (int l = 1; l <= lips_net_layers(t->net); l++)
        bound *= record(m, "layer.weight_op", l)->value;
    if (strcmp(spec->kind, "convnet") == 0)
        bound *= 0.25 / sqrt((double)(spec->h * spec->w) / 16);
    for (int s = 0, at = 0; s < count; s++) {
        if (seg[s].role != LIPS_ROLE_NORM_WEIGHT)
            continue;
        while (at < buffers && buf[at].role != LIPS_ROLE_RUNNING_VAR)
            at++;
        double most = 0;
        for (int64_t c = 0; c < seg[s].count; c++)
            most = fmax(most, fabs(t->params[seg[s].offset + c]) /
                                  sqrt(t->buffers[buf[at].offset + c] + 1e-5));
        bound *= most;
        at++;
    }
    return bound;
}

static void bounds(void **state)
{
    (void)state;
    const lips_model_spec *specs[] = {&MLP, &NARROW, &CONVNET, &CONVNET_BN};
    const char *backends[] = {"ref", tested_fast()};
    for (int i = 0; i < 8; i++) {
        tiny_net t = tiny_net_create(specs[i / 2], 25, 20 + (uint64_t)i / 2);
        lips_measurement m = measure(&t, backends[i % 2], "jacobian,layer.weight_op,lipschitz");
        double product = 1, want = expected(&t, &m),
               got = record(&m, "lipschitz.certified", 0)->value;
        for (int l = 1; l <= lips_net_layers(t.net); l++)
            product *= record(&m, "layer.weight_op", l)->value;
        assert_true(fabs(record(&m, "lipschitz.product", 0)->value - product) <= 1e-14 * product);
        assert_true(got >= want * (1 - 1e-15) && got <= want * (1 + 1e-5));
        assert_true(record(&m, "lipschitz.chain", 0)->value == 1);
        for (int64_t s = 0; s < t.n; s++) {
            assert_string_equal(m.samples[0].name, "jacobian.op/logits");
            assert_true(m.samples[0].v[s] > 0 || specs[i / 2] == &NARROW);
            assert_true(m.samples[0].v[s] <= got * (1 + 1e-5));
        }
        lips_measurement_free(&m);
        tiny_net_free(&t);
    }
}

/* The chain is checked whenever both its ends are measured, and only then. */
static void chain_comes_along(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&MLP, 3, 30);
    const char *metrics[] = {"jacobian,lipschitz.certified", "E", "jacobian",
                             "lipschitz.certified"};
    for (int i = 0; i < 4; i++) {
        lips_measurement m = measure(&t, "ref", metrics[i]);
        int found = 0;
        for (int r = 0; r < m.n_records; r++)
            found += strcmp(m.records[r].quantity, "lipschitz.chain") == 0;
        assert_int_equal(found, i < 2);
        lips_measurement_free(&m);
    }
    tiny_net_free(&t);
}

/* out = x0 + x1. */
static lips_status sum_setup(lips_net *net, lips_node *node, const lips_node_spec *spec,
                             lips_value *out)
{
    (void)spec;
    *out = (lips_value){.c = net->values[node->in[0]].c, .h = 1, .w = 1, .last = -1};
    return LIPS_OK;
}

static double one(const lips_net *net, const lips_node *node, const double *params,
                  const double *buffers)
{
    (void)net, (void)node, (void)params, (void)buffers;
    return 1;
}

static const lips_kind sum_kind = {.name = "sum", .n_in = 2, .setup = sum_setup, .norm = one};
static const lips_kind wild_kind = {
    .name = "wild", .n_in = 2, .setup = sum_setup, .no_norm = "wild maps have no bound"};

/* A residual block: |shortcut| + prod |branch|, then the last layer. */
static lips_net *residual(const lips_kind *join)
{
    lips_net *net;
    lips_model_spec spec = {
        .kind = "mlp", .width = 1, .depth = 0, .classes = 2, .c = 3, .h = 1, .w = 1};
    int a, b, c, d;
    ok(lips_net_begin(&net, &spec));
    lips_node_spec linear = {
        .kind = &lips_kind_linear, .name = "a", .in = {0}, .units = 3, .relu = true};
    ok(lips_net_add(net, &linear, &a));
    linear.name = "b", linear.in[0] = a, linear.relu = false;
    ok(lips_net_add(net, &linear, &b));
    linear.name = "c", linear.in[0] = 0;
    ok(lips_net_add(net, &linear, &c));
    ok(lips_net_add(net, &(lips_node_spec){.kind = join, .name = "sum", .in = {b, c}, .relu = true},
                    &d));
    linear.name = "d", linear.in[0] = d, linear.units = 2;
    ok(lips_net_add(net, &linear, &d));
    ok(lips_net_finish(net, d));
    return net;
}

static void sums(void **state)
{
    (void)state;
    const double norms[] = {0, 2, 3, 5, 7};
    double *params = calloc(64, sizeof *params), out;
    const char *reason;
    lips_net *net = residual(&sum_kind);
    ok(lips_net_lipschitz(net, params, NULL, norms, &out, &reason));
    assert_null(reason);
    assert_true(out == (2 * 3 + 5) * 7);
    lips_net_free(net);
    net = residual(&wild_kind);
    ok(lips_net_lipschitz(net, params, NULL, norms, &out, &reason));
    assert_string_equal(reason, "wild maps have no bound");
    assert_true(isnan(out));
    lips_net_free(net);
    free(params);
}

static void judged(double mean, double max, double certified, lips_record_form form, double value,
                   const char *reason)
{
    lips_record r = lips_record_init("lipschitz.chain");
    lips_chain_judge(
        &r, &(lips_chain){.mean = mean, .max = max, .certified = certified, .rounding = 1e-9});
    assert_int_equal(r.form, form);
    assert_true(form == LIPS_FORM_NULL || r.value == value);
    assert_true(reason ? r.reason && strstr(r.reason, reason) : !r.reason);
}

/* No network can break the chain, so its numbers are given. */
static void broken_chains(void **state)
{
    (void)state;
    const lips_record_form value = LIPS_FORM_VALUE;
    judged(1, 2, 3, value, 1, NULL);
    judged(2, 2, 2, value, 1, NULL);
    judged(0, 0, 0, value, 1, NULL);
    judged(1, 2, INFINITY, value, 1, NULL);
    judged(2, 2 - 1e-9, 2 - 2e-9, value, 1, NULL); /* rounding */
    judged(2, 2 - 1e-8, 3, value, 0, "the mean of the norms is above their maximum");
    judged(1, 2, 2 - 1e-8, value, 0, "the largest norm is above the certified bound");
    judged(1, 1e-300, 0, value, 0, "mean of the norms");
    judged(1e-300, 1e-300, 0, value, 0, "certified bound");
    judged(INFINITY, INFINITY, 3, value, 0, "certified bound");
    judged(NAN, NAN, 3, LIPS_FORM_NULL, 0, "not a number");
    judged(1, 2, NAN, LIPS_FORM_NULL, 0, "not a number");
}

/* Attention has no Lipschitz constant: the bound and the chain are null, with the same reason; the
 * product of norms is there. */
static void no_bound(void **state)
{
    (void)state;
    static const lips_model_spec VIT = {
        .kind = "vit", .width = 8, .depth = 1, .classes = 3, .c = 1, .h = 8, .w = 8};
    tiny_net t = tiny_net_create(&VIT, 3, 32);
    lips_measurement m = measure(&t, "ref", "E");
    const lips_record *bound = record(&m, "lipschitz.certified", 0);
    const lips_record *chain = record(&m, "lipschitz.chain", 0);
    assert_int_equal(bound->form, LIPS_FORM_NULL);
    assert_int_equal(chain->form, LIPS_FORM_NULL);
    assert_non_null(strstr(bound->reason, "attention"));
    assert_string_equal(chain->reason, bound->reason);
    assert_true(record(&m, "lipschitz.product", 0)->value > 0);
    lips_measurement_free(&m);
    tiny_net_free(&t);
}

/* Zero and NaN weights. */
static void bad_weights(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&CONVNET_BN, 4, 31);
    for (int64_t i = 0; i < t.p; i++)
        t.params[i] = 0;
    lips_measurement m = measure(&t, "ref", "E");
    assert_true(record(&m, "lipschitz.certified", 0)->value == 0);
    assert_true(record(&m, "lipschitz.product", 0)->value == 0);
    assert_true(record(&m, "lipschitz.chain", 0)->value == 1);
    lips_measurement_free(&m);
    const lips_segment *seg;
    int count = lips_net_segments(t.net, &seg);
    for (int s = 0; s < count; s++)
        if (seg[s].role == LIPS_ROLE_NORM_WEIGHT)
            t.params[seg[s].offset] = NAN;
    m = measure(&t, "ref", "E");
    assert_true(isnan(record(&m, "lipschitz.certified", 0)->value));
    assert_int_equal(record(&m, "lipschitz.chain", 0)->form, LIPS_FORM_NULL);
    lips_measurement_free(&m);
    tiny_net_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds),   cmocka_unit_test(chain_comes_along),
        cmocka_unit_test(sums),     cmocka_unit_test(broken_chains),
        cmocka_unit_test(no_bound), cmocka_unit_test(bad_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
