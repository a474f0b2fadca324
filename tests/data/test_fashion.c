/* The real Fashion-MNIST of Debian's dataset-fashion-mnist. */
#include "data/raw.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static lips_dataset *load(const lips_data_spec *spec)
{
    lips_dataset *d;
    if (lips_dataset_load(&d, spec) != LIPS_OK)
        fail_msg("%s", lips_error());
    return d;
}

static void whole_set(void **state)
{
    (void)state;
    lips_data_spec spec = {.source = LIPS_DATA_FASHION_MNIST};
    lips_dataset *d = load(&spec);
    assert_int_equal(d->train.n, 60000);
    assert_int_equal(d->test.n, 10000);
    assert_int_equal(d->c * 10000 + d->h * 100 + d->w, 12828);
    assert_int_equal(d->classes, 10);
    int64_t train[10] = {0}, test[10] = {0};
    for (int64_t i = 0; i < d->train.n; i++)
        train[d->train.label[i]]++;
    for (int64_t i = 0; i < d->test.n; i++)
        test[d->test.label[i]]++;
    for (int k = 0; k < 10; k++) {
        assert_int_equal(train[k], 6000);
        assert_int_equal(test[k], 1000);
    }
    assert_true(fabs((double)d->mean[0] - 0.2860) < 5e-5); /* as is commonly quoted */
    assert_true(fabs((double)d->std[0] - 0.3530) < 5e-5);
    lips_dataset_free(d);
}

static void default_subset_is_stable(void **state)
{
    (void)state;
    lips_data_spec spec = {.source = LIPS_DATA_FASHION_MNIST, .n_train = 4000, .label_noise = 0.2};
    lips_dataset *a = load(&spec), *b = load(&spec);
    assert_true(a->hash == b->hash);
    assert_memory_equal(a->train.x, b->train.x, 4000 * 784 * sizeof(float));
    /* Which samples and labels a seed means is part of every stored result: never to change. */
    const int64_t rows[] = {40553, 29432, 10149, 3717, 9021, 46911, 21800, 21081};
    const int64_t labels[] = {3, 2, 3, 0, 9, 2, 2, 2};
    assert_memory_equal(a->train.source_index, rows, sizeof rows);
    assert_memory_equal(a->train.label, labels, sizeof labels);
    int64_t wrong = 0;
    for (int64_t i = 0; i < 4000; i++)
        wrong += a->train.label[i] != a->train.label_clean[i];
    assert_int_equal(wrong, 800);
    lips_dataset_free(a);
    lips_dataset_free(b);
}

static void missing_names_the_package(void **state)
{
    (void)state;
    lips_data_spec spec = {.source = LIPS_DATA_FASHION_MNIST, .data_dir = "/nowhere/at/all"};
    lips_dataset *d;
    assert_int_equal(lips_dataset_load(&d, &spec), LIPS_ERR_DATA);
    assert_non_null(strstr(lips_error(), "/nowhere/at/all"));
    assert_non_null(strstr(lips_error(), "apt-get install dataset-fashion-mnist"));
    assert_non_null(strstr(lips_source_hint(LIPS_DATA_FASHION_MNIST), "apt-get install"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_set),
        cmocka_unit_test(default_subset_is_stable),
        cmocka_unit_test(missing_names_the_package),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
