/* base/record.c: statistics against numpy's definitions, the line of JSON, and reading it back. */
#include "base/record.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Stated positively, so that NaN fails. */
#define assert_near(a, b, tol) assert_true(fabs((a) - (b)) <= (tol))

static void expect_json(const lips_record *r, const char *want)
{
    char buf[2048], again[2048];
    int n = lips_record_json(r, buf, sizeof buf);
    assert_string_equal(buf, want);
    assert_int_equal(n, strlen(want));
    /* Read back and written again: the same bytes. */
    lips_record_line line;
    assert_int_equal(lips_record_parse(&line, buf, (size_t)n), LIPS_OK);
    lips_record_json(&line.r, again, sizeof again);
    assert_string_equal(again, want);
    assert_int_equal(line.r.form, r->form);
    assert_int_equal(line.r.estimate, r->estimate);
    lips_record_line_free(&line);
}

static void statistics_are_numpys(void **state)
{
    (void)state;
    /* numpy: mean 3.6, std(ddof=1)/sqrt(5) = 1.1224972160321824, quantile(0.9) = 6.2 */
    static const double v[] = {1, 7, 2, 5, 3};
    lips_record r = lips_record_init("jacobian");
    assert_int_equal(lips_record_stats(&r, v, 5), LIPS_OK);
    assert_int_equal(r.form, LIPS_FORM_STATS);
    assert_int_equal(r.n, 5);
    assert_near(r.mean, 3.6, 1e-15);
    double want_err = sqrt((6.76 + 11.56 + 2.56 + 1.96 + 0.36) / 4 / 5);
    assert_near(r.std_err, want_err, 1e-14);
    assert_true(r.min == 1 && r.median == 3 && r.max == 7);
    assert_near(r.q90, 6.2, 1e-14);
    assert_true(v[1] == 7); /* not sorted in place */
    assert_int_equal(lips_record_stats(&r, v, 4), LIPS_OK);
    assert_true(r.median == 3.5); /* between 2 and 5 */
    assert_near(r.q90, 5 + 0.7 * 2, 1e-14);
    assert_int_equal(lips_record_stats(&r, v, 1), LIPS_OK);
    assert_true(r.mean == 1 && r.std_err == 0 && r.min == 1 && r.median == 1 && r.q90 == 1 &&
                r.max == 1);
    assert_int_equal(lips_record_stats(&r, v, 0), LIPS_ERR_USAGE);
}

static void statistics_keep_what_is_not_finite(void **state)
{
    (void)state;
    const double nan[] = {1, NAN, 2}, inf[] = {1, INFINITY, 2};
    lips_record r = lips_record_init("jacobian");
    assert_int_equal(lips_record_stats(&r, nan, 3), LIPS_OK);
    assert_true(isnan(r.mean) && isnan(r.std_err) && isnan(r.min) && isnan(r.median) &&
                isnan(r.q90) && isnan(r.max));
    assert_int_equal(lips_record_stats(&r, inf, 3), LIPS_OK);
    assert_true(isinf(r.mean) && isnan(r.std_err) && r.min == 1 && r.median == 2 && isinf(r.max));
    assert_int_equal(lips_record_stats(&r, nan + 1, 1), LIPS_OK);
    assert_true(isnan(r.mean) && isnan(r.std_err));
}

static void statistics_survive_a_large_mean(void **state)
{
    (void)state;
    /* A one-pass variance would lose all digits here. */
    const double v[] = {1e9 + 1, 1e9 + 2, 1e9 + 3};
    lips_record r = lips_record_init("x");
    assert_int_equal(lips_record_stats(&r, v, 3), LIPS_OK);
    assert_near(r.std_err, 1 / sqrt(3.0), 1e-12);
}

static void lines_have_their_fields(void **state)
{
    (void)state;
    lips_record r = lips_record_init("loss");
    r.split = "train";
    r.epoch = 0;
    r.n = 4000;
    r.value = 0.1;
    expect_json(&r, "{\"quantity\":\"loss\",\"split\":\"train\",\"epoch\":0,\"n\":4000,"
                    "\"value\":0.10000000000000001}");
    r = lips_record_init("layer.input_jacobian");
    r.norm = "op";
    r.layer = 3;
    r.layer_name = "layer3.conv";
    r.split = "train";
    r.epoch = 300;
    r.form = LIPS_FORM_STATS;
    r.n = 2;
    r.mean = 1.5;
    r.std_err = 0.5;
    r.min = 1;
    r.median = 1.5;
    r.q90 = 1.9;
    r.max = 1e300;
    r.exact = true;
    r.precision = "float32";
    r.device = "cpu";
    r.has_seed = true;
    r.seed = 1234;
    expect_json(&r, "{\"quantity\":\"layer.input_jacobian\",\"norm\":\"op\",\"layer\":3,"
                    "\"layer_name\":\"layer3.conv\",\"split\":\"train\",\"epoch\":300,\"n\":2,"
                    "\"mean\":1.5,\"std_err\":0.5,\"min\":1,\"median\":1.5,"
                    "\"q90\":1.8999999999999999,\"max\":1.0000000000000001e+300,\"exact\":true,"
                    "\"seed\":1234,\"precision\":\"float32\",\"device\":\"cpu\"}");
    r = lips_record_init("hessian.top");
    r.rank = 2;
    r.value = -0.0;
    r.estimate = true;
    r.iterations = 12;
    r.residual = 1e-3;
    r.std_err = 0;
    expect_json(&r, "{\"quantity\":\"hessian.top\",\"rank\":2,\"value\":-0.0,\"std_err\":0,"
                    "\"exact\":false,\"iterations\":12,\"residual\":0.001}");
    r = lips_record_init("lipschitz.certified");
    r.form = LIPS_FORM_NULL;
    r.reason = "no bound\tfor \"attention\" \\ \n";
    expect_json(&r, "{\"quantity\":\"lipschitz.certified\",\"value\":null,"
                    "\"reason\":\"no bound\\u0009for \\\"attention\\\" \\\\ \\n\"}");
}

