/*
 * Networks: names and shapes as PyTorch's, refusals, initial values.
 */
#include "../lib/cmocka_all.h"
#include "../lib/opcase.h"
#include "nn/net.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lips_net *make(lips_model_spec spec)
{
    lips_net *net;
    opcase_ok(lips_net_create(&net, &spec));
    return net;
}

/* "name (a,b)" of every segment, in order. */
static void list(char *out, size_t size, const lips_segment *s, int n)
{
    out[0] = 0;
    for (int i = 0; i < n; i++) {
        size_t k = strlen(out);
        k += (size_t)snprintf(out + k, size - k, "%s%s", i ? " " : "", s[i].name);
        for (int d = 0; d < s[i].ndim; d++)
            k += (size_t)snprintf(out + k, size - k, "%c%lld", d ? 'x' : ':',
                                  (long long)s[i].shape[d]);
    }
}

static void check_segments(const lips_segment *s, int n, int64_t total)
{
    int64_t off = 0;
    for (int i = 0; i < n; i++) {
        int64_t count = 1;
        for (int d = 0; d < s[i].ndim; d++)
            count *= s[i].shape[d];
        assert_true(s[i].offset == off && s[i].count == count);
        off += count;
    }
    assert_true(off == total);
}

static void expect(lips_model_spec spec, const char *params, const char *buffers)
{
    char text[2048];
    lips_net *net = make(spec);
    const lips_segment *s;
    int n = lips_net_segments(net, &s);
    list(text, sizeof text, s, n);
    assert_string_equal(text, params);
    check_segments(s, n, lips_net_params(net));
    n = lips_net_buffer_segments(net, &s);
    list(text, sizeof text, s, n);
    assert_string_equal(text, buffers);
    check_segments(s, n, lips_net_buffers(net));
    lips_net_free(net);
}

static void test_names(void **state)
{
    (void)state;
    expect(
        (lips_model_spec){
            .kind = "mlp", .width = 7, .depth = 0, .classes = 10, .c = 1, .h = 28, .w = 28},
        "0.weight:10x784 0.bias:10", "");
    expect(
        (lips_model_spec){
            .kind = "mlp", .width = 7, .depth = 2, .classes = 10, .c = 3, .h = 2, .w = 2},
        "0.weight:7x12 0.bias:7 2.weight:7x7 2.bias:7 4.weight:10x7 4.bias:10", "");
    expect((lips_model_spec){.kind = "convnet", .width = 3, .classes = 5, .c = 1, .h = 28, .w = 28},
           "layer1.conv.weight:3x1x3x3 layer1.conv.bias:3 layer2.conv.weight:6x3x3x3 "
           "layer2.conv.bias:6 "
           "layer3.conv.weight:12x6x3x3 layer3.conv.bias:12 layer4.conv.weight:24x12x3x3 "
           "layer4.conv.bias:24 fc.weight:5x24 fc.bias:5",
           "");
    expect(
        (lips_model_spec){.kind = "convnet",
                          .width = 1,
                          .classes = 5,
                          .c = 3,
                          .h = 32,
                          .w = 32,
                          .batch_norm = true},
        "layer1.conv.weight:1x3x3x3 layer1.bn.weight:1 layer1.bn.bias:1 layer2.conv.weight:2x1x3x3 "
        "layer2.bn.weight:2 layer2.bn.bias:2 layer3.conv.weight:4x2x3x3 layer3.bn.weight:4 "
        "layer3.bn.bias:4 layer4.conv.weight:8x4x3x3 layer4.bn.weight:8 layer4.bn.bias:8 "
        "fc.weight:5x8 "
        "fc.bias:5",
        "layer1.bn.running_mean:1 layer1.bn.running_var:1 layer1.bn.num_batches_tracked "
        "layer2.bn.running_mean:2 layer2.bn.running_var:2 layer2.bn.num_batches_tracked "
        "layer3.bn.running_mean:4 layer3.bn.running_var:4 layer3.bn.num_batches_tracked "
        "layer4.bn.running_mean:8 layer4.bn.running_var:8 layer4.bn.num_batches_tracked");
}

