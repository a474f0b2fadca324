/*
 * The vision transformer as a network: names and shapes as torchvision's, layers, heads,
 * operations, refusals, initial values, and the certified bound it has not.
 */
#include "../lib/cmocka_all.h"
#include "../lib/netcase.h"
#include "../lib/opcase.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static lips_model_spec vit(int64_t width, int64_t depth)
{
    return (lips_model_spec){
        .kind = "vit", .width = width, .depth = depth, .classes = 10, .c = 3, .h = 8, .w = 12};
}

static lips_net *make(lips_model_spec spec)
{
    lips_net *net;
    opcase_ok(lips_net_create(&net, &spec));
    return net;
}

typedef struct expected {
    const char *name;
    int ndim;
    int64_t shape[4];
    int layer;
} expected;

/* Of width 6, one block, 2 x 3 patches. */
#define BLOCK "encoder.layers.encoder_layer_0."
static const expected segments[] = {
    {"conv_proj.weight", 4, {6, 3, 4, 4}, 1},
    {"conv_proj.bias", 1, {6}, 1},
    {"class_token", 3, {1, 1, 6}, 0},
    {"encoder.pos_embedding", 3, {1, 7, 6}, 0},
    {BLOCK "ln_1.weight", 1, {6}, 0},
    {BLOCK "ln_1.bias", 1, {6}, 0},
    {BLOCK "self_attention.in_proj_weight", 2, {18, 6}, 2},
    {BLOCK "self_attention.in_proj_bias", 1, {18}, 2},
    {BLOCK "self_attention.out_proj.weight", 2, {6, 6}, 3},
    {BLOCK "self_attention.out_proj.bias", 1, {6}, 3},
    {BLOCK "ln_2.weight", 1, {6}, 0},
    {BLOCK "ln_2.bias", 1, {6}, 0},
    {BLOCK "mlp.0.weight", 2, {24, 6}, 4},
    {BLOCK "mlp.0.bias", 1, {24}, 4},
    {BLOCK "mlp.3.weight", 2, {6, 24}, 5},
    {BLOCK "mlp.3.bias", 1, {6}, 5},
    {"encoder.ln.weight", 1, {6}, 0},
    {"encoder.ln.bias", 1, {6}, 0},
    {"heads.head.weight", 2, {10, 6}, 6},
    {"heads.head.bias", 1, {10}, 6},
};
enum { SEGMENTS = sizeof segments / sizeof segments[0] };

static void test_names(void **state)
{
    (void)state;
    lips_net *net = make(vit(6, 1));
    const lips_segment *s;
    assert_int_equal(lips_net_segments(net, &s), SEGMENTS);
    assert_int_equal(lips_net_buffers(net), 0);
    for (int i = 0; i < SEGMENTS; i++) {
        assert_string_equal(s[i].name, segments[i].name);
        assert_int_equal(s[i].ndim, segments[i].ndim);
        assert_int_equal(s[i].layer, segments[i].layer);
        for (int d = 0; d < s[i].ndim; d++)
            assert_int_equal(s[i].shape[d], segments[i].shape[d]);
    }
    lips_net_free(net);
}

static void test_layers(void **state)
{
    (void)state;
    static const char *const names[] = {"conv_proj",
                                        BLOCK "self_attention.in_proj",
                                        BLOCK "self_attention.out_proj",
                                        BLOCK "mlp.0",
                                        BLOCK "mlp.3",
                                        "heads.head"};
    lips_net *net = make(vit(6, 1));
    assert_int_equal(lips_net_layers(net), 6);
    for (int l = 1; l <= 6; l++)
        assert_string_equal(lips_net_layer(net, l)->name, names[l - 1]);
    const lips_layer_info *q = lips_net_layer(net, 2);
    assert_true(q->c == 6 && q->o == 18 && q->h * q->w == 7 && q->oh * q->ow == 7);
    /* Patches 6 x 48 x 6, then 12 w^2 per token and 2 N^2 w for the attention, and the head. */
    double macs = 6 * 48 * 6 + 7 * 12 * 36 + 2 * 49 * 6 + 60;
    assert_true(lips_net_forward_flops(net) == 2 * macs);
    assert_true(lips_net_curved(net));
    lips_net_free(net);
    net = make(vit(6, 6));
    assert_int_equal(lips_net_layers(net), 26);
    lips_net_free(net);
}

/* Of 32 channels where 32 divides the width, else one. */
static void test_heads(void **state)
{
    (void)state;
    static const int64_t width[] = {1, 31, 32, 33, 64, 96}, heads[] = {1, 1, 1, 1, 2, 3};
    for (int i = 0; i < 6; i++) {
        lips_net *net = make(vit(width[i], 1));
        int seen = 0;
        for (int n = 0; n < net->n_nodes; n++)
            if (net->nodes[n].kind == &lips_kind_attention) {
                assert_int_equal(net->nodes[n].k, heads[i]);
                seen++;
            }
        assert_int_equal(seen, 1);
        lips_net_free(net);
    }
}

