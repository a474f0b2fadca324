/* Splits, label noise, standardisation, hash: on tiny files written here. */
#include "../lib/data_files.h"
#include "../lib/tempdir.h"
#include "data/raw.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_FILE = 60, N_TEST = 20, H = 5, W = 3, D = H * W };

static int setup(void **state)
{
    char *dir = malloc(TEST_PATH_MAX);
    tempdir_make(dir, TEST_PATH_MAX);
    test_idx_set(dir, N_FILE, N_TEST, H, W, true);
    *state = dir;
    return 0;
}

static int teardown(void **state)
{
    tempdir_remove(*state);
    free(*state);
    return 0;
}

static lips_data_spec spec_of(const char *dir)
{
    return (lips_data_spec){.source = LIPS_DATA_IDX,
                            .data_dir = dir,
                            .n_train = 30,
                            .n_val = 8,
                            .n_test = 12,
                            .label_noise = 0.2,
                            .data_seed = 5,
                            .noise_seed = 6};
}

static lips_dataset *load(const lips_data_spec *spec)
{
    lips_dataset *d;
    if (lips_dataset_load(&d, spec) != LIPS_OK)
        fail_msg("%s", lips_error());
    return d;
}

/* Every sample is the one that source_index names: pixels, label, standardisation. */
static void check_rows(const lips_dataset *d, const lips_split *s, int64_t first)
{
    for (int64_t i = 0; i < s->n; i++) {
        int64_t sample = first + s->source_index[i];
        assert_int_equal(s->label_clean[i], (sample * 7 + 3) % 10);
        for (int64_t j = 0; j < D; j++) {
            double pixel = test_pixel(sample, j) / 255.0;
            assert_true(s->x[i * D + j] ==
                        (float)((pixel - (double)d->mean[0]) / (double)d->std[0]));
        }
    }
}

static void splits_are_disjoint_and_right(void **state)
{
    lips_data_spec spec = spec_of(*state);
    lips_dataset *d = load(&spec);
    assert_int_equal(d->train.n, 30);
    assert_int_equal(d->val.n, 8);
    assert_int_equal(d->test.n, 12);
    assert_int_equal(d->c, 1);
    assert_int_equal(d->h, H);
    assert_int_equal(d->w, W);
    assert_int_equal(d->classes, 10);
    int seen[N_FILE] = {0}, seen_test[N_TEST] = {0};
    for (int64_t i = 0; i < d->train.n; i++)
        assert_int_equal(seen[d->train.source_index[i]]++, 0);
    for (int64_t i = 0; i < d->val.n; i++)
        assert_int_equal(seen[d->val.source_index[i]]++, 0);
    for (int64_t i = 0; i < d->test.n; i++)
        assert_int_equal(seen_test[d->test.source_index[i]]++, 0);
    check_rows(d, &d->train, 0);
    check_rows(d, &d->val, 0);
    check_rows(d, &d->test, N_FILE);
    assert_memory_equal(d->val.label, d->val.label_clean, 8 * sizeof(int64_t));
    assert_memory_equal(d->test.label, d->test.label_clean, 12 * sizeof(int64_t));
    lips_dataset_free(d);
}

static void training_pixels_are_standardised(void **state)
{
    lips_data_spec spec = spec_of(*state);
    lips_dataset *d = load(&spec);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < 30 * D; i++) {
        sum += (double)d->train.x[i];
        squares += (double)d->train.x[i] * (double)d->train.x[i];
    }
    /* Each x carries a rounding of 2^-24 |x| <= 2^-22; mean and std too: well below 1e-6. */
    assert_true(fabs(sum / (30 * D)) < 1e-6);
    assert_true(fabs(squares / (30 * D) - 1) < 1e-6);
    lips_dataset_free(d);
}

static void smaller_subsets_are_nested(void **state)
{
    lips_data_spec spec = spec_of(*state);
    lips_dataset *large = load(&spec);
    spec.n_train = 11;
    lips_dataset *small = load(&spec);
    assert_memory_equal(small->train.source_index, large->train.source_index, 11 * sizeof(int64_t));
    assert_memory_equal(small->val.source_index, large->val.source_index, 8 * sizeof(int64_t));
    spec.data_seed++;
    lips_dataset *other = load(&spec);
    assert_memory_not_equal(small->train.source_index, other->train.source_index,
                            11 * sizeof(int64_t));
    lips_dataset_free(large);
    lips_dataset_free(small);
    lips_dataset_free(other);
}

static int64_t wrong_labels(const lips_split *s)
{
    int64_t wrong = 0;
    for (int64_t i = 0; i < s->n; i++)
        wrong += s->label[i] != s->label_clean[i];
    return wrong;
}

static void noise_is_exact(void **state)
{
    for (int percent = 0; percent <= 100; percent += 5) {
        lips_data_spec spec = spec_of(*state);
        spec.n_train = 33;
        spec.label_noise = percent / 100.0;
        lips_dataset *d = load(&spec);
        assert_int_equal(wrong_labels(&d->train), llround(33 * spec.label_noise));
        for (int64_t i = 0; i < d->train.n; i++)
            assert_in_range(d->train.label[i], 0, 9);
        lips_dataset_free(d);
    }
}

/* With p = 1 every label moves by 1..9 classes (mod 10), each equally likely. */
static void noise_is_uniform_over_other_classes(void **state)
{
    int count[10] = {0};
    for (uint64_t seed = 0; seed < 150; seed++) {
        lips_data_spec spec = spec_of(*state);
        spec.n_train = N_FILE, spec.n_val = 0, spec.label_noise = 1, spec.noise_seed = seed;
        lips_dataset *d = load(&spec);
        for (int64_t i = 0; i < d->train.n; i++)
            count[(d->train.label[i] - d->train.label_clean[i] + 10) % 10]++;
        lips_dataset_free(d);
    }
    assert_int_equal(count[0], 0);
    double chi2 = 0, expected = 150.0 * N_FILE / 9;
    for (int k = 1; k < 10; k++)
        chi2 += (count[k] - expected) * (count[k] - expected) / expected;
    assert_true(chi2 < 26.1); /* 8 degrees of freedom, p = 0.001; the seeds are fixed */
}