static void test_layers(void **state)
{
    (void)state;
    lips_net *net = make(
        (lips_model_spec){.kind = "convnet", .width = 4, .classes = 10, .c = 3, .h = 32, .w = 32});
    static const struct {
        const char *name;
        int64_t c, h, o, oh;
        int layer;
    } want[] = {{"layer1.conv", 3, 32, 4, 32, 1},
                {"layer2.conv", 4, 32, 8, 32, 2},
                {"layer3.conv", 8, 16, 16, 16, 3},
                {"layer4.conv", 16, 8, 32, 8, 4},
                {"fc", 32, 1, 10, 1, 5}};
    const lips_segment *s;
    lips_net_segments(net, &s);
    assert_int_equal(lips_net_layers(net), 5);
    for (int l = 1; l <= 5; l++) {
        const lips_layer_info *i = lips_net_layer(net, l);
        assert_string_equal(i->name, want[l - 1].name);
        assert_true(i->c == want[l - 1].c && i->h == want[l - 1].h && i->w == want[l - 1].h);
        assert_true(i->o == want[l - 1].o && i->oh == want[l - 1].oh && i->ow == want[l - 1].oh);
        assert_true(i->conv == (l < 5) && s[i->weight].layer == l && s[i->bias].layer == l);
    }
    assert_null(lips_net_layer(net, 0));
    assert_null(lips_net_layer(net, 6));
    double conv = 1024 * (27. * 4 + 36. * 8) + 256 * 72. * 16 + 64 * 144. * 32;
    assert_true(lips_net_forward_flops(net) == 2 * (conv + 320));
    lips_net_free(net);
}

/* Names, order and numbers of torchvision's resnet18; a shortcut's convolution behind its
 * branch. */
static void test_resnet_layers(void **state)
{
    (void)state;
    for (int norm = 0; norm < 2; norm++) {
        lips_net *net = make((lips_model_spec){.kind = "resnet18",
                                               .width = 3,
                                               .classes = 10,
                                               .c = 3,
                                               .h = 9,
                                               .w = 8,
                                               .batch_norm = norm});
        static const struct {
            int layer;
            const char *name;
            int64_t c, h, w, o, oh, ow, r, stride;
        } want[] = {{1, "conv1", 3, 9, 8, 3, 9, 8, 3, 1},
                    {2, "layer1.0.conv1", 3, 9, 8, 3, 9, 8, 3, 1},
                    {5, "layer1.1.conv2", 3, 9, 8, 3, 9, 8, 3, 1},
                    {6, "layer2.0.conv1", 3, 9, 8, 6, 5, 4, 3, 2},
                    {7, "layer2.0.conv2", 6, 5, 4, 6, 5, 4, 3, 1},
                    {8, "layer2.0.downsample.0", 3, 9, 8, 6, 5, 4, 1, 2},
                    {9, "layer2.1.conv1", 6, 5, 4, 6, 5, 4, 3, 1},
                    {13, "layer3.0.downsample.0", 6, 5, 4, 12, 3, 2, 1, 2},
                    {18, "layer4.0.downsample.0", 12, 3, 2, 24, 2, 1, 1, 2},
                    {20, "layer4.1.conv2", 24, 2, 1, 24, 2, 1, 3, 1}};
        const lips_segment *s;
        int n = lips_net_segments(net, &s);
        assert_int_equal(lips_net_layers(net), 21);
        assert_string_equal(lips_net_layer(net, 21)->name, "fc");
        for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
            const lips_layer_info *i = lips_net_layer(net, want[k].layer);
            assert_string_equal(i->name, want[k].name);
            assert_true(i->c == want[k].c && i->h == want[k].h && i->w == want[k].w);
            assert_true(i->o == want[k].o && i->oh == want[k].oh && i->ow == want[k].ow);
            assert_true(i->geom.r == want[k].r && i->geom.stride == want[k].stride);
            assert_true((i->bias >= 0) == (want[k].r == 3 && !norm));
        }
        /* 20 convolutions and fc: weights, and biases of the 3x3 ones or batch norms' two. */
        assert_int_equal(n, 20 + 17 * (norm ? 2 : 1) + 2);
        n = lips_net_buffer_segments(net, &s);
        assert_int_equal(n, norm ? 3 * 17 : 0);
        if (norm)
            assert_string_equal(s[3].name, "layer1.0.bn1.running_mean");
        lips_net_free(net);
    }
}

