#include "base/file.h"
#include "base/hash.h"
#include "base/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { HEX = 32, LABEL_MAX = 400, PREFIX = 8 };
static const uint64_t file_max = UINT64_C(1) << 36; /* 64 GiB: it is read whole */

typedef struct entry {
    lips_st_tensor t;
    int64_t begin, end; /* in the data */
} entry;

struct lips_st_file {
    char *bytes;
    size_t size, header; /* header: its n bytes */
    json_t *root;        /* owns names and metadata */
    json_t *meta;        /* borrowed, or NULL */
    entry *tensors;
    int count;
    bool ours;
    char label[LABEL_MAX];
};

static lips_status bad_tensor(const lips_st_file *f, const char *name, const char *what)
{
    return lips_fail(LIPS_ERR_DATA, "%s: tensor \"%.200s\": %s", f->label, name, what);
}

/* *out = element i of the array a, a natural number; false if it is not. */
static bool natural(const json_t *a, size_t i, int64_t *out)
{
    const json_t *v = json_array_get(a, i);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = json_integer_value(v);
    return true;
}

static lips_status read_shape(const lips_st_file *f, entry *e, const json_t *shape)
{
    if (!json_is_array(shape) || json_array_size(shape) > LIPS_ST_NDIM_MAX)
        return bad_tensor(f, e->t.name, "shape is not a list of at most 8 sizes");
    e->t.ndim = (int)json_array_size(shape);
    e->t.count = 1;
    for (int i = 0; i < e->t.ndim; i++) {
        if (!natural(shape, (size_t)i, &e->t.shape[i]))
            return bad_tensor(f, e->t.name, "shape has an entry that is not a size");
        if (__builtin_mul_overflow(e->t.count, e->t.shape[i], &e->t.count))
            return bad_tensor(f, e->t.name, "the product of its shape overflows");
    }
    return LIPS_OK;
}

static lips_status read_entry(const lips_st_file *f, entry *e, const char *name, const json_t *v)
{
    e->t.name = name;
    if (!json_is_object(v) || json_object_size(v) != 3)
        return bad_tensor(f, name, "is not an object of dtype, shape and data_offsets");
    const char *dtype = json_string_value(json_object_get(v, "dtype"));
    int d = 0;
    while (dtype && d <= LIPS_BOOL && strcmp(dtype, lips_dtype_name((lips_dtype)d)) != 0)
        d++;
    if (!dtype || d > LIPS_BOOL)
        return lips_fail(LIPS_ERR_DATA, "%s: tensor \"%.200s\": dtype %.20s is not supported",
                         f->label, name, dtype ? dtype : "(none)");
    e->t.dtype = (lips_dtype)d;
    LIPS_TRY(read_shape(f, e, json_object_get(v, "shape")));
    const json_t *offsets = json_object_get(v, "data_offsets");
    if (json_array_size(offsets) != 2 || !natural(offsets, 0, &e->begin) ||
        !natural(offsets, 1, &e->end) || e->end < e->begin)
        return bad_tensor(f, name, "data_offsets are not [begin, end] with 0 <= begin <= end");
    int64_t bytes = 0;
    if (__builtin_mul_overflow(e->t.count, (int64_t)lips_dtype_size(e->t.dtype), &bytes) ||
        bytes != e->end - e->begin)
        return lips_fail(LIPS_ERR_DATA,
                         "%s: tensor \"%.200s\": %" PRId64 " values of %s do not fill "
                         "bytes %" PRId64 "..%" PRId64,
                         f->label, name, e->t.count, lips_dtype_name(e->t.dtype), e->begin, e->end);
    return LIPS_OK;
}

static int by_offset(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) /* empty tensors before the one that starts where they stand */
        return x->end < y->end ? -1 : 1;
    return strcmp(x->t.name, y->t.name);
}

