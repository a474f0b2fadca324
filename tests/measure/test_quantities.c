/* --metrics, softmax and its relatives near interpolation, the logit Hessian's spectrum. */
#include "base/status.h"
#include "measure/maps.h"
#include "measure/quantities.h"
#include "measure/survey.h"

#include <lapacke.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static uint64_t bit(const char *name)
{
    int row = lips_quantity_find(name);
    assert_true(row >= 0);
    return UINT64_C(1) << row;
}

static void parses(void **state)
{
    (void)state;
    lips_metrics m;
    assert_int_equal(lips_metrics_parse(&m, "jacobian"), LIPS_OK);
    assert_true(m.bits == bit("jacobian"));
    assert_int_equal(lips_metrics_parse(&m, " A, b ,distance.total"), LIPS_OK);
    assert_true(m.bits == (bit("loss") | bit("error") | bit("jacobian") | bit("distance.total")));
    assert_int_equal(lips_metrics_parse(&m, "distance"), LIPS_OK);
    assert_true(m.bits == (bit("distance.layer") | bit("distance.total")));
    assert_int_equal(lips_metrics_parse(&m, "all"), LIPS_OK);
    assert_true(m.bits == (UINT64_C(1) << lips_quantities_count) - 1);
    for (int row = 0; row < lips_quantities_count; row++)
        assert_int_equal(lips_quantity_find(lips_quantities[row].name), row);
}

static void refuses(void **state)
{
    (void)state;
    lips_metrics m;
    assert_int_equal(lips_metrics_parse(&m, "jacobain"), LIPS_ERR_USAGE);
    assert_non_null(strstr(lips_error(), "did you mean 'jacobian'"));
    static const char *const bad[] = {
        "", ",", "loss,", "Z", "jacobian;loss", "op", "zzzzzzzzzzzzzzzzzz"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lips_error_clear();
        assert_int_equal(lips_metrics_parse(&m, bad[i]), LIPS_ERR_USAGE);
        assert_true(strlen(lips_error()) > 0);
    }
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(lips_metrics_parse(&m, longest), LIPS_ERR_USAGE);
}

/* A forecast counts the products of the searches that are asked for, and no others. */
static void curvature_passes(void **state)
{
    (void)state;
    static const char *const rising[] = {"A,B,C,D,E,F,hessian.trace,landscape", "ggn.lambda_max",
                                         "hessian.lambda_max", "hessian.top", "H"};
    double before = -1;
    for (int i = 0; i < 5; i++) {
        lips_metrics m;
        assert_int_equal(lips_metrics_parse(&m, rising[i]), LIPS_OK);
        double passes = lips_measure_curvature_passes(&m);
        assert_true(i == 0 ? passes == 0 : passes > before);
        before = passes;
    }
}

/* The sign vectors of a trace: of curved networks that are asked for one, fewer per sample the more
 * samples there are. */
static void remainder_passes(void **state)
{
    (void)state;
    lips_net *vit = NULL, *mlp = NULL;
    lips_metrics trace, none;
    const lips_ops *ops = lips_backend_find("cpu");
    const lips_model_spec curved = {
        .kind = "vit", .width = 4, .depth = 1, .c = 1, .h = 8, .w = 8, .classes = 3};
    const lips_model_spec linear = {
        .kind = "mlp", .width = 4, .depth = 1, .c = 1, .h = 8, .w = 8, .classes = 3};
    assert_int_equal(lips_net_create(&vit, &curved), LIPS_OK);
    assert_int_equal(lips_net_create(&mlp, &linear), LIPS_OK);
    assert_int_equal(lips_metrics_parse(&trace, "hessian.trace"), LIPS_OK);
    assert_int_equal(lips_metrics_parse(&none, "B,ggn.trace,hessian.top"), LIPS_OK);
    assert_true(lips_measure_remainder_passes(&trace, mlp, ops, 100) == 0);
    assert_true(lips_measure_remainder_passes(&none, vit, ops, 100) == 0);
    double few = lips_measure_remainder_passes(&trace, vit, ops, 16);
    double many = lips_measure_remainder_passes(&trace, vit, ops, 10000);
    assert_true(many > 0 && few > many);
    lips_net_free(mlp);
    lips_net_free(vit);
}

/* Blocks on a device: full for a narrow network, fewer for a wide one and for many classes, whole
 * tiles; no more than there are samples; by the sizes alone on a processor. */
