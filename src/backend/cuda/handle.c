/*
 * cuda/handle.c - devices and handles: what there is, whether it can be used, and the stream and
 * staging of one user of it.
 */
#include "backend/cuda/ops.h"
#include "base/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const lips_ops lips_cuda_ops;

/* "13.0" of 13000. */
typedef struct version {
    char text[24];
} version;

static version version_of(int v)
{
    version out;
    snprintf(out.text, sizeof out.text, "%d.%d", v / 1000, v % 1000 / 10);
    return out;
}

/* Why there is no device, in one line. */
static lips_status no_device(cudaError_t e)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    int driver = 0, runtime = 0;
    (void)cudaGetLastError();
    if (e != cudaSuccess && e != cudaErrorNoDevice && e != cudaErrorInsufficientDriver)
        return lips_cuda_fail(e, "cudaGetDeviceCount", __FILE__, __LINE__);
    if (cudaDriverGetVersion(&driver) != cudaSuccess)
        driver = 0;
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess)
        runtime = CUDART_VERSION;
    if (driver == 0)
        return lips_fail(LIPS_ERR_UNSUPPORTED, "cuda: this machine has no NVIDIA driver (CUDA %s)",
                         version_of(runtime).text);
    if (e == cudaErrorInsufficientDriver || driver < runtime)
        return lips_fail(LIPS_ERR_UNSUPPORTED,
                         "cuda: the NVIDIA driver is too old: it supports CUDA %s, this program "
                         "needs %s",
                         version_of(driver).text, version_of(runtime).text);
    if (visible)
        return lips_fail(LIPS_ERR_UNSUPPORTED,
                         "cuda: no GPU is visible (CUDA_VISIBLE_DEVICES is '%s')", visible);
    return lips_fail(LIPS_ERR_UNSUPPORTED, "cuda: this machine has no GPU");
}

/* The device exists and is new enough. */
static lips_status check_device(int device, int *count, struct cudaDeviceProp *prop)
{
    *count = 0;
    cudaError_t e = cudaGetDeviceCount(count);
    if (e != cudaSuccess || *count == 0)
        return no_device(e);
    if (device < 0 || device >= *count)
        return lips_fail(LIPS_ERR_USAGE, "cuda: there is no device %d, this machine has %d (0..%d)",
                         device, *count, *count - 1);
    LIPS_TRY_CUDA(cudaGetDeviceProperties(prop, device));
    if (prop->major * 10 + prop->minor < LIPS_CUDA_CC_MIN)
        return lips_fail(LIPS_ERR_UNSUPPORTED,
                         "cuda: device %d (%s, compute capability %d.%d) is too old, %d.%d is "
                         "needed",
                         device, prop->name, prop->major, prop->minor, LIPS_CUDA_CC_MIN / 10,
                         LIPS_CUDA_CC_MIN % 10);
    return LIPS_OK;
}

lips_status cuda_op_probe(lips_device *out, int device)
{
    struct cudaDeviceProp prop;
    int driver = 0, runtime = 0;
    char libraries[64];
    memset(out, 0, sizeof *out);
    LIPS_TRY(check_device(device, &out->count, &prop));
    LIPS_TRY_CUDA(cudaSetDevice(device));
    LIPS_TRY_CUDA(cudaMemGetInfo(&out->bytes_free, &out->bytes));
    LIPS_TRY_CUDA(cudaDriverGetVersion(&driver));
    LIPS_TRY_CUDA(cudaRuntimeGetVersion(&runtime));
    lips_cuda_libraries_describe(libraries, sizeof libraries);
    snprintf(out->name, sizeof out->name, "%.*s", (int)sizeof out->name - 1, prop.name);
    out->threads = (int64_t)prop.multiProcessorCount * prop.maxThreadsPerMultiProcessor;
    out->capability = prop.major * 10 + prop.minor;
    out->emulated = strncmp(prop.name, LIPS_CUDA_EMULATED, strlen(LIPS_CUDA_EMULATED)) == 0;
    snprintf(out->detail, sizeof out->detail,
             "compute capability %d.%d, %d multiprocessors, driver %s, runtime %s, %s", prop.major,
             prop.minor, prop.multiProcessorCount, version_of(driver).text,
             version_of(runtime).text, libraries);
    return LIPS_OK;
}

static lips_status start(lips_cuda *h)
{
    LIPS_TRY_CUDA(cudaSetDevice(h->device));
    LIPS_TRY_CUDA(cudaStreamCreateWithFlags(&h->stream, cudaStreamNonBlocking));
    for (int i = 0; i < LIPS_CUDA_SLOTS; i++)
        LIPS_TRY_CUDA(cudaEventCreateWithFlags(&h->slot[i].done, cudaEventDisableTiming));
    for (int i = 0; i < LIPS_FETCHES; i++)
        LIPS_TRY_CUDA(cudaEventCreateWithFlags(&h->fetched[i], cudaEventDisableTiming));
    return LIPS_OK;
}