/* The tensors must tile the data exactly. */
static lips_status place_tensors(lips_st_file *f)
{
    int64_t at = 0, data = (int64_t)(f->size - PREFIX - f->header);
    if (f->count)
        qsort(f->tensors, (size_t)f->count, sizeof *f->tensors, by_offset);
    for (int i = 0; i < f->count; i++) {
        entry *e = &f->tensors[i];
        if (e->begin != at)
            return lips_fail(LIPS_ERR_DATA,
                             "%s: tensor \"%.200s\" begins at data byte %" PRId64
                             ", which leaves %s to the one before, ending at %" PRId64,
                             f->label, e->t.name, e->begin, e->begin < at ? "an overlap" : "a hole",
                             at);
        if (e->end > data)
            return lips_fail(LIPS_ERR_DATA,
                             "%s: tensor \"%.200s\" ends at data byte %" PRId64
                             ", but the file has %" PRId64 " (cut short?)",
                             f->label, e->t.name, e->end, data);
        e->t.data = f->bytes + PREFIX + f->header + e->begin;
        at = e->end;
    }
    if (at != data)
        return lips_fail(LIPS_ERR_DATA,
                         "%s: %" PRId64 " bytes behind the last tensor, at data byte %" PRId64,
                         f->label, data - at, at);
    return LIPS_OK;
}

static lips_status read_meta(lips_st_file *f, json_t *meta)
{
    if (!json_is_object(meta))
        return lips_fail(LIPS_ERR_DATA, "%s: __metadata__ is not an object", f->label);
    const char *key;
    json_t *v;
    json_object_foreach(meta, key, v)
    {
        if (!json_is_string(v))
            return lips_fail(LIPS_ERR_DATA, "%s: metadata \"%.200s\" is not a string", f->label,
                             key);
        if (strncmp(key, "lipsweep.", 9) == 0)
            f->ours = true;
    }
    f->meta = meta;
    return LIPS_OK;
}

/* The hash of the file with the digits of the checksum taken as '0'. They stand in the header in
 * the one form that the writer gives them. */
static lips_status check_sum(const lips_st_file *f)
{
    static const char key[] = "\"lipsweep.checksum\":\"";
    static const char zeros[] = "00000000000000000000000000000000";
    const char *header = f->bytes + PREFIX;
    const char *at = memmem(header, f->header, key, sizeof key - 1);
    const char *sum = lips_st_meta(f, "lipsweep.checksum");
    size_t left = at ? f->header - (size_t)(at - header) - (sizeof key - 1) : 0;
    if (!at || !sum || strlen(sum) != HEX || left < HEX ||
        memcmp(at + sizeof key - 1, sum, HEX) != 0)
        return lips_fail(LIPS_ERR_DATA, "%s: no checksum in a file of lipsweep's (damaged)",
                         f->label);
    const char *digits = at + sizeof key - 1;
    lips_hasher *h = NULL;
    LIPS_TRY(lips_hasher_create(&h));
    lips_hasher_add(h, f->bytes, (size_t)(digits - f->bytes));
    lips_hasher_add(h, zeros, HEX);
    lips_hasher_add(h, digits + HEX, f->size - (size_t)(digits + HEX - f->bytes));
    char hex[HEX + 1];
    lips_hasher_digest128(h, hex);
    lips_hasher_free(h);
    if (memcmp(hex, sum, HEX) != 0)
        return lips_fail(LIPS_ERR_DATA, "%s: the checksum does not hold (damaged): %s, not %s",
                         f->label, hex, sum);
    return LIPS_OK;
}

const char *lips_st_mistaken(const void *bytes, size_t size)
{
    const unsigned char *b = bytes;
    if (size >= 4 && memcmp(b, "PK\003\004", 4) == 0)
        return "a zip file (torch.save?)";
    if (size >= 2 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5)
        return "a Python pickle (torch.save?)";
    if (size >= 8 && memcmp(b, "\211HDF\r\n\032\n", 8) == 0)
        return "an HDF5 file";
    if (size >= 6 && memcmp(b, "\223NUMPY", 6) == 0)
        return "a NumPy file";
    return NULL;
}