static void blocks(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        int64_t width, classes, n, least, most;
    } cases[] = {{"convnet", 4, 10, 10000, 512, 512},  {"convnet", 64, 10, 10000, 64, 256},
                 {"convnet", 64, 100, 10000, 8, 64},   {"resnet18", 1, 100, 10000, 64, 256},
                 {"resnet18", 512, 100, 10000, 1, 16}, {"mlp", 512, 10, 10000, 512, 512},
                 {"convnet", 4, 10, 37, 48, 48}};
    const lips_ops *cpu = lips_backend_find("cpu");
    lips_ops device = *cpu;
    device.pass_bytes = (size_t)2 << 30;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lips_net *net = NULL;
        const lips_model_spec spec = {.kind = cases[i].kind,
                                      .width = cases[i].width,
                                      .depth = 1,
                                      .classes = cases[i].classes,
                                      .c = 3,
                                      .h = 32,
                                      .w = 32};
        assert_int_equal(lips_net_create(&net, &spec), LIPS_OK);
        int64_t block = lips_survey_block(net, &device, cases[i].n);
        print_message("%s w=%d K=%d: %d\n", cases[i].kind, (int)cases[i].width,
                      (int)cases[i].classes, (int)block);
        assert_in_range(block, cases[i].least, cases[i].most);
        assert_true(block < 16 || block % 16 == 0);
        assert_true(lips_survey_sum_block(net, &device, cases[i].n) <= 512);
        assert_int_equal(lips_survey_block(net, cpu, cases[i].n), lips_survey_block(net, cpu, 1));
        lips_net_free(net);
    }
}

/* exp(-50) = 1.9e-22 is far below the rounding of 1: all of these must keep their digits. */
static void softmax_near_interpolation(void **state)
{
    (void)state;
    const double z[3] = {50, 0, -1}, tail = exp(-50.0) + exp(-51.0);
    double p[3], rest[3], work[3];
    lips_softmax(p, rest, z, 3);
    assert_true(fabs(rest[0] / tail - 1) < 1e-14);
    assert_true(fabs(lips_cross_entropy(z, 3, 0) / tail - 1) < 1e-14);
    assert_true(fabs(lips_cross_entropy(z, 3, 2) - 51) < 1e-12);
    lips_logit_hessian h = lips_logit_hessian_of(p, rest, 3, work);
    assert_true(fabs(h.trace / (2 * tail) - 1) < 1e-12);
    /* to first order in the tail S is [[a+b,-a,-b],[-a,a,0],[-b,0,b]]: the two non-zero eigenvalues
     * sum to 2(a+b), product 3ab */
    double a = exp(-50.0), b = exp(-51.0), mid = a + b, gap = sqrt(mid * mid - 3 * a * b);
    assert_true(fabs(h.max / (mid + gap) - 1) < 1e-12);
    assert_true(fabs(h.min_nonzero / (mid - gap) - 1) < 1e-12);
}

static void extreme_logits(void **state)
{
    (void)state;
    const double far[3] = {2000, 0, 0}, bad[3] = {0, NAN, 1}, inf[3] = {INFINITY, 0, 0};
    double p[3], rest[3], work[3];
    lips_softmax(p, rest, far, 3);
    assert_true(p[0] == 1 && p[1] == 0 && rest[0] == 0 && rest[1] == 1);
    lips_logit_hessian h = lips_logit_hessian_of(p, rest, 3, work);
    assert_true(h.max == 0 && h.min_nonzero == 0 && h.trace == 0);
    assert_true(lips_cross_entropy(far, 3, 0) == 0 && lips_cross_entropy(far, 3, 1) == 2000);
    lips_softmax(p, rest, bad, 3);
    assert_true(isnan(p[0]) && isnan(rest[2]));
    h = lips_logit_hessian_of(p, rest, 3, work);
    assert_true(isnan(h.max) && isnan(h.min_nonzero) && isnan(h.trace));
    lips_softmax(p, rest, inf, 3);
    assert_true(isnan(p[0]) && isnan(p[1]));
}

static void logit_hessian(void **state)
{
    (void)state;
    enum { K = 6 };
    static const double logits[][K] = {
        {0, 0, 0, 0, 0, 0}, {1, 1, 2, 2, 3, 3}, {0.1, -2, 4, 0.5, 0.4, -7}, {5, 5, -5, -5, 0, 0}};
    for (size_t c = 0; c < sizeof logits / sizeof *logits; c++) {
        double p[K], rest[K], work[K], s[K * K], w[K];
        lips_softmax(p, rest, logits[c], K);
        lips_logit_hessian h = lips_logit_hessian_of(p, rest, K, work);
        for (int i = 0; i < K; i++)
            for (int j = 0; j < K; j++)
                s[i * K + j] = (i == j) * p[i] - p[i] * p[j];
        assert_int_equal(LAPACKE_dsyev(LAPACK_ROW_MAJOR, 'N', 'L', K, s, K, w), 0);
        assert_true(fabs(h.max - w[K - 1]) < 1e-15 && fabs(h.min_nonzero - w[1]) < 1e-15);
    }
    double one[1] = {1}, none[1] = {0}, work[1];
    lips_logit_hessian h = lips_logit_hessian_of(one, none, 1, work);
    assert_true(h.max == 0 && h.trace == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses),           cmocka_unit_test(refuses),
        cmocka_unit_test(blocks),           cmocka_unit_test(curvature_passes),
        cmocka_unit_test(remainder_passes), cmocka_unit_test(softmax_near_interpolation),
        cmocka_unit_test(extreme_logits),   cmocka_unit_test(logit_hessian),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
