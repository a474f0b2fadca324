/* data/cifar.c - CIFAR-10 and CIFAR-100 in their binary layout. */
#include "base/file.h"
#include "base/log.h"
#include "data/raw.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const size_t FILE_MAX = (size_t)1 << 34;

static int64_t record_bytes(int64_t classes)
{
    return LIPS_CIFAR_PIXELS + (classes == 100 ? 2 : 1);
}

lips_status lips_cifar_check(int64_t *n, const void *bytes, size_t size, int64_t classes,
                             const char *name)
{
    enum { COARSE_CLASSES = 20 };
    const uint8_t *b = bytes;
    size_t record = (size_t)record_bytes(classes);
    if (size == 0)
        return lips_fail(LIPS_ERR_DATA, "%s: offset 0: the file is empty", name);
    if (size % record != 0)
        return lips_fail(LIPS_ERR_DATA,
                         "%s: offset %zu: the file ends within a record: %zu bytes are not "
                         "a multiple of %zu",
                         name, size - size % record, size, record);
    *n = (int64_t)(size / record);
    for (size_t i = 0; i < size / record; i++) {
        const uint8_t *label = b + i * record;
        if (classes == 100 && *label >= COARSE_CLASSES)
            return lips_fail(LIPS_ERR_DATA,
                             "%s: offset %zu: coarse label %d is out of range, expected 0 "
                             "to %d",
                             name, i * record, *label, COARSE_CLASSES - 1);
        label += classes == 100;
        if (*label >= classes)
            return lips_fail(LIPS_ERR_DATA,
                             "%s: offset %zu: label %d is out of range, expected 0 to %" PRId64,
                             name, (size_t)(label - b), *label, classes - 1);
    }
    return LIPS_OK;
}

/* Appends a checked file to *all (grown); all files of a set have as many records as the first. */
static lips_status file_append(uint8_t **all, int64_t *n, const char *path, int files,
                               int64_t classes)
{
    char *bytes = NULL;
    size_t size;
    int64_t count;
    lips_status st;
    LIPS_TRY_GOTO(st, lips_file_read(&bytes, &size, path, FILE_MAX), out);
    LIPS_TRY_GOTO(st, lips_cifar_check(&count, bytes, size, classes, path), out);
    if (*n == 0) {
        *all = malloc(size * (size_t)files);
        if (!*all) {
            st = lips_fail(LIPS_ERR_MEMORY, "%s: no memory for %zu bytes", path,
                           size * (size_t)files);
            goto out;
        }
    } else if (*n % count != 0 || *n / count >= files) {
        st = lips_fail(LIPS_ERR_DATA,
                       "%s: %" PRId64 " records, but the files before it have %" PRId64
                       " in all: one of them is cut short",
                       path, count, *n);
        goto out;
    }
    memcpy(*all + *n * record_bytes(classes), bytes, size);
    *n += count;
out:
    free(bytes);
    return st;
}

/* original: records per file as published; fewer may be a subset made on purpose, or a damaged
 * copy. */
static lips_status files_load(lips_raw *out, const char *dir, const char *const *names, int files,
                              int64_t classes, int64_t original)
{
    uint8_t *all = NULL;
    int64_t n = 0, record = record_bytes(classes);
    char path[4096];
    lips_status st = LIPS_OK;
    for (int i = 0; i < files; i++) {
        LIPS_TRY_GOTO(st, lips_path(path, sizeof path, "%s/%s", dir, names[i]), fail);
        LIPS_TRY_GOTO(st, file_append(&all, &n, path, files, classes), fail);
    }
    if (n != files * original)
        lips_warn("%s: %" PRId64 " records, the published set has %" PRId64, path, n / files,
                  original);
    *out = (lips_raw){.n = n,
                      .c = 3,
                      .h = 32,
                      .w = 32,
                      .classes = classes,
                      .pixels = all + (record - LIPS_CIFAR_PIXELS),
                      .pixel_stride = record,
                      .labels = all + (record - LIPS_CIFAR_PIXELS - 1),
                      .label_stride = record,
                      .memory = {all, NULL}};
    return LIPS_OK;
fail:
    free(all);
    return st;
}

lips_status lips_cifar10_load(lips_raw *out, const char *dir, bool train)
{
    static const char *const TRAIN[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                        "data_batch_4.bin", "data_batch_5.bin"};
    static const char *const TEST[] = {"test_batch.bin"};
    return train ? files_load(out, dir, TRAIN, 5, 10, 10000)
                 : files_load(out, dir, TEST, 1, 10, 10000);
}

lips_status lips_cifar100_load(lips_raw *out, const char *dir, bool train)
{
    static const char *const TRAIN[] = {"train.bin"}, *const TEST[] = {"test.bin"};
    return train ? files_load(out, dir, TRAIN, 1, 100, 50000)
                 : files_load(out, dir, TEST, 1, 100, 10000);
}
