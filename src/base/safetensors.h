/*
 * base/safetensors.h - the safetensors format, reader and writer.
 *
 *   offset 0      8 bytes   little-endian u64 n, size of the header
 *   offset 8      n bytes   JSON, space-padded: {"__metadata__":{string:string},
 *                           name:{"dtype","shape","data_offsets"}, ...}
 *   offset 8+n    rest      data, row-major little-endian, offsets contiguous from 0, no holes,
 *                           no overlap
 *
 * Files written here carry the metadata keys "lipsweep.format" (1) and "lipsweep.checksum":
 * XXH3-128 of the whole file with that value's 32 hex digits taken as '0'. A file with any
 * "lipsweep." key must have the checksum, and it must hold: so no single changed bit passes.
 */
#ifndef LIPS_BASE_SAFETENSORS_H
#define LIPS_BASE_SAFETENSORS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum lips_dtype {
    LIPS_F32,
    LIPS_F64,
    LIPS_F16,
    LIPS_BF16,
    LIPS_I64,
    LIPS_I32,
    LIPS_U8,
    LIPS_BOOL
} lips_dtype;

/* Header sizes beyond 1 MiB are refused: they would hold some ten thousand tensors. */
enum { LIPS_ST_NDIM_MAX = 8, LIPS_ST_HEADER_MAX = 1 << 20 };

const char *lips_dtype_name(lips_dtype d); /* "F32" */
size_t lips_dtype_size(lips_dtype d);      /* bytes */

typedef struct lips_st_tensor {
    const char *name; /* owned by the file */
    lips_dtype dtype;
    int ndim;
    int64_t shape[LIPS_ST_NDIM_MAX];
    int64_t count;    /* product of the shape; 1 for ndim 0 */
    const void *data; /* count values in the file's buffer, possibly unaligned: use the readers */
} lips_st_tensor;

typedef struct lips_st_file lips_st_file;

/* Reads and checks the whole file (size cap, header size, JSON, duplicate names, dtype, shape
 * product overflow, overlap, holes, trailing bytes, checksum). A hostile header never makes it
 * allocate more than the file's size plus some 24 MiB. Errors: LIPS_ERR_DATA with path and offset
 * or tensor name; a pickle or zip file is named as such. */
lips_status lips_st_read(lips_st_file **out, const char *path);
/* The same from memory (fuzzing); copies. label stands for the path. */
lips_status lips_st_parse(lips_st_file **out, const void *bytes, size_t size, const char *label);
/* What people are most likely to hand in instead, told by its first bytes: "a Python pickle
 * (torch.save?)" and the like; NULL: none of these. */
const char *lips_st_mistaken(const void *bytes, size_t size);
void lips_st_free(lips_st_file *f);
const char *lips_st_label(const lips_st_file *f); /* the path or label it was read from */
int lips_st_count(const lips_st_file *f);
const lips_st_tensor *lips_st_at(const lips_st_file *f, int i); /* in order of data offsets */
const lips_st_tensor *lips_st_find(const lips_st_file *f, const char *name); /* NULL if absent */
const char *lips_st_meta(const lips_st_file *f, const char *key);            /* NULL if absent */
bool lips_st_is_ours(const lips_st_file *f); /* had a valid checksum */

/* out (t->count) = the values. To f64 from every dtype; to f32 too, where a finite value beyond the
 * range of float32 is refused (LIPS_ERR_DATA); to i64 from I64, I32, U8 and BOOL only. */
lips_status lips_st_to_f64(const lips_st_tensor *t, double *out);
lips_status lips_st_to_f32(const lips_st_tensor *t, float *out);
lips_status lips_st_to_i64(const lips_st_tensor *t, int64_t *out);

/* "[16,784]" */
void lips_st_shape_text(char *buf, size_t size, int ndim, const int64_t *shape);

typedef struct lips_st_out_tensor {
    const char *name;
    lips_dtype dtype; /* F32, F64, I64: data is of this type */
    int ndim;
    int64_t shape[LIPS_ST_NDIM_MAX];
    const void *data;
} lips_st_out_tensor;

typedef struct lips_st_meta_pair {
    const char *key, *value;
} lips_st_meta_pair;

/* Writes atomically (base/file.h): temp file, fsync, rename, fsync of the folder. Tensors with
 * 8-byte elements come first in the file, so that every tensor is aligned. */
lips_status lips_st_write(const char *path, const lips_st_out_tensor *t, int n,
                          const lips_st_meta_pair *meta, int n_meta);

#endif