static void refused(lips_model_spec spec, lips_status want, const char *text)
{
    lips_net *net = NULL;
    lips_status st = lips_net_create(&net, &spec);
    if (st != want || net || !strstr(lips_error(), text))
        fail_msg("wanted status %d and '%s', got %d: %s", want, text, st, lips_error());
}

static void test_refusals(void **state)
{
    (void)state;
    lips_model_spec odd = vit(4, 1), norm = vit(4, 1);
    odd.h = 30;
    norm.batch_norm = true;
    refused(odd, LIPS_ERR_USAGE, "multiples of 4, not 30x12");
    refused(norm, LIPS_ERR_UNSUPPORTED, "batch_norm: model vit");
    refused(vit(4, 0), LIPS_ERR_USAGE, "depth: vit has at least 1 block, not 0");
    refused(vit(0, 1), LIPS_ERR_USAGE, "width: 0");
}

static void moments(const double *v, const lips_segment *s, double *mean, double *deviation)
{
    *mean = *deviation = 0;
    for (int64_t i = s->offset; i < s->offset + s->count; i++)
        *mean += v[i] / (double)s->count;
    for (int64_t i = s->offset; i < s->offset + s->count; i++)
        *deviation += (v[i] - *mean) * (v[i] - *mean) / (double)s->count;
    *deviation = sqrt(*deviation);
}

/* Class token 0, positions N(0, 0.02^2), norms the identity, layers as every Linear and Conv2d:
 * U(-b, b) with b = 1/sqrt(fan_in), of deviation b/sqrt(3). Within five standard errors. */
static void test_init(void **state)
{
    (void)state;
    lips_net *net = make(vit(48, 2));
    double *v = calloc((size_t)lips_net_params(net), sizeof *v), mean, deviation;
    const lips_segment *s;
    int n = lips_net_segments(net, &s);
    assert_non_null(v);
    opcase_ok(lips_net_init(net, LIPS_INIT_PYTORCH, 3, v, NULL));
    for (int i = 0; i < n; i++) {
        moments(v, &s[i], &mean, &deviation);
        double fan = s[i].ndim > 1 ? (double)(s[i].count / s[i].shape[0]) : 0, want = 0, centre = 0;
        if (s[i].role == LIPS_ROLE_POSITION)
            want = 0.02;
        else if (s[i].role == LIPS_ROLE_WEIGHT)
            want = 1 / sqrt(3 * fan);
        else if (s[i].role == LIPS_ROLE_BIAS)
            continue;
        else
            centre = s[i].role == LIPS_ROLE_NORM_WEIGHT;
        double error = want / sqrt((double)s[i].count) + 1e-12; /* rounding of sums of ones */
        assert_true(fabs(mean - centre) <= 5 * error);
        assert_true(fabs(deviation - want) <= 5 * error);
    }
    free(v);
    lips_net_free(net);
}

static void test_certified(void **state)
{
    (void)state;
    lips_net *net = make(vit(4, 1));
    double *v = calloc((size_t)lips_net_params(net), sizeof *v), out;
    double norm[] = {0, 1, 1, 1, 1, 1, 1};
    const char *reason;
    assert_non_null(v);
    opcase_ok(lips_net_init(net, LIPS_INIT_PYTORCH, 3, v, NULL));
    opcase_ok(lips_net_lipschitz(net, v, NULL, norm, &out, &reason));
    assert_true(isnan(out));
    assert_string_equal(reason, "dot-product attention has no Lipschitz constant");
    free(v);
    lips_net_free(net);
}

/* A layer norm of one channel is constant: all logits equal the biases' part, the gradient with
 * respect to the input is exactly 0, and nothing is NaN. */
static void test_width_one(void **state)
{
    (void)state;
    lips_model_spec spec = vit(1, 2);
    for (int i = 0; i < 2; i++) {
        netcase c;
        lips_tensor z, dx;
        netcase_open(&c, lips_backend_find(i ? "cpu" : "ref"), &spec,
                     &(lips_exec_spec){.cap = 5, .t = 10});
        netcase_forward(&c, 0, 5, false, &z);
        double *logits = netcase_values(&c, &z), eye[500] = {0};
        for (int64_t k = 0; k < 50; k++) {
            assert_true(isfinite(logits[k]) && logits[k] == logits[k % 10]);
            eye[k * 10 + k % 10] = 1;
        }
        netcase_seed(&c, 10, eye);
        opcase_ok(lips_exec_vjp(c.ex, &(lips_vjp_args){.t = 10, .want_input = true, .dx = &dx}));
        double *g = netcase_values(&c, &dx);
        for (int64_t k = 0; k < 50 * c.features; k++)
            assert_true(g[k] == 0);
        free(logits), free(g);
        netcase_close(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),     cmocka_unit_test(test_layers),
        cmocka_unit_test(test_heads),     cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_init),      cmocka_unit_test(test_certified),
        cmocka_unit_test(test_width_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