static void refused(lips_model_spec spec, lips_status want, const char *text)
{
    lips_net *net = (lips_net *)1;
    lips_status st = lips_net_create(&net, &spec);
    if (st != want || net || !strstr(lips_error(), text))
        fail_msg("expected status %d with \"%s\", got %d: %s", (int)want, text, (int)st,
                 lips_error());
}

static void test_refusals(void **state)
{
    (void)state;
    const lips_model_spec mlp = {
        .kind = "mlp", .width = 4, .depth = 1, .classes = 3, .c = 1, .h = 4, .w = 4};
    lips_model_spec s = mlp;
    s.kind = "mpl";
    refused(s, LIPS_ERR_USAGE, "mlp, convnet");
    s.kind = NULL;
    refused(s, LIPS_ERR_USAGE, "model");
    static const int64_t widths[] = {0, -1, INT64_C(1) << 31, INT64_MAX};
    for (int i = 0; i < 4; i++) {
        s = mlp, s.width = widths[i];
        refused(s, LIPS_ERR_USAGE, "width");
        s = mlp, s.classes = widths[i];
        refused(s, LIPS_ERR_USAGE, "classes");
        s = mlp, s.h = widths[i];
        refused(s, LIPS_ERR_USAGE, "input height");
    }
    s = mlp, s.depth = -1;
    refused(s, LIPS_ERR_USAGE, "depth");
    s = mlp, s.batch_norm = true;
    refused(s, LIPS_ERR_UNSUPPORTED, "batch_norm");
    s = mlp, s.kind = "convnet", s.h = 6;
    refused(s, LIPS_ERR_USAGE, "multiples of 4");
    s = mlp, s.width = 1 << 20, s.depth = 3;
    refused(s, LIPS_ERR_USAGE, "parameters");
}

/* ---- initial values ---- */

typedef struct moments {
    double mean, var, most;
    int64_t zeros;
} moments;

static moments measure(const double *v, int64_t n)
{
    moments m = {0};
    for (int64_t i = 0; i < n; i++) {
        m.mean += v[i] / (double)n;
        m.most = fmax(m.most, fabs(v[i]));
        m.zeros += v[i] == 0;
        assert_true(v[i] == (double)(float)v[i]);
    }
    for (int64_t i = 0; i < n; i++)
        m.var += (v[i] - m.mean) * (v[i] - m.mean) / (double)n;
    return m;
}

static double *initial(const lips_net *net, lips_init init, uint64_t seed)
{
    double *p = malloc((size_t)lips_net_params(net) * sizeof *p);
    double *b = malloc((size_t)lips_net_buffers(net) * sizeof *b + 1);
    assert_true(p && b);
    opcase_ok(lips_net_init(net, init, seed, p, b));
    free(b);
    return p;
}

/* n draws: the variance is right to 5 standard errors (kurtosis at most 3: sqrt(2/n)), the mean
 * too. */
static void check_moments(const double *v, int64_t n, double var, double bound)
{
    moments m = measure(v, n);
    assert_true(fabs(m.var / var - 1) < 5 * sqrt(2 / (double)n));
    assert_true(fabs(m.mean) < 5 * sqrt(var / (double)n));
    assert_true(m.most <= bound && (isinf(bound) || m.most > 0.98 * bound));
}

static void test_init_statistics(void **state)
{
    (void)state;
    lips_net *net = make(
        (lips_model_spec){.kind = "convnet", .width = 16, .classes = 10, .c = 3, .h = 8, .w = 8});
    const lips_segment *s;
    lips_net_segments(net, &s);
    const lips_segment *w = &s[lips_net_layer(net, 3)->weight],
                       *b = &s[lips_net_layer(net, 3)->bias];
    const lips_segment *fc = &s[lips_net_layer(net, 5)->weight];
    double in = 32 * 9, out = 64 * 9; /* layer 3: 32 -> 64 channels */
    for (int init = LIPS_INIT_PYTORCH; init <= LIPS_INIT_FIXUP; init++) {
        double *p = initial(net, (lips_init)init, 5);
        double bound = init == LIPS_INIT_PYTORCH ? 1 / sqrt(in) : sqrt(6 / (in + out));
        bool uniform = init == LIPS_INIT_PYTORCH || init == LIPS_INIT_GLOROT;
        check_moments(p + w->offset, w->count, uniform ? bound * bound / 3 : 2 / out,
                      uniform ? bound : INFINITY);
        moments bias = measure(p + b->offset, b->count), last = measure(p + fc->offset, fc->count);
        assert_true(init == LIPS_INIT_PYTORCH ? bias.most > 0 && bias.most <= bound
                                              : bias.zeros == b->count);
        assert_true(init == LIPS_INIT_FIXUP ? last.zeros == fc->count : last.zeros < 5);
        free(p);
    }
    lips_net_free(net);
}