static void not_finite_is_said(void **state)
{
    (void)state;
    lips_record r = lips_record_init("loss");
    r.value = INFINITY;
    expect_json(&r, "{\"quantity\":\"loss\",\"value\":\"inf\",\"finite\":false}");
    r.value = -INFINITY;
    expect_json(&r, "{\"quantity\":\"loss\",\"value\":\"-inf\",\"finite\":false}");
    r.value = NAN;
    expect_json(&r, "{\"quantity\":\"loss\",\"value\":\"nan\",\"finite\":false}");
}

static void numbers_come_back_bit_for_bit(void **state)
{
    (void)state;
    static const double v[] = {0.1,
                               1e-320,
                               123456789012345678.0,
                               99999999999999984.0,
                               0x1p-1074,
                               0x1.fffffffffffffp1023,
                               -1.0 / 3,
                               9007199254740993.0,
                               1e17,
                               -0.0};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        lips_record r = lips_record_init("x");
        r.value = v[i];
        r.has_seed = true;
        r.seed = UINT64_MAX - i;
        char buf[256];
        int n = lips_record_json(&r, buf, sizeof buf);
        lips_record_line line;
        assert_int_equal(lips_record_parse(&line, buf, (size_t)n), LIPS_OK);
        assert_memory_equal(&line.r.value, &v[i], sizeof v[i]);
        assert_true(line.r.has_seed && line.r.seed == UINT64_MAX - i);
        lips_record_line_free(&line);
    }
}

static void a_small_buffer_is_not_overrun(void **state)
{
    (void)state;
    lips_record r = lips_record_init("loss");
    r.value = 1.0 / 3;
    char full[256], cut[256];
    int n = lips_record_json(&r, full, sizeof full);
    assert_int_equal(lips_record_json(&r, NULL, 0), n);
    for (int size = 1; size <= n; size++) {
        memset(cut, '#', sizeof cut);
        assert_int_equal(lips_record_json(&r, cut, (size_t)size), n);
        assert_memory_equal(cut, full, (size_t)size - 1);
        assert_int_equal(cut[size - 1], 0);
        assert_int_equal(cut[size], '#');
    }
}

static void bad_lines_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "{}",
        "{\"quantity\":\"a\"",
        "{\"quantity\":\"a\"} x",
        "{\"quantity\":1,\"value\":1}",
        "{\"value\":1}",
        "{\"quantity\":\"a\"}",
        "{\"quantity\":\"a\",\"value\":1,\"value\":2}",
        "{\"quantity\":\"a\",\"value\":\"NaN\"}",
        "{\"quantity\":\"a\",\"value\":1e999}",
        "{\"quantity\":\"a\",\"value\":true}",
        "{\"quantity\":\"a\",\"value\":null}",
        "{\"quantity\":\"a\",\"value\":1,\"layer\":0}",
        "{\"quantity\":\"a\",\"value\":1,\"rank\":0}",
        "{\"quantity\":\"a\",\"value\":1,\"layer\":99999999999}",
        "{\"quantity\":\"a\",\"value\":1,\"layer\":1.5}",
        "{\"quantity\":\"a\",\"value\":1,\"epoch\":-1}",
        "{\"quantity\":\"a\",\"value\":1,\"n\":0}",
        "{\"quantity\":\"a\",\"value\":1,\"n\":99999999999999999999}",
        "{\"quantity\":\"a\",\"value\":1,\"seed\":\"-1\"}",
        "{\"quantity\":\"a\",\"value\":1,\"seed\":\"18446744073709551616\"}",
        "{\"quantity\":\"a\",\"value\":1,\"seed\":\"01\"}",
        "{\"quantity\":\"a\",\"value\":1,\"finite\":true}",
        "{\"quantity\":\"a\",\"value\":1,\"exact\":1}",
        "{\"quantity\":\"a\",\"value\":1,\"mean\":1}",
        "{\"quantity\":\"a\",\"mean\":1}",
        "{\"quantity\":\"a\",\"value\":1,\"colour\":\"red\"}",
        "{\"quantity\":\"a\\u0000b\",\"value\":1}",
        "{\"quantity\":\"\xff\",\"value\":1}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        lips_record_line line;
        lips_error_clear();
        assert_int_equal(lips_record_parse(&line, bad[i], strlen(bad[i])), LIPS_ERR_DATA);
        assert_memory_equal(lips_error(), "record: ", 8);
    }
    size_t size = (1 << 16) + 1;
    char *longest = malloc(size);
    assert_non_null(longest);
    memset(longest, '[', size);
    lips_record_line line;
    assert_int_equal(lips_record_parse(&line, longest, size), LIPS_ERR_DATA);
    assert_int_equal(lips_record_parse(&line, longest, size - 1), LIPS_ERR_DATA); /* deep nesting */
    free(longest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_are_numpys),
        cmocka_unit_test(statistics_keep_what_is_not_finite),
        cmocka_unit_test(statistics_survive_a_large_mean),
        cmocka_unit_test(lines_have_their_fields),
        cmocka_unit_test(not_finite_is_said),
        cmocka_unit_test(numbers_come_back_bit_for_bit),
        cmocka_unit_test(a_small_buffer_is_not_overrun),
        cmocka_unit_test(bad_lines_are_refused),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
