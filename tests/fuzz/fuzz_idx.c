/* Any bytes as an IDX file of 1, 2 or 3 dimensions, raw or gzip. The first byte says which. */
#include "data/raw.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Touches every value, so that a view beyond its memory is seen. */
static void idx_use(const lips_idx *idx)
{
    int64_t n = 1;
    unsigned sum = 0;
    for (int i = 0; i < idx->ndim; i++)
        n *= idx->dim[i];
    for (int64_t i = 0; i < n; i++)
        sum += idx->values[i];
    volatile unsigned kept = sum;
    (void)kept;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 1)
        return 0;
    int ndim = 1 + bytes[0] % LIPS_IDX_DIMS_MAX;
    /* A copy of exactly this size: reading past its end is an error that the sanitizer reports. */
    size_t used = size - 1;
    uint8_t *copy = malloc(used ? used : 1);
    if (!copy)
        return 0;
    memcpy(copy, bytes + 1, used);
    lips_idx idx;
    lips_raw raw;
    if (lips_idx_parse(&idx, copy, used, ndim, "fuzz") == LIPS_OK) {
        idx_use(&idx);
        if (ndim == 1) {
            /* Images to go with the labels; the join takes both over. */
            lips_idx images = {.ndim = 3, .dim = {idx.dim[0], 1, 1}, .values = idx.values};
            int64_t classes = bytes[0] & 128 ? 10 : 0;
            if (lips_idx_join(&raw, &images, "images", &idx, "labels", classes) == LIPS_OK)
                lips_raw_free(&raw);
        }
        free(idx.owned);
    }
    free(copy);
    return 0;
}
