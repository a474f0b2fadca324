/* Any bytes as a safetensors file. */
#include "base/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Touches every value, so that a view beyond its memory is seen. */
static void use_tensor(const lips_st_file *f, const lips_st_tensor *t)
{
    if (lips_st_find(f, t->name) != t || t->count > (int64_t)1 << 20)
        abort(); /* names are unique, and no value takes less than a byte of the input */
    double *d = malloc((size_t)t->count * sizeof *d + 1);
    float *s = malloc((size_t)t->count * sizeof *s + 1);
    int64_t *n = malloc((size_t)t->count * sizeof *n + 1);
    if (d && s && n) {
        if (lips_st_to_f64(t, d) != LIPS_OK)
            abort();
        (void)lips_st_to_f32(t, s);
        (void)lips_st_to_i64(t, n);
    }
    free(d);
    free(s);
    free(n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    lips_st_file *f = NULL;
    if (size > (size_t)1 << 20 || lips_st_parse(&f, bytes, size, "fuzz") != LIPS_OK)
        return 0;
    for (int i = 0; i < lips_st_count(f); i++)
        if (lips_st_at(f, i)->count > 0)
            use_tensor(f, lips_st_at(f, i));
    (void)lips_st_meta(f, "format");
    lips_st_free(f);
    return 0;
}
