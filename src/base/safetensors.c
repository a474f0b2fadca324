/* safetensors.c - what reader and writer share, and the tensors' values. */
#include "base/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "values are copied as they lie in the file");

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [LIPS_F32] = {"F32", 4},   [LIPS_F64] = {"F64", 8},   [LIPS_F16] = {"F16", 2},
    [LIPS_BF16] = {"BF16", 2}, [LIPS_I64] = {"I64", 8},   [LIPS_I32] = {"I32", 4},
    [LIPS_U8] = {"U8", 1},     [LIPS_BOOL] = {"BOOL", 1},
};

const char *lips_dtype_name(lips_dtype d)
{
    return dtypes[d].name;
}

size_t lips_dtype_size(lips_dtype d)
{
    return dtypes[d].size;
}

void lips_st_shape_text(char *buf, size_t size, int ndim, const int64_t *shape)
{
    size_t used = (size_t)snprintf(buf, size, "[");
    for (int i = 0; i < ndim && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%" PRId64, i ? "," : "", shape[i]);
    if (used < size)
        snprintf(buf + used, size - used, "]");
}

/* IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits. */
static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double v;
    if (exponent == 31)
        v = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        v = ldexp(fraction, -24);
    else
        v = ldexp(1024 + fraction, exponent - 25);
    return h >> 15 ? -v : v;
}

/* Reads a T, unaligned, as a double. */
#define LOAD(T, at) ((double)load_##T(at))
#define LOADER(T)                                                                                  \
    static T load_##T(const unsigned char *at)                                                     \
    {                                                                                              \
        T v;                                                                                       \
        memcpy(&v, at, sizeof v);                                                                  \
        return v;                                                                                  \
    }
LOADER(float)
LOADER(double)
LOADER(int64_t)
LOADER(int32_t)
LOADER(uint16_t)

static double value_at(const lips_st_tensor *t, int64_t i)
{
    const unsigned char *at = (const unsigned char *)t->data + (size_t)i * dtypes[t->dtype].size;
    switch (t->dtype) {
    case LIPS_F32: return LOAD(float, at);
    case LIPS_F64: return LOAD(double, at);
    case LIPS_I64: return LOAD(int64_t, at);
    case LIPS_I32: return LOAD(int32_t, at);
    case LIPS_F16: return half_value(load_uint16_t(at));
    case LIPS_BF16: { /* the upper half of a float */
        uint32_t bits = (uint32_t)load_uint16_t(at) << 16;
        float v;
        memcpy(&v, &bits, sizeof v);
        return (double)v;
    }
    case LIPS_U8:
    case LIPS_BOOL: break;
    }
    return (double)*at;
}

lips_status lips_st_to_f64(const lips_st_tensor *t, double *out)
{
    for (int64_t i = 0; i < t->count; i++)
        out[i] = value_at(t, i);
    return LIPS_OK;
}

lips_status lips_st_to_f32(const lips_st_tensor *t, float *out)
{
    for (int64_t i = 0; i < t->count; i++) {
        double v = value_at(t, i);
        out[i] = (float)v;
        if (isfinite(v) && !isfinite(out[i]))
            return lips_fail(LIPS_ERR_DATA,
                             "tensor %.200s: value %" PRId64 ", %g, is beyond float32", t->name, i,
                             v);
    }
    return LIPS_OK;
}

lips_status lips_st_to_i64(const lips_st_tensor *t, int64_t *out)
{
    const unsigned char *at = t->data;
    switch (t->dtype) {
    case LIPS_I64:
        if (t->count)
            memcpy(out, at, (size_t)t->count * sizeof *out);
        return LIPS_OK;
    case LIPS_I32:
        for (int64_t i = 0; i < t->count; i++)
            out[i] = load_int32_t(at + 4 * i);
        return LIPS_OK;
    case LIPS_U8:
    case LIPS_BOOL:
        for (int64_t i = 0; i < t->count; i++)
            out[i] = at[i];
        return LIPS_OK;
    case LIPS_F32:
    case LIPS_F64:
    case LIPS_F16:
    case LIPS_BF16: break;
    }
    return lips_fail(LIPS_ERR_DATA, "tensor %.200s is %s, not of integers", t->name,
                     dtypes[t->dtype].name);
}
