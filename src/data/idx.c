/* data/idx.c - IDX files: parsing, and pairs of images and labels. */
#include "base/file.h"
#include "data/raw.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_U8 = 0x08, HEADER_MAX = 4 + 4 * LIPS_IDX_DIMS_MAX };
/* Larger than any set this format is used for; a file's own size is checked against its header. */
static const size_t FILE_MAX = (size_t)1 << 36;

static int64_t be32(const uint8_t *p)
{
    return (int64_t)p[0] << 24 | (int64_t)p[1] << 16 | (int64_t)p[2] << 8 | (int64_t)p[3];
}

/* Fills ndim and dim; *total = the file size that the header announces. */
static lips_status header_parse(lips_idx *out, size_t *total, const uint8_t *head, size_t got,
                                int ndim, const char *name)
{
    size_t header = 4 + 4 * (size_t)ndim;
    if (got < header)
        return lips_fail(LIPS_ERR_DATA,
                         "%s: offset %zu: the file ends within its %zu-byte IDX header", name, got,
                         header);
    if (head[0] || head[1] || head[2] != TYPE_U8 || head[3] != ndim)
        return lips_fail(LIPS_ERR_DATA,
                         "%s: offset 0: wrong magic number %02x%02x%02x%02x, expected "
                         "0000%02x%02x (IDX, unsigned bytes, %d dimension%s)",
                         name, head[0], head[1], head[2], head[3], TYPE_U8, (unsigned)ndim, ndim,
                         ndim == 1 ? "" : "s");
    size_t values = 1;
    out->ndim = ndim;
    for (int i = 0; i < ndim; i++) {
        out->dim[i] = be32(head + 4 + 4 * i);
        if (out->dim[i] < 1)
            return lips_fail(LIPS_ERR_DATA, "%s: offset %d: size 0 in dimension %d", name,
                             4 + 4 * i, i + 1);
        if (__builtin_mul_overflow(values, (size_t)out->dim[i], &values) || values > FILE_MAX)
            return lips_fail(LIPS_ERR_DATA,
                             "%s: offset %d: the header announces more than %zu bytes", name,
                             4 + 4 * i, FILE_MAX);
    }
    *total = header + values;
    return LIPS_OK;
}

lips_status lips_idx_parse(lips_idx *out, const void *bytes, size_t size, int ndim,
                           const char *name)
{
    *out = (lips_idx){0};
    const uint8_t *b = bytes;
    if (ndim < 1 || ndim > LIPS_IDX_DIMS_MAX)
        return lips_fail(LIPS_ERR_USAGE, "%s: %d dimensions asked for, 1 to %d possible", name,
                         ndim, LIPS_IDX_DIMS_MAX);
    if (size == 0)
        return lips_fail(LIPS_ERR_DATA, "%s: offset 0: the file is empty", name);
    bool gzip = size >= 2 && b[0] == 0x1f && b[1] == 0x8b;
    uint8_t head[HEADER_MAX] = {0};
    size_t got = size < sizeof head ? size : sizeof head, total = 0;
    if (gzip)
        LIPS_TRY(lips_gunzip_head(head, 4 + 4 * (size_t)ndim, &got, bytes, size, name));
    else
        memcpy(head, bytes, got);
    LIPS_TRY(header_parse(out, &total, head, got, ndim, name));
    if (gzip) {
        uint8_t *plain;
        LIPS_TRY(lips_gunzip(&plain, &size, bytes, size, total, name));
        out->owned = plain;
        b = plain;
    }
    if (size != total) {
        lips_status st = lips_fail(LIPS_ERR_DATA,
                                   "%s: offset %zu: %s the %zu bytes that the header "
                                   "announces (%zu bytes%s)",
                                   name, size < total ? size : total,
                                   size < total ? "the file ends before" : "the file goes on after",
                                   total, size, gzip ? " decompressed" : "");
        free(out->owned);
        *out = (lips_idx){0};
        return st;
    }
    out->values = b + 4 + 4 * (size_t)ndim;
    return LIPS_OK;
}

/* Classes of a set that does not say: 1 + the largest label. A damaged label would pass for a new
 * class, so each must occur; class 0 may be absent (EMNIST counts its letters from 1). */