/* Fixup on residual branches: 8^(-1/2) inside, 0 at the end; stem and shortcuts as he. */
static void test_init_fixup_branches(void **state)
{
    (void)state;
    lips_net *net = make(
        (lips_model_spec){.kind = "resnet18", .width = 16, .classes = 10, .c = 3, .h = 8, .w = 8});
    double *p = initial(net, LIPS_INIT_FIXUP, 5);
    const lips_segment *s;
    int n = lips_net_segments(net, &s);
    for (int i = 0; i < n; i++) {
        const char *name = s[i].name;
        bool weight = s[i].role == LIPS_ROLE_WEIGHT, block = strncmp(name, "layer", 5) == 0;
        if (!weight || strstr(name, "conv2.") || strncmp(name, "fc.", 3) == 0)
            assert_true(measure(p + s[i].offset, s[i].count).zeros == s[i].count);
        else
            check_moments(p + s[i].offset, s[i].count,
                          2. / (double)(s[i].shape[0] * s[i].shape[2] * s[i].shape[3]) /
                              (block && strstr(name, "conv1.") ? 8 : 1),
                          INFINITY);
    }
    free(p);
    lips_net_free(net);
}

static void test_init_determinism(void **state)
{
    (void)state;
    lips_net *net = make((lips_model_spec){
        .kind = "mlp", .width = 9, .depth = 2, .classes = 4, .c = 1, .h = 3, .w = 3});
    lips_net *wide = make((lips_model_spec){
        .kind = "mlp", .width = 9, .depth = 3, .classes = 4, .c = 1, .h = 3, .w = 3});
    size_t n = (size_t)lips_net_params(net) * sizeof(double);
    double *a = initial(net, LIPS_INIT_HE, 1), *same = initial(net, LIPS_INIT_HE, 1);
    double *other = initial(net, LIPS_INIT_HE, 2), *deeper = initial(wide, LIPS_INIT_HE, 1);
    assert_memory_equal(a, same, n);
    assert_memory_not_equal(a, other, n);
    /* A tensor's values depend on its number and size alone. */
    assert_memory_equal(a, deeper, 81 * sizeof(double));
    /* Two tensors of one net do not repeat each other. */
    assert_memory_not_equal(a, a + 90, 81 * sizeof(double));
    free(a), free(same), free(other), free(deeper);
    lips_net_free(net), lips_net_free(wide);
}

static void test_init_norms(void **state)
{
    (void)state;
    lips_net *net = make((lips_model_spec){
        .kind = "convnet", .width = 2, .classes = 3, .c = 1, .h = 4, .w = 4, .batch_norm = true});
    double *p = malloc((size_t)lips_net_params(net) * sizeof *p);
    double *b = malloc((size_t)lips_net_buffers(net) * sizeof *b);
    assert_true(p && b);
    opcase_ok(lips_net_init(net, LIPS_INIT_PYTORCH, 0, p, b));
    const lips_segment *s;
    int n = lips_net_segments(net, &s);
    for (int i = 0; i < n; i++)
        for (int64_t k = s[i].offset; !s[i].layer && k < s[i].offset + s[i].count; k++)
            assert_true(p[k] == (s[i].role == LIPS_ROLE_NORM_WEIGHT ? 1 : 0));
    n = lips_net_buffer_segments(net, &s);
    for (int i = 0; i < n; i++)
        for (int64_t k = s[i].offset; k < s[i].offset + s[i].count; k++)
            assert_true(b[k] == (s[i].role == LIPS_ROLE_RUNNING_VAR ? 1 : 0));
    assert_int_equal(lips_net_init(net, (lips_init)9, 0, p, b), LIPS_ERR_USAGE);
    free(p), free(b);
    lips_net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_resnet_layers),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_init_statistics),
        cmocka_unit_test(test_init_fixup_branches),
        cmocka_unit_test(test_init_determinism),
        cmocka_unit_test(test_init_norms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