static lips_status check_prefix(lips_st_file *f)
{
    const char *other = lips_st_mistaken(f->bytes, f->size);
    if (other)
        return lips_fail(LIPS_ERR_DATA,
                         "%s is %s, not safetensors: save it with "
                         "safetensors.torch.save_file",
                         f->label, other);
    if (f->size < PREFIX + 2)
        return lips_fail(LIPS_ERR_DATA, "%s: %zu bytes are too few for safetensors (cut short?)",
                         f->label, f->size);
    uint64_t n;
    memcpy(&n, f->bytes, sizeof n);
    if (n > LIPS_ST_HEADER_MAX)
        return lips_fail(LIPS_ERR_DATA,
                         "%s: header size %" PRIu64 " at byte 0 is over the limit of %d "
                         "(not a safetensors file?)",
                         f->label, n, LIPS_ST_HEADER_MAX);
    if (n > f->size - PREFIX)
        return lips_fail(LIPS_ERR_DATA,
                         "%s: header size %" PRIu64 " at byte 0 is more than the file's "
                         "%zu bytes (cut short?)",
                         f->label, n, f->size);
    f->header = (size_t)n;
    if (n == 0 || f->bytes[PREFIX] != '{')
        return lips_fail(LIPS_ERR_DATA, "%s: the header at byte 8 does not begin with '{'",
                         f->label);
    return LIPS_OK;
}

static lips_status read_header(lips_st_file *f)
{
    json_error_t e;
    f->root = json_loadb(f->bytes + PREFIX, f->header, JSON_REJECT_DUPLICATES, &e);
    if (!f->root)
        return lips_fail(LIPS_ERR_DATA, "%s: header, byte %d: %s", f->label, PREFIX + e.position,
                         e.text);
    /* Over 2^31 entries would not fit in the header. */
    f->tensors = calloc(json_object_size(f->root) + 1, sizeof *f->tensors);
    if (!f->tensors)
        return lips_fail(LIPS_ERR_MEMORY, "%s: out of memory for its table of tensors", f->label);
    const char *key;
    json_t *v;
    json_object_foreach(f->root, key, v)
    {
        if (strcmp(key, "__metadata__") == 0)
            LIPS_TRY(read_meta(f, v));
        else
            LIPS_TRY(read_entry(f, &f->tensors[f->count++], key, v));
    }
    LIPS_TRY(place_tensors(f));
    if (f->ours)
        LIPS_TRY(check_sum(f));
    return LIPS_OK;
}

/* Takes bytes over, whatever happens. */
static lips_status parse(lips_st_file **out, char *bytes, size_t size, const char *label)
{
    lips_st_file *f = calloc(1, sizeof *f);
    if (!f) {
        free(bytes);
        return lips_fail(LIPS_ERR_MEMORY, "%s: out of memory", label);
    }
    f->bytes = bytes;
    f->size = size;
    snprintf(f->label, sizeof f->label, "%s", label);
    lips_status st = check_prefix(f);
    if (st == LIPS_OK)
        st = read_header(f);
    if (st != LIPS_OK) {
        lips_st_free(f);
        return st;
    }
    *out = f;
    return LIPS_OK;
}

lips_status lips_st_read(lips_st_file **out, const char *path)
{
    char *bytes = NULL;
    size_t size = 0;
    LIPS_TRY(lips_file_read(&bytes, &size, path, file_max));
    return parse(out, bytes, size, path);
}

lips_status lips_st_parse(lips_st_file **out, const void *bytes, size_t size, const char *label)
{
    char *copy = malloc(size + 1);
    if (!copy)
        return lips_fail(LIPS_ERR_MEMORY, "%s: out of memory (%zu bytes)", label, size);
    if (size)
        memcpy(copy, bytes, size);
    return parse(out, copy, size, label);
}

void lips_st_free(lips_st_file *f)
{
    if (!f)
        return;
    json_decref(f->root);
    free(f->tensors);
    free(f->bytes);
    free(f);
}

const char *lips_st_label(const lips_st_file *f)
{
    return f->label;
}

int lips_st_count(const lips_st_file *f)
{
    return f->count;
}

const lips_st_tensor *lips_st_at(const lips_st_file *f, int i)
{
    return &f->tensors[i].t;
}

const lips_st_tensor *lips_st_find(const lips_st_file *f, const char *name)
{
    for (int i = 0; i < f->count; i++)
        if (strcmp(f->tensors[i].t.name, name) == 0)
            return &f->tensors[i].t;
    return NULL;
}

const char *lips_st_meta(const lips_st_file *f, const char *key)
{
    return json_string_value(json_object_get(f->meta, key));
}

bool lips_st_is_ours(const lips_st_file *f)
{
    return f->ours;
}