static void more_noise_keeps_the_wrong_labels(void **state)
{
    lips_data_spec spec = spec_of(*state);
    lips_dataset *less = load(&spec);
    spec.label_noise = 0.5;
    lips_dataset *more = load(&spec);
    for (int64_t i = 0; i < less->train.n; i++)
        if (less->train.label[i] != less->train.label_clean[i])
            assert_int_equal(less->train.label[i], more->train.label[i]);
    lips_dataset_free(less);
    lips_dataset_free(more);
}

static void hash_sees_every_choice(void **state)
{
    lips_data_spec spec = spec_of(*state);
    uint64_t hash[8];
    for (int i = 0; i < 8; i++) {
        lips_data_spec s = spec;
        s.n_train += i == 1, s.n_val += i == 2, s.n_test += i == 3, s.data_seed += i == 4;
        s.noise_seed += i == 5, s.label_noise += i == 6 ? 0.1 : 0; /* 7: the same again */
        lips_dataset *d = load(&s);
        hash[i] = d->hash;
        lips_dataset_free(d);
    }
    assert_true(hash[7] == hash[0]);
    for (int i = 1; i < 7; i++)
        for (int j = 0; j < i; j++)
            assert_true(hash[i] != hash[j]);

    /* One pixel of one test image. */
    char dir[TEST_PATH_MAX];
    uint8_t *bytes;
    tempdir_make(dir, TEST_PATH_MAX);
    test_idx_set(dir, N_FILE, N_TEST, H, W, false);
    spec.data_dir = dir, spec.n_test = 0;
    lips_dataset *before = load(&spec);
    size_t size = test_idx_images(&bytes, N_TEST, H, W);
    for (int64_t i = 0; i < N_TEST; i++)
        for (int64_t j = 0; j < D; j++)
            bytes[16 + i * D + j] = test_pixel(N_FILE + i, j);
    bytes[20] ^= 1;
    test_file_write(dir, "t10k-images-idx3-ubyte", bytes, size, false);
    lips_dataset *after = load(&spec);
    assert_true(before->hash != after->hash);
    lips_dataset_free(before);
    lips_dataset_free(after);
    free(bytes);
    tempdir_remove(dir);
}

static void refuses(const lips_data_spec *spec, const char *expected)
{
    lips_dataset *d;
    assert_int_equal(lips_dataset_load(&d, spec), LIPS_ERR_USAGE);
    assert_null(d);
    if (!strstr(lips_error(), expected))
        fail_msg("\"%s\" lacks \"%s\"", lips_error(), expected);
}

static void refuses_impossible_requests(void **state)
{
    lips_data_spec s = spec_of(*state);
    s.n_train = 53;
    refuses(&s, "n_train, n_val: 53 and 8 samples asked for, IDX images has 60");
    s = spec_of(*state), s.n_val = 60, s.n_train = 0;
    refuses(&s, "n_train, n_val: 0 and 60");
    s = spec_of(*state), s.n_train = INT64_MAX, s.n_val = INT64_MAX;
    refuses(&s, "n_train, n_val");
    s = spec_of(*state), s.n_test = 21;
    refuses(&s, "n_test: 21 samples asked for, IDX images has 20");
    s = spec_of(*state), s.n_train = -1;
    refuses(&s, "n_train: -1");
    s = spec_of(*state), s.label_noise = 1.5;
    refuses(&s, "label_noise: 1.5, expected 0 to 1");
    s = spec_of(*state), s.label_noise = (double)NAN;
    refuses(&s, "label_noise: nan");
    s = spec_of(*state), s.data_dir = NULL;
    refuses(&s, "data_dir: needed");
}

static void all_means_the_whole_file(void **state)
{
    lips_data_spec s = spec_of(*state);
    s.n_train = s.n_test = 0;
    lips_dataset *d = load(&s);
    assert_int_equal(d->train.n, N_FILE - 8);
    assert_int_equal(d->test.n, N_TEST);
    lips_dataset_free(d);
}

static void constant_images_stay_finite(void **state)
{
    (void)state;
    char dir[TEST_PATH_MAX];
    uint8_t *bytes;
    tempdir_make(dir, TEST_PATH_MAX);
    test_idx_set(dir, N_FILE, N_TEST, H, W, false);
    size_t size = test_idx_images(&bytes, N_FILE, H, W);
    memset(bytes + 16, 77, size - 16);
    test_file_write(dir, "train-images-idx3-ubyte", bytes, size, false);
    free(bytes);
    lips_data_spec s = spec_of(dir);
    lips_dataset *d = load(&s);
    assert_true(d->std[0] == 1.0f);
    for (int64_t i = 0; i < 30 * D; i++)
        assert_true(fabsf(d->train.x[i]) < 1e-7f);
    lips_dataset_free(d);
    tempdir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_are_disjoint_and_right),
        cmocka_unit_test(training_pixels_are_standardised),
        cmocka_unit_test(smaller_subsets_are_nested),
        cmocka_unit_test(noise_is_exact),
        cmocka_unit_test(noise_is_uniform_over_other_classes),
        cmocka_unit_test(more_noise_keeps_the_wrong_labels),
        cmocka_unit_test(hash_sees_every_choice),
        cmocka_unit_test(refuses_impossible_requests),
        cmocka_unit_test(all_means_the_whole_file),
        cmocka_unit_test(constant_images_stay_finite),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