lips_status cuda_op_open(lips_backend **out, int device)
{
    int count;
    *out = NULL;
    lips_cuda *h = calloc(1, sizeof *h);
    if (!h)
        return lips_fail(LIPS_ERR_MEMORY, "cuda: out of memory (%zu bytes asked)", sizeof *h);
    lips_status st;
    h->base.ops = &lips_cuda_ops;
    h->device = device;
    LIPS_TRY_GOTO(st, check_device(device, &count, &h->prop), fail);
    LIPS_TRY_GOTO(st, start(h), fail);
    *out = &h->base;
    return LIPS_OK;
fail:
    cuda_op_close(&h->base);
    return st;
}

/* Errors are not looked at: a device that is lost has nothing to be freed. */
void cuda_op_close(lips_backend *be)
{
    lips_cuda *h = (lips_cuda *)be;
    if (!h)
        return;
    (void)cudaSetDevice(h->device);
    if (h->stream)
        lips_cuda_wait_quietly(h);
    lips_cuda_libraries_close(h);
    lips_cuda_choices_free(h->choices);
    lips_cuda_memory_free(h);
    for (int i = 0; i < LIPS_CUDA_SLOTS; i++)
        if (h->slot[i].done)
            (void)cudaEventDestroy(h->slot[i].done);
    for (int i = 0; i < LIPS_FETCHES; i++)
        if (h->fetched[i])
            (void)cudaEventDestroy(h->fetched[i]);
    if (h->stream)
        (void)cudaStreamDestroy(h->stream);
    (void)cudaGetLastError();
    free(h);
}

static lips_status need_value(const char *what, int value, int last)
{
    if (value < 0 || value > last)
        return lips_fail(LIPS_ERR_USAGE, "cuda: %s is %d, must be in 0..%d", what, value, last);
    return LIPS_OK;
}

lips_status cuda_op_set_precision(lips_backend *be, lips_precision forward, lips_precision backward)
{
    lips_cuda *h = (lips_cuda *)be;
    LIPS_TRY(need_value("forward precision", (int)forward, LIPS_PRECISION_BF16));
    LIPS_TRY(need_value("backward precision", (int)backward, LIPS_PRECISION_BF16));
    h->forward = forward;
    h->backward = backward;
    return LIPS_OK;
}

lips_status cuda_op_set_libraries(lips_backend *be, lips_library conv, lips_library linear)
{
    lips_cuda *h = (lips_cuda *)be;
    LIPS_TRY(need_value("library of convolutions", (int)conv, LIPS_LIBRARY_NVIDIA));
    LIPS_TRY(need_value("library of linear layers", (int)linear, LIPS_LIBRARY_NVIDIA));
    h->conv = conv;
    h->gemm = linear;
    return LIPS_OK;
}

lips_status lips_cuda_enter(lips_backend *be, lips_cuda **out)
{
    *out = (lips_cuda *)be;
    LIPS_TRY_CUDA(cudaSetDevice((*out)->device));
    return LIPS_OK;
}

static cudaError_t wait_for_stream(lips_cuda *h)
{
    lips_watch_begin("cudaStreamSynchronize", h->device, h->stream);
    cudaError_t e = cudaStreamSynchronize(h->stream);
    lips_watch_end();
    return e;
}

lips_status lips_cuda_wait(lips_cuda *h)
{
    LIPS_TRY(lips_cuda_unrecorded(h, "waiting"));
    cudaError_t e = wait_for_stream(h);
    return e == cudaSuccess ? LIPS_OK
                            : lips_cuda_fail(e, "cudaStreamSynchronize", __FILE__, __LINE__);
}

lips_status lips_cuda_wait_event(lips_cuda *h, cudaEvent_t event)
{
    lips_watch_begin("cudaEventSynchronize", h->device, h->stream);
    cudaError_t e = cudaEventSynchronize(event);
    lips_watch_end();
    return e == cudaSuccess ? LIPS_OK
                            : lips_cuda_fail(e, "cudaEventSynchronize", __FILE__, __LINE__);
}

void lips_cuda_wait_quietly(lips_cuda *h)
{
    (void)wait_for_stream(h);
}

lips_status lips_cuda_layout(const char *op, const lips_tensor *t)
{
    if (t->lanes != LIPS_CUDA_IMAGES && t->lanes != LIPS_CUDA_ROWS)
        return lips_fail(LIPS_ERR_USAGE, "%s: lanes is %" PRId64 ", must be %d or %d", op, t->lanes,
                         LIPS_CUDA_IMAGES, LIPS_CUDA_ROWS);
    return LIPS_OK;
}

lips_status lips_cuda_images(const char *op, const lips_tensor *t)
{
    LIPS_TRY(lips_cuda_layout(op, t));
    if (t->lanes != LIPS_CUDA_IMAGES && t->h * t->w > 1)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: an image of %" PRId64 "x%" PRId64 " in the layout of networks "
                         "without images",
                         op, t->h, t->w);
    return LIPS_OK;
}
