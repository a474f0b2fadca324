/* IDX files: what is read, and every way in which a file can be wrong. */
#include "../lib/data_files.h"
#include "../lib/tempdir.h"
#include "data/raw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

/* *out = malloc'ed gzip file of bytes. */
static size_t gzip_bytes(uint8_t **out, const void *bytes, size_t size)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t bound = deflateBound(&z, size) + 32;
    *out = malloc(bound);
    assert_non_null(*out);
    z.next_in = (Bytef *)(size_t)bytes;
    z.avail_in = (uInt)size;
    z.next_out = *out;
    z.avail_out = (uInt)bound;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t made = z.total_out;
    deflateEnd(&z);
    return made;
}

static void parse_fails(const void *bytes, size_t size, int ndim, const char *expected)
{
    lips_idx idx;
    assert_int_equal(lips_idx_parse(&idx, bytes, size, ndim, "some/file"), LIPS_ERR_DATA);
    if (!strstr(lips_error(), expected) || strncmp(lips_error(), "some/file: ", 11) != 0)
        fail_msg("\"%s\" does not begin with the file or lacks \"%s\"", lips_error(), expected);
    assert_null(idx.owned);
}

static void reads_raw_and_gzip(void **state)
{
    (void)state;
    uint8_t *raw, *packed;
    size_t size = test_idx_images(&raw, 7, 5, 3), packed_size = gzip_bytes(&packed, raw, size);
    for (int gzip = 0; gzip < 2; gzip++) {
        lips_idx idx;
        assert_int_equal(
            lips_idx_parse(&idx, gzip ? packed : raw, gzip ? packed_size : size, 3, "f"), LIPS_OK);
        assert_int_equal(idx.dim[0], 7);
        assert_int_equal(idx.dim[1], 5);
        assert_int_equal(idx.dim[2], 3);
        for (int64_t i = 0; i < 7; i++)
            for (int64_t j = 0; j < 15; j++)
                assert_int_equal(idx.values[i * 15 + j], test_pixel(i, j));
        free(idx.owned);
    }
    free(raw);
    free(packed);
}

static void refuses_every_wrong_length(void **state)
{
    (void)state;
    uint8_t *raw, *packed;
    size_t size = test_idx_images(&raw, 3, 4, 4), packed_size = gzip_bytes(&packed, raw, size);
    for (size_t cut = 0; cut < size; cut++)
        parse_fails(raw, cut, 3, "offset");
    for (size_t cut = 0; cut < packed_size; cut++)
        parse_fails(packed, cut, 3, "offset");
    parse_fails(raw, size - 1, 3, "offset 63: the file ends before the 64 bytes");
    parse_fails(raw, 0, 3, "offset 0: the file is empty");
    parse_fails(raw, 9, 3, "offset 9: the file ends within its 16-byte IDX header");
    raw = realloc(raw, size + 1);
    packed = realloc(packed, packed_size + 1);
    raw[size] = packed[packed_size] = 0;
    parse_fails(raw, size + 1, 3, "offset 64: the file goes on after the 64 bytes");
    parse_fails(packed, packed_size + 1, 3, "offset");
    free(raw);
    free(packed);
}

static void refuses_wrong_headers(void **state)
{
    (void)state;
    uint8_t *raw;
    size_t size = test_idx_images(&raw, 3, 4, 4);
    parse_fails(raw, size, 1, "offset 0: wrong magic number 00000803, expected 00000801");
    raw[2] = 0x0d; /* float */
    parse_fails(raw, size, 3, "offset 0: wrong magic number 00000d03");
    raw[2] = 8, raw[0] = 1;
    parse_fails(raw, size, 3, "offset 0: wrong magic number 01000803");
    raw[0] = 0, raw[11] = 0;
    parse_fails(raw, size, 3, "offset 8: size 0 in dimension 2");
    raw[11] = 5;
    parse_fails(raw, size, 3, "the file ends before the 76 bytes");
    raw[11] = 3;
    parse_fails(raw, size, 3, "the file goes on after the 52 bytes");
    memset(raw + 4, 0xff, 12); /* a product of sizes that overflows */
    parse_fails(raw, size, 3, "offset 8: the header announces more than");
    free(raw);
}

