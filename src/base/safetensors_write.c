#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/safetensors.h"

#include <stdlib.h>
#include <string.h>

enum { HEX = 32, PREFIX = 8, ALIGN = 64 };

static size_t tensor_bytes(const lips_st_out_tensor *t)
{
    size_t n = lips_dtype_size(t->dtype);
    for (int i = 0; i < t->ndim; i++)
        n *= (size_t)t->shape[i];
    return n;
}

static lips_status check_args(const char *path, const lips_st_out_tensor *t, int n,
                              const lips_st_meta_pair *meta, int n_meta)
{
    for (int i = 0; i < n; i++) {
        if (t[i].ndim < 0 || t[i].ndim > LIPS_ST_NDIM_MAX)
            return lips_fail(LIPS_ERR_USAGE, "%s: tensor %s has %d dimensions (0..%d)", path,
                             t[i].name, t[i].ndim, LIPS_ST_NDIM_MAX);
        for (int k = 0; k < i; k++)
            if (strcmp(t[i].name, t[k].name) == 0)
                return lips_fail(LIPS_ERR_USAGE, "%s: two tensors called %s", path, t[i].name);
    }
    for (int i = 0; i < n_meta; i++) {
        bool taken = strcmp(meta[i].key, "lipsweep.checksum") == 0 ||
                     strcmp(meta[i].key, "lipsweep.format") == 0;
        for (int k = 0; k < i; k++)
            taken |= strcmp(meta[i].key, meta[k].key) == 0;
        if (taken)
            return lips_fail(LIPS_ERR_USAGE, "%s: metadata key %s is taken", path, meta[i].key);
    }
    return LIPS_OK;
}

/* Tensors in the order of the file: large elements first, so that offsets stay multiples of the
 * element size; k counts through it. */
static const lips_st_out_tensor *in_file_order(const lips_st_out_tensor *t, int n, int k)
{
    for (size_t size = 8; size >= 1; size /= 2)
        for (int i = 0; i < n; i++)
            if (lips_dtype_size(t[i].dtype) == size && k-- == 0)
                return &t[i];
    return NULL;
}

/* The header's JSON, the checksum as zeros; returns its length as snprintf. */
static size_t header_text(char *buf, size_t size, const lips_st_out_tensor *t, int n,
                          const lips_st_meta_pair *meta, int n_meta)
{
    lips_json j = lips_json_start(buf, size);
    lips_json_open(&j, NULL, '{');
    lips_json_open(&j, "__metadata__", '{');
    lips_json_string(&j, "lipsweep.checksum", "00000000000000000000000000000000");
    /* A second key: with it, one changed bit cannot hide that the file is ours. */
    lips_json_string(&j, "lipsweep.format", "1");
    for (int i = 0; i < n_meta; i++)
        lips_json_string(&j, meta[i].key, meta[i].value);
    lips_json_close(&j, '}');
    int64_t at = 0;
    for (int k = 0; k < n; k++) {
        const lips_st_out_tensor *o = in_file_order(t, n, k);
        lips_json_open(&j, o->name, '{');
        lips_json_string(&j, "dtype", lips_dtype_name(o->dtype));
        lips_json_open(&j, "shape", '[');
        for (int i = 0; i < o->ndim; i++)
            lips_json_int(&j, NULL, o->shape[i]);
        lips_json_close(&j, ']');
        lips_json_open(&j, "data_offsets", '[');
        lips_json_int(&j, NULL, at);
        at += (int64_t)tensor_bytes(o);
        lips_json_int(&j, NULL, at);
        lips_json_close(&j, ']');
        lips_json_close(&j, '}');
    }
    lips_json_close(&j, '}');
    return j.len;
}

/* *out: prefix and padded header with the checksum filled in, *size bytes, malloc'ed. */
static lips_status make_head(char **out, size_t *size, const char *path,
                             const lips_st_out_tensor *t, int n, const lips_st_meta_pair *meta,
                             int n_meta)
{
    size_t text = header_text(NULL, 0, t, n, meta, n_meta);
    size_t total = (PREFIX + text + ALIGN - 1) / ALIGN * ALIGN;
    if (total - PREFIX > LIPS_ST_HEADER_MAX)
        return lips_fail(LIPS_ERR_RUNTIME, "%s: a header of %zu bytes (the limit is %d)", path,
                         total - PREFIX, LIPS_ST_HEADER_MAX);
    char *head = malloc(total + 1);
    lips_hasher *h = NULL;
    lips_status st = LIPS_OK;
    if (!head)
        st = lips_fail(LIPS_ERR_MEMORY, "%s: out of memory for its header", path);
    if (st == LIPS_OK)
        st = lips_hasher_create(&h);
    if (st != LIPS_OK) {
        free(head);
        return st;
    }
    uint64_t length = total - PREFIX;
    memcpy(head, &length, sizeof length);
    header_text(head + PREFIX, text + 1, t, n, meta, n_meta);
    memset(head + PREFIX + text, ' ', total - PREFIX - text);
    lips_hasher_add(h, head, total);
    for (int k = 0; k < n; k++) {
        const lips_st_out_tensor *o = in_file_order(t, n, k);
        lips_hasher_add(h, o->data, tensor_bytes(o));
    }
    char hex[HEX + 1];
    lips_hasher_digest128(h, hex);
    lips_hasher_free(h);
    static const char before[] = "{\"__metadata__\":{\"lipsweep.checksum\":\"";
    memcpy(head + PREFIX + sizeof before - 1, hex, HEX);
    *out = head;
    *size = total;
    return LIPS_OK;
}

lips_status lips_st_write(const char *path, const lips_st_out_tensor *t, int n,
                          const lips_st_meta_pair *meta, int n_meta)
{
    LIPS_TRY(check_args(path, t, n, meta, n_meta));
    char *head = NULL;
    size_t size = 0;
    LIPS_TRY(make_head(&head, &size, path, t, n, meta, n_meta));
    lips_file_atomic a;
    lips_status st = lips_file_begin(&a, path);
    if (st != LIPS_OK) {
        free(head);
        return st;
    }
    /* Failures of single writes are kept by the file and told by commit. */
    (void)!fwrite(head, 1, size, a.f);
    for (int k = 0; k < n; k++) {
        const lips_st_out_tensor *o = in_file_order(t, n, k);
        size_t bytes = tensor_bytes(o);
        if (bytes)
            (void)!fwrite(o->data, 1, bytes, a.f);
    }
    free(head);
    return lips_file_commit(&a);
}
