/* Which algorithm the cpu backend takes for a convolution, and the operations that are counted. */
#include "../lib/cmocka_all.h"
#include "backend/cpu/conv.h"

static lips_conv_args sizes(int64_t c, int64_t o, int64_t hw, int64_t t)
{
    return (lips_conv_args){
        .geom = {.r = 3, .stride = 1, .pad = 1},
        .x = {.cap = 16, .b = 16, .c = c, .h = hw, .w = hw, .t = 1, .lanes = 16},
        .y = {.cap = 16, .b = 16, .c = o, .h = hw, .w = hw, .t = t, .lanes = 16}};
}

static void test_choice(void **state)
{
    (void)state;
    lips_conv_args wide = sizes(256, 512, 8, 10), narrow = sizes(2, 4, 16, 10);
    lips_conv_args big = sizes(64, 128, 32, 10);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_GRAM, &wide), LIPS_CONV_PIXEL_GRAM);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_GRAM, &narrow), LIPS_CONV_DIRECT);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_GRAM, &big), LIPS_CONV_WINOGRAD);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_FORWARD, &wide), LIPS_CONV_WINOGRAD);
    wide.x.t = 10;
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_VJP, &wide), LIPS_CONV_WINOGRAD);
    wide.x.t = wide.y.t = narrow.y.t = 1;
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_GRAD, &wide), LIPS_CONV_WINOGRAD);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_FORWARD, &narrow), LIPS_CONV_DIRECT);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_GRAD, &narrow), LIPS_CONV_DIRECT);
    wide.geom.stride = 2;
    wide.y.h = wide.y.w = 4;
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_VJP, &wide), LIPS_CONV_DIRECT);
    wide.geom.r = narrow.geom.r = 1;
    wide.geom.pad = narrow.geom.pad = 0;
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_FORWARD, &wide), LIPS_CONV_MATRIX);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_FORWARD, &narrow), LIPS_CONV_DIRECT);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_VJP, &wide), LIPS_CONV_MATRIX);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_VJP, &narrow), LIPS_CONV_DIRECT);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_GRAD, &wide), LIPS_CONV_DIRECT);
    narrow.geom.stride = 2;
    narrow.y.h = narrow.y.w = 8;
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_VJP, &narrow), LIPS_CONV_MATRIX);
    wide.geom.pad = 1;
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_FORWARD, &wide), LIPS_CONV_DIRECT);
}

static void test_flops(void **state)
{
    (void)state;
    lips_conv_args a = sizes(3, 5, 7, 10);
    const double one = 2.0 * 3 * 5 * 9 * 49 * 16;
    assert_true(lips_conv_flops(LIPS_CONV_FORWARD, &a) == 10 * one);
    assert_true(lips_conv_flops(LIPS_CONV_VJP, &a) == 10 * one);
    a.y.t = 1;
    assert_true(lips_conv_flops(LIPS_CONV_GRAD, &a) == one);
    assert_true(lips_conv_flops(LIPS_CONV_GRAM, &a) == one * (49 + 0.75) / 49);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_flops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
