/*
 * lib/data_files.h - tiny data sets that tests write for themselves.
 */
#ifndef LIPS_TESTS_DATA_FILES_H
#define LIPS_TESTS_DATA_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TEST_PATH_MAX = 512 };

/* DIR/NAME = bytes, gzipped if asked. */
void test_file_write(const char *dir, const char *name, const void *bytes, size_t size, bool gzip);

/* *out = malloc'ed IDX file of n images h x w, pixel j of sample i = test_pixel(i, j); its size. */
size_t test_idx_images(uint8_t **out, int64_t n, int64_t h, int64_t w);
/* The same of n labels, label of sample i = (i * 7 + 3) % classes. */
size_t test_idx_labels(uint8_t **out, int64_t n, int64_t classes);
/* *out = malloc'ed CIFAR file of n records, the first one sample number `first`; classes 10 or 100.
 */
size_t test_cifar_records(uint8_t **out, int64_t first, int64_t n, int64_t classes);

/* The four IDX files of a set (names as MNIST's), 10 classes; test samples are numbered on from
 * n_train. */
void test_idx_set(const char *dir, int64_t n_train, int64_t n_test, int64_t h, int64_t w,
                  bool gzip);

uint8_t test_pixel(int64_t sample, int64_t place);

#endif