static void gzip_is_checked_and_bounded(void **state)
{
    (void)state;
    uint8_t *raw, *packed;
    size_t size = test_idx_labels(&raw, 40, 10), packed_size = gzip_bytes(&packed, raw, size);
    packed[packed_size - 6] ^= 1; /* inside the CRC */
    parse_fails(packed, packed_size, 1, "damaged gzip data (incorrect data check)");
    free(packed);

    /* A bomb: the header announces 40 labels, a hundred million bytes would come out. */
    size_t bomb_size = 100000000;
    uint8_t *bomb = calloc(1, bomb_size);
    memcpy(bomb, raw, size);
    packed_size = gzip_bytes(&packed, bomb, bomb_size);
    free(bomb);
    assert_in_range(packed_size, 1, 200000);
    parse_fails(packed, packed_size, 1, "decompresses to more than the 48 bytes");
    free(packed);

    /* The opposite: 4 GB announced, little there: no memory is taken for what does not come. */
    raw[4] = 0xff;
    packed_size = gzip_bytes(&packed, raw, size);
    parse_fails(packed, packed_size, 1, "offset 48: the file ends before the 4278190128 bytes");
    free(packed);

    /* Two gzip members read as their concatenation, as gunzip does. */
    raw[4] = 0;
    uint8_t *second;
    packed_size = gzip_bytes(&packed, raw, 20);
    size_t second_size = gzip_bytes(&second, raw + 20, size - 20);
    packed = realloc(packed, packed_size + second_size);
    memcpy(packed + packed_size, second, second_size);
    lips_idx idx;
    assert_int_equal(lips_idx_parse(&idx, packed, packed_size + second_size, 1, "f"), LIPS_OK);
    assert_memory_equal(idx.values, raw + 8, 40);
    free(idx.owned);
    free(second);
    free(packed);
    free(raw);
}

static void join_fails(uint8_t *labels, size_t size, int64_t classes, const char *expected)
{
    uint8_t *raw;
    lips_idx images, label;
    lips_raw out;
    size_t images_size = test_idx_images(&raw, 12, 2, 2);
    assert_int_equal(lips_idx_parse(&images, raw, images_size, 3, "images"), LIPS_OK);
    assert_int_equal(lips_idx_parse(&label, labels, size, 1, "labels"), LIPS_OK);
    assert_int_equal(lips_idx_join(&out, &images, "images", &label, "labels", classes),
                     LIPS_ERR_DATA);
    if (!strstr(lips_error(), expected))
        fail_msg("\"%s\" lacks \"%s\"", lips_error(), expected);
    free(raw);
}

static void labels_are_checked(void **state)
{
    (void)state;
    uint8_t *labels;
    size_t size = test_idx_labels(&labels, 11, 10);
    join_fails(labels, size, 10, "images: offset 4: 12 images, but labels has 11 labels");
    free(labels);
    size = test_idx_labels(&labels, 12, 10);
    labels[8 + 5] = 255;
    join_fails(labels, size, 10,
               "labels: offset 13: label 255 of sample 5 is out of range, expected 0 to 9");
    free(labels);

    size = test_idx_labels(&labels, 12, 6); /* each class occurs; the classes are deduced */
    labels[8 + 7] = 255;
    join_fails(labels, size, 0, "labels: offset 15: label 255, but no sample has label 6");
    free(labels);
}

static void load_fails(const char *dir, const char *file, const char *expected)
{
    lips_data_spec spec = {.source = LIPS_DATA_IDX, .data_dir = dir};
    lips_dataset *d;
    assert_int_equal(lips_dataset_load(&d, &spec), LIPS_ERR_DATA);
    assert_null(d);
    if (!strstr(lips_error(), file) || !strstr(lips_error(), expected) ||
        strchr(lips_error(), '\n'))
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", lips_error(), file, expected);
}

static void files_that_are_none(void **state)
{
    (void)state;
    char dir[TEST_PATH_MAX], path[2 * TEST_PATH_MAX];
    tempdir_make(dir, TEST_PATH_MAX);
    load_fails(dir, dir, "no train-images-idx3-ubyte there");
    test_idx_set(dir, 20, 10, 4, 4, false);
    snprintf(path, sizeof path, "%s/t10k-labels-idx1-ubyte", dir);
    assert_int_equal(remove(path), 0);
    load_fails(dir, "t10k-labels-idx1-ubyte", "");
    assert_int_equal(mkdir(path, 0777), 0);
    load_fails(dir, "t10k-labels-idx1-ubyte", "");
    assert_int_equal(remove(path), 0);
    assert_int_equal(mkfifo(path, 0666), 0); /* must not wait for a writer */
    load_fails(dir, "t10k-labels-idx1-ubyte", "");
    assert_int_equal(remove(path), 0);
    test_file_write(dir, "t10k-labels-idx1-ubyte", "", 0, false);
    load_fails(dir, "t10k-labels-idx1-ubyte", "offset 0: the file is empty");
    tempdir_remove(dir);
    load_fails(dir, dir, "data_dir must hold");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_raw_and_gzip),    cmocka_unit_test(refuses_every_wrong_length),
        cmocka_unit_test(refuses_wrong_headers), cmocka_unit_test(gzip_is_checked_and_bounded),
        cmocka_unit_test(labels_are_checked),    cmocka_unit_test(files_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
