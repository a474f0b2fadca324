/*
 * data/raw.h - image sets as they lie in their files: bytes and labels, checked, not yet chosen
 * from or standardised. The readers work on bytes in memory, so that they can be fuzzed.
 */
#ifndef LIPS_DATA_RAW_H
#define LIPS_DATA_RAW_H

#include "data/data.h"

#include <stddef.h>

/* One file set (training or test) in memory. Sample i's pixels, (C,H,W) bytes, begin at
 * pixels + i * pixel_stride; its label is labels[i * label_stride]. Owns memory[]. */
typedef struct lips_raw {
    int64_t n, c, h, w;
    int64_t classes; /* labels are in [0, classes) */
    const uint8_t *pixels, *labels;
    int64_t pixel_stride, label_stride;
    void *memory[2];
} lips_raw;

void lips_raw_free(lips_raw *r); /* leaves it empty; accepts an empty one */

/*
 * IDX (the MNIST file format), unsigned bytes only:
 *   offset 0  2 zero bytes;  2  type, 0x08 = unsigned byte;  3  number of dimensions d
 *   offset 4  d sizes, 32 bits, big-endian;  4 + 4d  the values, last index fastest
 */
enum { LIPS_IDX_DIMS_MAX = 3 };

typedef struct lips_idx {
    int ndim;
    int64_t dim[LIPS_IDX_DIMS_MAX];
    const uint8_t *values; /* product of dim bytes, inside bytes or owned */
    void *owned;           /* decompressed file, free() it; NULL where bytes was raw */
} lips_idx;

/* bytes: a whole file, raw or gzip (told by its first bytes). ndim: dimensions asked for. Fails
 * with LIPS_ERR_DATA unless the file is exactly as long as its header says, naming name and offset.
 * At most the announced size is decompressed. */
lips_status lips_idx_parse(lips_idx *out, const void *bytes, size_t size, int ndim,
                           const char *name);

/* *out = malloc'ed contents of a gzip file (one or more members) of which at most max bytes may
 * come out. Memory grows with what really comes out. LIPS_ERR_DATA, LIPS_ERR_MEMORY. */
lips_status lips_gunzip(uint8_t **out, size_t *out_size, const void *bytes, size_t size, size_t max,
                        const char *name);
/* The first bytes that come out, at most `want`; *got may be less. */
lips_status lips_gunzip_head(uint8_t *head, size_t want, size_t *got, const void *bytes,
                             size_t size, const char *name);

/* Images and labels belong together: equal counts, labels below classes. classes 0: deduced, 1 +
 * the largest label, where every class (0 apart) must occur. Takes the two over, also when failing.
 */
lips_status lips_idx_join(lips_raw *out, lips_idx *images, const char *images_name,
                          lips_idx *labels, const char *labels_name, int64_t classes);

/*
 * CIFAR's binary files, no header: records of label_bytes labels (CIFAR-10: one; CIFAR-100: coarse,
 * then fine) and 3072 pixels (R, G, B planes of 32 x 32).
 */
enum { LIPS_CIFAR_PIXELS = 3 * 32 * 32 };

/* Checks size and labels of a whole file; *n = its records. classes: 10 or 100. */
lips_status lips_cifar_check(int64_t *n, const void *bytes, size_t size, int64_t classes,
                             const char *name);

/* Read and check the training or test files of a source in dir. */
lips_status lips_idx_load(lips_raw *out, const char *dir, bool train, int64_t classes);
lips_status lips_cifar10_load(lips_raw *out, const char *dir, bool train);
lips_status lips_cifar100_load(lips_raw *out, const char *dir, bool train);

/* Finds the source's folder (data_dir or the default places, and their usual subfolders), reads the
 * training or the test files. Missing: LIPS_ERR_DATA with the command that gets them. */
lips_status lips_source_load(lips_raw *out, lips_source source, const char *data_dir, bool train);
/* The folder that lips_source_load reads from. */
lips_status lips_source_folder(char *buf, size_t size, lips_source source, const char *data_dir);
const char *lips_source_title(lips_source source);

/* data/sine.c: fills d's three splits; checks the sine_* fields. */
lips_status lips_sine_make(lips_dataset *d, const lips_data_spec *spec);

/* Memory of one split: x of n rows of `features`, labels (classes > 0) or targets (classes 0, one
 * value per row), source_index. n may be 0. Whatever was allocated is the split's, also when
 * failing. */
lips_status lips_split_alloc(lips_split *s, int64_t n, int64_t features, bool labels);

#endif
