/* Noisy sine samples. */
#include "data/data.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static lips_data_spec spec_of(int64_t n)
{
    return (lips_data_spec){.source = LIPS_DATA_SINE,
                            .n_train = n,
                            .data_seed = 3,
                            .noise_seed = 4,
                            .sine_noise = 0.3,
                            .sine_min = -3,
                            .sine_max = 5};
}

static lips_dataset *load(const lips_data_spec *spec)
{
    lips_dataset *d;
    if (lips_dataset_load(&d, spec) != LIPS_OK)
        fail_msg("%s", lips_error());
    return d;
}

static double x_of(const lips_dataset *d, float x)
{
    return (double)x * (double)d->std[0] + (double)d->mean[0];
}

static void samples_have_their_distribution(void **state)
{
    (void)state;
    enum { N = 4000 };
    lips_data_spec spec = spec_of(N);
    lips_dataset *d = load(&spec);
    double noise = 0, noise2 = 0, x1 = 0, x2 = 0;
    assert_true(d->regression);
    assert_null(d->train.label);
    for (int i = 0; i < N; i++) {
        double x = x_of(d, d->train.x[i]), e;
        assert_true(x >= -3 - 1e-5 && x <= 5 + 1e-5);
        assert_true(fabs((double)d->train.target_clean[i] - sin(x)) <
                    4e-6); /* x in f32, |x| <= 5 */
        e = (double)d->train.target[i] - (double)d->train.target_clean[i];
        noise += e, noise2 += e * e;
        x1 += (double)d->train.x[i], x2 += (double)d->train.x[i] * (double)d->train.x[i];
    }
    assert_true(fabs(x1 / N) < 1e-5 && fabs(x2 / N - 1) < 1e-5);
    /* uniform on [-3,5]: mean 1, standard deviation 8/sqrt(12) = 2.309; bounds of 4 deviations */
    assert_true(fabs((double)d->mean[0] - 1) < 4 * 2.309 / sqrt(N));
    assert_true(fabs((double)d->std[0] - 2.309) < 0.08);
    assert_true(fabs(noise / N) < 4 * 0.3 / sqrt(N));
    assert_true(fabs(sqrt(noise2 / N) - 0.3) < 4 * 0.3 / sqrt(2.0 * N));
    lips_dataset_free(d);
}

static void test_split_is_a_clean_grid(void **state)
{
    (void)state;
    lips_data_spec spec = spec_of(10);
    lips_dataset *d = load(&spec);
    assert_int_equal(d->test.n, 200);
    for (int i = 0; i < 200; i++) {
        double x = -3 + 8.0 * i / 199;
        assert_true(fabs(x_of(d, d->test.x[i]) - x) < 2e-6);
        assert_true(d->test.target[i] == (float)sin(x));
        assert_true(d->test.target_clean[i] == (float)sin(x));
    }
    lips_dataset_free(d);
}

static void validation_follows_training(void **state)
{
    (void)state;
    lips_data_spec spec = spec_of(25);
    lips_dataset *all = load(&spec);
    spec.n_train = 20, spec.n_val = 5;
    lips_dataset *parts = load(&spec);
    assert_memory_equal(all->train.target, parts->train.target, 20 * sizeof(float));
    assert_memory_equal(all->train.target + 20, parts->val.target, 5 * sizeof(float));
    lips_dataset_free(all);
    lips_dataset_free(parts);
}

static void one_sample_is_possible(void **state)
{
    (void)state;
    lips_data_spec spec = spec_of(1);
    lips_dataset *d = load(&spec);
    assert_true(d->train.x[0] == 0 && d->std[0] == 1);
    lips_dataset_free(d);
}

static void refuses_impossible_requests(void **state)
{
    (void)state;
    const double nan = (double)NAN, inf = (double)INFINITY;
    lips_data_spec bad[6];
    for (int i = 0; i < 6; i++)
        bad[i] = spec_of(10);
    bad[0].n_train = 0;
    bad[1].sine_noise = -0.1;
    bad[2].sine_noise = nan;
    bad[3].sine_min = 5;
    bad[4].sine_max = inf;
    bad[5].label_noise = 0.2;
    for (int i = 0; i < 6; i++) {
        lips_dataset *d;
        assert_int_equal(lips_dataset_load(&d, &bad[i]), LIPS_ERR_USAGE);
        assert_true(lips_error()[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_have_their_distribution),
        cmocka_unit_test(test_split_is_a_clean_grid),
        cmocka_unit_test(validation_follows_training),
        cmocka_unit_test(one_sample_is_possible),
        cmocka_unit_test(refuses_impossible_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