static lips_status classes_deduce(int64_t *classes, const lips_idx *labels, const char *name)
{
    int64_t first[256], largest = 0;
    for (int i = 0; i < 256; i++)
        first[i] = -1;
    for (int64_t i = labels->dim[0] - 1; i >= 0; i--)
        first[labels->values[i]] = i;
    for (int i = 1; i < 256; i++)
        if (first[i] >= 0) {
            if (i > largest + 1)
                return lips_fail(LIPS_ERR_DATA,
                                 "%s: offset %" PRId64 ": label %d, but no sample has label "
                                 "%" PRId64 " (classes must be numbered without gaps)",
                                 name, 8 + first[i], i, largest + 1);
            largest = i;
        }
    *classes = largest + 1;
    return LIPS_OK;
}

static lips_status labels_check(const lips_idx *labels, int64_t classes, const char *name)
{
    for (int64_t i = 0; i < labels->dim[0]; i++)
        if (labels->values[i] >= classes)
            return lips_fail(LIPS_ERR_DATA,
                             "%s: offset %" PRId64 ": label %d of sample %" PRId64
                             " is out of range, expected 0 to %" PRId64,
                             name, 8 + i, labels->values[i], i, classes - 1);
    return LIPS_OK;
}

lips_status lips_idx_join(lips_raw *out, lips_idx *images, const char *images_name,
                          lips_idx *labels, const char *labels_name, int64_t classes)
{
    *out = (lips_raw){.n = images->dim[0],
                      .c = 1,
                      .h = images->dim[1],
                      .w = images->dim[2],
                      .pixels = images->values,
                      .labels = labels->values,
                      .pixel_stride = images->dim[1] * images->dim[2],
                      .label_stride = 1,
                      .memory = {images->owned, labels->owned}};
    images->owned = labels->owned = NULL;
    lips_status st = LIPS_OK;
    if (images->dim[0] != labels->dim[0])
        st = lips_fail(LIPS_ERR_DATA,
                       "%s: offset 4: %" PRId64 " images, but %s has %" PRId64 " labels",
                       images_name, images->dim[0], labels_name, labels->dim[0]);
    else if (classes == 0)
        st = classes_deduce(&classes, labels, labels_name);
    else
        st = labels_check(labels, classes, labels_name);
    out->classes = classes;
    if (st != LIPS_OK)
        lips_raw_free(out);
    return st;
}

/* DIR/NAME or DIR/NAME.gz; the former wins. The file's bytes become idx->owned if idx points into
 * them. */
static lips_status file_load(lips_idx *idx, char *path, size_t path_size, const char *dir,
                             const char *name, int ndim)
{
    char *bytes;
    size_t size;
    LIPS_TRY(lips_path(path, path_size, "%s/%s", dir, name));
    if (!lips_file_exists(path))
        LIPS_TRY(lips_path(path, path_size, "%s/%s.gz", dir, name));
    LIPS_TRY(lips_file_read(&bytes, &size, path, FILE_MAX));
    lips_status st = lips_idx_parse(idx, bytes, size, ndim, path);
    if (st == LIPS_OK && !idx->owned)
        idx->owned = bytes;
    else
        free(bytes);
    return st;
}

lips_status lips_idx_load(lips_raw *out, const char *dir, bool train, int64_t classes)
{
    char images_path[4096], labels_path[4096];
    lips_idx images = {0}, labels = {0};
    lips_status st;
    LIPS_TRY_GOTO(st,
                  file_load(&images, images_path, sizeof images_path, dir,
                            train ? "train-images-idx3-ubyte" : "t10k-images-idx3-ubyte", 3),
                  out);
    LIPS_TRY_GOTO(st,
                  file_load(&labels, labels_path, sizeof labels_path, dir,
                            train ? "train-labels-idx1-ubyte" : "t10k-labels-idx1-ubyte", 1),
                  out);
    LIPS_TRY_GOTO(st, lips_idx_join(out, &images, images_path, &labels, labels_path, classes), out);
out:
    free(images.owned);
    free(labels.owned);
    return st;
}
