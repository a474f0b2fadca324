/* CIFAR-10 and CIFAR-100: layout, folders, damaged files. */
#include "../lib/data_files.h"
#include "../lib/tempdir.h"
#include "data/raw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { PER_FILE = 4 };

static void cifar10_write(const char *dir)
{
    for (int i = 0; i < 6; i++) {
        char name[32];
        uint8_t *bytes;
        size_t size = test_cifar_records(&bytes, i * PER_FILE, PER_FILE, 10);
        snprintf(name, sizeof name, i < 5 ? "data_batch_%d.bin" : "test_batch.bin", i + 1);
        test_file_write(dir, name, bytes, size, false);
        free(bytes);
    }
}

static void loads_all_files_in_order(void **state)
{
    (void)state;
    char dir[TEST_PATH_MAX], below[2 * TEST_PATH_MAX];
    tempdir_make(dir, TEST_PATH_MAX);
    snprintf(below, sizeof below, "%s/cifar-10-batches-bin", dir);
    assert_int_equal(mkdir(below, 0777), 0);
    cifar10_write(below);
    for (int split = 0; split < 2; split++) {
        lips_raw raw;
        assert_int_equal(lips_source_load(&raw, LIPS_DATA_CIFAR10, dir, split == 0), LIPS_OK);
        assert_int_equal(raw.n, split == 0 ? 5 * PER_FILE : PER_FILE);
        assert_int_equal(raw.c * raw.h * raw.w, 3072);
        assert_int_equal(raw.classes, 10);
        for (int64_t i = 0; i < raw.n; i++) {
            int64_t sample = i + (split == 0 ? 0 : 5 * PER_FILE);
            assert_int_equal(raw.labels[i * raw.label_stride], (sample * 7 + 3) % 10);
            for (int64_t j = 0; j < 3072; j++)
                assert_int_equal(raw.pixels[i * raw.pixel_stride + j], test_pixel(sample, j));
        }
        lips_raw_free(&raw);
    }
    tempdir_remove(dir);
}

static void cifar100_gives_fine_labels(void **state)
{
    (void)state;
    char dir[TEST_PATH_MAX];
    lips_raw raw;
    uint8_t *bytes;
    tempdir_make(dir, TEST_PATH_MAX);
    size_t size = test_cifar_records(&bytes, 0, 6, 100);
    test_file_write(dir, "train.bin", bytes, size, false);
    assert_int_equal(lips_source_load(&raw, LIPS_DATA_CIFAR100, dir, true), LIPS_OK);
    assert_int_equal(raw.n, 6);
    assert_int_equal(raw.classes, 100);
    for (int64_t i = 0; i < 6; i++) {
        assert_int_equal(raw.labels[i * raw.label_stride], i * 7 + 3);
        assert_int_equal(raw.pixels[i * raw.pixel_stride + 100], test_pixel(i, 100));
    }
    lips_raw_free(&raw);
    free(bytes);
    tempdir_remove(dir);
}

static void check_fails(const uint8_t *bytes, size_t size, int64_t classes, const char *expected)
{
    int64_t n;
    assert_int_equal(lips_cifar_check(&n, bytes, size, classes, "some/file"), LIPS_ERR_DATA);
    if (!strstr(lips_error(), expected))
        fail_msg("\"%s\" lacks \"%s\"", lips_error(), expected);
}

static void refuses_damaged_files(void **state)
{
    (void)state;
    uint8_t *bytes;
    size_t size = test_cifar_records(&bytes, 0, 3, 10);
    check_fails(bytes, 0, 10, "some/file: offset 0: the file is empty");
    check_fails(bytes, size - 1, 10,
                "some/file: offset 6146: the file ends within a record: 9218 bytes");
    check_fails(bytes, 1, 10, "offset 0: the file ends within a record");
    bytes[3073] = 10;
    check_fails(bytes, size, 10,
                "some/file: offset 3073: label 10 is out of range, expected 0 to 9");
    free(bytes);
    size = test_cifar_records(&bytes, 0, 3, 100);
    bytes = realloc(bytes, size + 1);
    check_fails(bytes, size + 1, 100, "offset 9222: the file ends within a record");
    bytes[2 * 3074] = 20;
    check_fails(bytes, size, 100, "offset 6148: coarse label 20 is out of range");
    bytes[2 * 3074] = 19, bytes[2 * 3074 + 1] = 100;
    check_fails(bytes, size, 100, "offset 6149: label 100 is out of range");
    free(bytes);
}

static void load_fails(const char *dir, const char *file, const char *expected)
{
    lips_data_spec spec = {.source = LIPS_DATA_CIFAR10, .data_dir = dir};
    lips_dataset *d;
    assert_int_equal(lips_dataset_load(&d, &spec), LIPS_ERR_DATA);
    if (!strstr(lips_error(), file) || !strstr(lips_error(), expected))
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", lips_error(), file, expected);
}

static void missing_and_uneven_files(void **state)
{
    (void)state;
    char dir[TEST_PATH_MAX], path[2 * TEST_PATH_MAX];
    tempdir_make(dir, TEST_PATH_MAX);
    load_fails(dir, dir,
               "curl -L https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz | tar -xz");
    cifar10_write(dir);
    snprintf(path, sizeof path, "%s/data_batch_3.bin", dir);
    uint8_t *bytes;
    size_t size = test_cifar_records(&bytes, 0, PER_FILE - 1, 10);
    test_file_write(dir, "data_batch_3.bin", bytes, size, false); /* cut at a record's end */
    free(bytes);
    load_fails(dir, "data_batch_3.bin", "one of them is cut short");
    remove(path);
    load_fails(dir, "data_batch_3.bin", "");
    tempdir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_all_files_in_order),
        cmocka_unit_test(cifar100_gives_fine_labels),
        cmocka_unit_test(refuses_damaged_files),
        cmocka_unit_test(missing_and_uneven_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
