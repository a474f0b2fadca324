#include "data_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

void test_file_write(const char *dir, const char *name, const void *bytes, size_t size, bool gzip)
{
    char path[2 * TEST_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (gzip) {
        gzFile f = gzopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(gzwrite(f, bytes, (unsigned)size), size);
        assert_int_equal(gzclose(f), Z_OK);
        return;
    }
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

uint8_t test_pixel(int64_t sample, int64_t place)
{
    return (uint8_t)((sample * 37 + place * place * 5 + place * 11 + sample * place) % 251);
}

static uint8_t *header(uint8_t *p, int ndim, const int64_t *dim)
{
    *p++ = 0, *p++ = 0, *p++ = 8, *p++ = (uint8_t)ndim;
    for (int i = 0; i < ndim; i++)
        for (int shift = 24; shift >= 0; shift -= 8)
            *p++ = (uint8_t)(dim[i] >> shift);
    return p;
}

static size_t images(uint8_t **out, int64_t first, int64_t n, int64_t h, int64_t w)
{
    size_t size = 16 + (size_t)(n * h * w);
    *out = malloc(size);
    assert_non_null(*out);
    uint8_t *p = header(*out, 3, (int64_t[]){n, h, w});
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < h * w; j++)
            *p++ = test_pixel(first + i, j);
    return size;
}

static size_t labels(uint8_t **out, int64_t first, int64_t n, int64_t classes)
{
    size_t size = 8 + (size_t)n;
    *out = malloc(size);
    assert_non_null(*out);
    uint8_t *p = header(*out, 1, &n);
    for (int64_t i = 0; i < n; i++)
        *p++ = (uint8_t)(((first + i) * 7 + 3) % classes);
    return size;
}

size_t test_idx_images(uint8_t **out, int64_t n, int64_t h, int64_t w)
{
    return images(out, 0, n, h, w);
}

size_t test_idx_labels(uint8_t **out, int64_t n, int64_t classes)
{
    return labels(out, 0, n, classes);
}

size_t test_cifar_records(uint8_t **out, int64_t first, int64_t n, int64_t classes)
{
    enum { PIXELS = 3072 };
    size_t record = PIXELS + (classes == 100 ? 2 : 1);
    *out = malloc((size_t)n * record);
    assert_non_null(*out);
    uint8_t *p = *out;
    for (int64_t i = first; i < first + n; i++) {
        if (classes == 100)
            *p++ = (uint8_t)(i % 20);
        *p++ = (uint8_t)((i * 7 + 3) % classes);
        for (int64_t j = 0; j < PIXELS; j++)
            *p++ = test_pixel(i, j);
    }
    return (size_t)n * record;
}

void test_idx_set(const char *dir, int64_t n_train, int64_t n_test, int64_t h, int64_t w, bool gzip)
{
    const char *const name[2][2] = {{"train-images-idx3-ubyte", "train-labels-idx1-ubyte"},
                                    {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}};
    for (int test = 0; test < 2; test++) {
        char file[TEST_PATH_MAX];
        uint8_t *bytes;
        int64_t first = test ? n_train : 0, n = test ? n_test : n_train;
        size_t size = images(&bytes, first, n, h, w);
        snprintf(file, sizeof file, "%s%s", name[test][0], gzip ? ".gz" : "");
        test_file_write(dir, file, bytes, size, gzip);
        free(bytes);
        size = labels(&bytes, first, n, 10);
        snprintf(file, sizeof file, "%s%s", name[test][1], gzip ? ".gz" : "");
        test_file_write(dir, file, bytes, size, gzip);
        free(bytes);
    }
}
