/*
 * cuda/memory.c - device memory, memory shared with the host, staging, and vectors of reals.
 *
 * Shared memory is pinned host memory with a device side of the same size. Which of the two is
 * current goes back and forth: an op takes it to the device (lips_cuda_shared), sync() brings it
 * back. So ops add to it at the device's speed, and the host reads plain memory.
 */
#include "backend/cuda/ops.h"
#include "kernels/reduce.h"

#include <stdlib.h>
#include <string.h>

/* Host values pass through pinned memory in pieces of this size at most, 4 MiB: long enough for the
 * full rate of the bus, short enough for every worker to have its own. */
enum { STAGE_REALS = 1 << 20, STAGE_BYTES = STAGE_REALS * 4 };

/* ---- allocation ---- */

/* Asked for against what is there: the line that a cell's failure shows. */
static lips_status out_of_memory(const char *what, size_t bytes)
{
    size_t room = 0, total = 0;
    (void)cudaGetLastError();
    if (cudaMemGetInfo(&room, &total) != cudaSuccess)
        room = total = 0;
    return lips_fail(LIPS_ERR_MEMORY,
                     "cuda: out of %s (%zu bytes asked, %zu of %zu free on the device)", what,
                     bytes, room, total);
}

lips_status lips_cuda_device_alloc(lips_cuda *h, void **out, size_t bytes)
{
    void *p = NULL;
    LIPS_TRY(lips_cuda_unrecorded(h, "allocation"));
    cudaError_t e = cudaMalloc(&p, bytes ? bytes : 1);
    if (e == cudaErrorMemoryAllocation)
        return out_of_memory("device memory", bytes);
    if (e != cudaSuccess)
        return lips_cuda_fail(e, "cudaMalloc", __FILE__, __LINE__);
    *out = p;
    h->bytes += bytes;
    return LIPS_OK;
}

void lips_cuda_device_free(lips_cuda *h, void *p, size_t bytes)
{
    if (!p)
        return;
    (void)cudaFree(p); /* waits for the ops that use it */
    h->bytes -= bytes;
}

static lips_status pinned_alloc(void **out, size_t bytes)
{
    void *p = NULL;
    cudaError_t e = cudaMallocHost(&p, bytes ? bytes : 1);
    if (e == cudaErrorMemoryAllocation)
        return out_of_memory("pinned host memory", bytes);
    if (e != cudaSuccess)
        return lips_cuda_fail(e, "cudaMallocHost", __FILE__, __LINE__);
    *out = p;
    return LIPS_OK;
}

static lips_status grow_blocks(lips_cuda *h)
{
    if (h->n_blocks < h->cap_blocks)
        return LIPS_OK;
    int cap = h->cap_blocks ? 2 * h->cap_blocks : 16;
    lips_cuda_block *grown = realloc(h->blocks, (size_t)cap * sizeof *grown);
    if (!grown)
        return lips_fail(LIPS_ERR_MEMORY, "cuda: out of memory for %d blocks", cap);
    h->blocks = grown;
    h->cap_blocks = cap;
    return LIPS_OK;
}

static void free_block(lips_cuda *h, const lips_cuda_block *b)
{
    lips_cuda_device_free(h, b->device, b->bytes);
    if (b->host)
        (void)cudaFreeHost(b->host);
}

static lips_status take_block(lips_cuda *h, void **out, size_t bytes, bool shared)
{
    lips_status st;
    void *host = NULL, *device = NULL;
    *out = NULL;
    LIPS_TRY(grow_blocks(h));
    lips_cuda_block b = {.bytes = bytes};
    LIPS_TRY_GOTO(st, lips_cuda_device_alloc(h, &device, bytes), fail);
    b.device = device;
    if (shared) {
        LIPS_TRY_GOTO(st, pinned_alloc(&host, bytes), fail);
        b.host = host;
        memset(host, 0, bytes);
    } else if (bytes) {
        cudaError_t e = cudaMemsetAsync(b.device, 0, bytes, h->stream);
        if (e != cudaSuccess)
            LIPS_TRY_GOTO(st, lips_cuda_fail(e, "cudaMemsetAsync", __FILE__, __LINE__), fail);
    }
    h->blocks[h->n_blocks++] = b;
    *out = shared ? b.host : b.device;
    return LIPS_OK;
fail:
    free_block(h, &b);
    return st;
}

lips_status cuda_op_alloc(lips_backend *be, void **out, size_t bytes)
{
    lips_cuda *h;
    *out = NULL;
    LIPS_TRY(lips_cuda_enter(be, &h));
    return take_block(h, out, bytes, false);
}

lips_status cuda_op_alloc_shared(lips_backend *be, void **out, size_t bytes)
{
    lips_cuda *h;
    *out = NULL;
    LIPS_TRY(lips_cuda_enter(be, &h));
    return take_block(h, out, bytes, true);
}

void cuda_op_release(lips_backend *be, void *p)
{
    lips_cuda *h = (lips_cuda *)be;
    if (!p)
        return;
    (void)cudaSetDevice(h->device);
    lips_cuda_wait_quietly(h); /* copies into it may be under way */
    for (int i = 0; i < h->n_blocks; i++) {
        lips_cuda_block b = h->blocks[i];
        if ((b.host ? b.host : b.device) != (char *)p)
            continue;
        free_block(h, &b);
        h->blocks[i] = h->blocks[--h->n_blocks];
        return;
    }
}

void lips_cuda_memory_free(lips_cuda *h)
{
    for (int i = 0; i < h->n_blocks; i++)
        free_block(h, &h->blocks[i]);
    free(h->blocks);
    lips_cuda_scratch_drop(h, h->scratch);
    for (int i = 0; i < LIPS_CUDA_SLOTS; i++)
        if (h->slot[i].host)
            (void)cudaFreeHost(h->slot[i].host);
}

void lips_cuda_scratch_drop(lips_cuda *h, lips_cuda_scratchpad *s)
{
    if (!s || --s->holders > 0)
        return;
    lips_cuda_device_free(h, s->device, s->bytes);
    free(s);
}

/* Larger, in the place of the one before, which a recording may still hold. */
static lips_status grow_scratch(lips_cuda *h, size_t bytes)
{
    lips_status st;
    lips_cuda_scratchpad *grown = calloc(1, sizeof *grown);
    if (!grown)
        return lips_fail(LIPS_ERR_MEMORY, "cuda: out of memory (%zu bytes asked)", sizeof *grown);
    if (h->scratch) /* as cudaFree would, but seen by a watchdog */
        LIPS_TRY_GOTO(st, lips_cuda_wait(h), fail);
    lips_cuda_scratch_drop(h, h->scratch);
    h->scratch = NULL;
    LIPS_TRY_GOTO(st, lips_cuda_device_alloc(h, &grown->device, bytes), fail);
    *grown = (lips_cuda_scratchpad){.device = grown->device, .bytes = bytes, .holders = 1};
    h->scratch = grown;
    return LIPS_OK;
fail:
    free(grown);
    return st;
}

lips_status lips_cuda_scratch(lips_cuda *h, size_t bytes, void **out)
{
    if (bytes > (h->scratch ? h->scratch->bytes : 0)) {
        LIPS_TRY(lips_cuda_unrecorded(h, "an op that has not run before"));
        LIPS_TRY(grow_scratch(h, bytes));
    }
    *out = h->scratch ? h->scratch->device : NULL;
    return LIPS_OK;
}

/* ---- shared memory ---- */

/* The shared block that holds p..p+bytes; NULL: none. */
static lips_cuda_block *shared_block(lips_cuda *h, const void *p, size_t bytes)
{
    for (int i = 0; i < h->n_blocks; i++) {
        lips_cuda_block *b = &h->blocks[i];
        uintptr_t from = (uintptr_t)b->host, at = (uintptr_t)p;
        if (b->host && at >= from && at - from <= b->bytes && bytes <= b->bytes - (at - from))
            return b;
    }
    return NULL;
}

/* The device's side becomes the current one; `all`: its values will be overwritten. */
static lips_status to_device(lips_cuda *h, lips_cuda_block *b, bool all)
{
    LIPS_TRY(lips_cuda_unrecorded(h, "shared memory"));
    if (!b->on_device && !all && b->bytes)
        LIPS_TRY_CUDA(
            cudaMemcpyAsync(b->device, b->host, b->bytes, cudaMemcpyHostToDevice, h->stream));
    b->on_device = true;
    return LIPS_OK;
}

static char *device_side(const lips_cuda_block *b, const void *p)
{
    return b->device + ((const char *)p - b->host);
}

lips_status lips_cuda_shared(lips_cuda *h, const char *op, void *p, int64_t n, void **device)
{
    *device = NULL;
    if (!p)
        return LIPS_OK;
    lips_cuda_block *b = shared_block(h, p, (size_t)n * sizeof(double));
    if (!b)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: an output of %lld values is not in memory of alloc_shared", op,
                         (long long)n);
    LIPS_TRY(to_device(h, b, false));
    *device = device_side(b, p);
    return LIPS_OK;
}

lips_status lips_cuda_f64(lips_cuda *h, const char *op, void *p, int64_t n, double **device)
{
    void *at = p;
    if (p && shared_block(h, p, (size_t)n * sizeof(double)))
        LIPS_TRY(lips_cuda_shared(h, op, p, n, &at));
    *device = at;
    return LIPS_OK;
}

lips_status cuda_op_sync(lips_backend *be)
{
    lips_cuda *h;
    LIPS_TRY(lips_cuda_enter(be, &h));
    for (int i = 0; i < h->n_blocks; i++) {
        lips_cuda_block *b = &h->blocks[i];
        if (b->on_device && b->bytes)
            LIPS_TRY_CUDA(
                cudaMemcpyAsync(b->host, b->device, b->bytes, cudaMemcpyDeviceToHost, h->stream));
    }
    LIPS_TRY(lips_cuda_wait(h));
    for (int i = 0; i < h->n_blocks; i++)
        h->blocks[i].on_device = false;
    return LIPS_OK;
}

/* ---- staging ---- */

lips_status lips_cuda_stage(lips_cuda *h, size_t bytes, lips_cuda_slot **out)
{
    LIPS_TRY(lips_cuda_unrecorded(h, "a host array"));
    lips_cuda_slot *s = &h->slot[h->next_slot];
    h->next_slot = (h->next_slot + 1) % LIPS_CUDA_SLOTS;
    LIPS_TRY(lips_cuda_wait_event(h, s->done)); /* not recorded yet: returns at once */
    if (bytes > s->bytes) {
        if (s->host)
            LIPS_TRY_CUDA(cudaFreeHost(s->host));
        s->host = NULL;
        s->bytes = 0;
        LIPS_TRY(pinned_alloc(&s->host, bytes));
        s->bytes = bytes;
    }
    *out = s;
    return LIPS_OK;
}

lips_status lips_cuda_stage_put(lips_cuda *h, lips_cuda_slot *slot, void *device, size_t bytes)
{
    LIPS_TRY_CUDA(cudaMemcpyAsync(device, slot->host, bytes, cudaMemcpyHostToDevice, h->stream));
    LIPS_TRY_CUDA(cudaEventRecord(slot->done, h->stream));
    return LIPS_OK;
}

lips_status lips_cuda_stage_get(lips_cuda *h, lips_cuda_slot *slot, const void *device,
                                size_t bytes)
{
    LIPS_TRY_CUDA(cudaMemcpyAsync(slot->host, device, bytes, cudaMemcpyDeviceToHost, h->stream));
    return lips_cuda_wait(h);
}

lips_status lips_cuda_send(lips_cuda *h, void *to, const void *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += STAGE_BYTES) {
        const size_t n = bytes - at < STAGE_BYTES ? bytes - at : STAGE_BYTES;
        lips_cuda_slot *slot;
        LIPS_TRY(lips_cuda_stage(h, n, &slot));
        memcpy(slot->host, (const char *)from + at, n);
        LIPS_TRY(lips_cuda_stage_put(h, slot, (char *)to + at, n));
    }
    return LIPS_OK;
}

lips_status cuda_op_put(lips_backend *be, void *dst, const void *src, size_t bytes)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_bytes("put", dst, src, bytes));
    LIPS_TRY(lips_cuda_enter(be, &h));
    return lips_cuda_send(h, dst, src, bytes);
}

lips_status cuda_op_fetch(lips_backend *be, void *dst, const void *src, size_t bytes, int slot)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_slot("fetch", slot));
    LIPS_TRY(lips_check_bytes("fetch", dst, src, bytes));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(lips_cuda_unrecorded(h, "a fetch"));
    if (!shared_block(h, dst, bytes))
        return lips_fail(LIPS_ERR_USAGE, "fetch: %zu bytes not in memory of alloc_shared", bytes);
    if (bytes)
        LIPS_TRY_CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, h->stream));
    LIPS_TRY_CUDA(cudaEventRecord(h->fetched[slot], h->stream));
    return LIPS_OK;
}

lips_status cuda_op_await(lips_backend *be, int slot)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_slot("await", slot));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(lips_cuda_unrecorded(h, "waiting"));
    return lips_cuda_wait_event(h, h->fetched[slot]);
}

/* ---- vectors ---- */

static int64_t piece_of(int64_t left)
{
    return left < STAGE_REALS ? left : STAGE_REALS;
}

lips_status cuda_op_write(lips_backend *be, void *dst, int64_t off, const double *src, int64_t n)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_vector("write", dst, off, n));
    LIPS_TRY(lips_check_vector("write", src, 0, n));
    LIPS_TRY(lips_cuda_enter(be, &h));
    for (int64_t at = 0; at < n; at += STAGE_REALS) {
        int64_t piece = piece_of(n - at);
        size_t bytes = (size_t)piece * sizeof(float);
        lips_cuda_slot *slot;
        LIPS_TRY(lips_cuda_stage(h, bytes, &slot));
        float *to = slot->host;
        for (int64_t i = 0; i < piece; i++)
            to[i] = (float)src[at + i];
        LIPS_TRY(lips_cuda_stage_put(h, slot, (float *)dst + off + at, bytes));
    }
    return LIPS_OK;
}

lips_status cuda_op_read(lips_backend *be, double *dst, const void *src, int64_t off, int64_t n)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_vector("read", src, off, n));
    LIPS_TRY(lips_check_vector("read", dst, 0, n));
    LIPS_TRY(lips_cuda_enter(be, &h));
    for (int64_t at = 0; at < n; at += STAGE_REALS) {
        int64_t piece = piece_of(n - at);
        size_t bytes = (size_t)piece * sizeof(float);
        lips_cuda_slot *slot;
        LIPS_TRY(lips_cuda_stage(h, bytes, &slot));
        LIPS_TRY(lips_cuda_stage_get(h, slot, (const float *)src + off + at, bytes));
        const float *from = slot->host;
        for (int64_t i = 0; i < piece; i++)
            dst[at + i] = (double)from[i];
    }
    return LIPS_OK;
}

lips_status cuda_op_zero(lips_backend *be, void *dst, size_t bytes)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_vector("zero", dst, 0, bytes != 0));
    LIPS_TRY(lips_cuda_enter(be, &h));
    if (!bytes)
        return LIPS_OK;
    lips_cuda_block *b = shared_block(h, dst, bytes);
    if (b)
        LIPS_TRY(to_device(h, b, bytes == b->bytes));
    LIPS_TRY_CUDA(cudaMemsetAsync(b ? device_side(b, dst) : dst, 0, bytes, h->stream));
    return LIPS_OK;
}

lips_status cuda_op_copy(lips_backend *be, void *dst, const void *src, size_t bytes)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_vector("copy", dst, 0, bytes != 0));
    LIPS_TRY(lips_check_vector("copy", src, 0, bytes != 0));
    LIPS_TRY(lips_cuda_enter(be, &h));
    if (bytes)
        LIPS_TRY_CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, h->stream));
    return LIPS_OK;
}

lips_status cuda_op_diff_sumsq(lips_backend *be, double *out, const void *a, const void *b,
                               int64_t n)
{
    lips_cuda *h;
    void *scratch;
    lips_cuda_slot *slot;
    LIPS_TRY(lips_check_vector("diff_sumsq", a, 0, n));
    LIPS_TRY(lips_cuda_enter(be, &h));
    size_t partial = lips_cuda_diff_sumsq_bytes(n);
    LIPS_TRY(lips_cuda_scratch(h, partial + sizeof(double), &scratch));
    double *sum = (double *)(void *)((char *)scratch + partial);
    LIPS_TRY(lips_cuda_diff_sumsq(sum, a, b, n, scratch, h->stream));
    LIPS_TRY(lips_cuda_stage(h, sizeof(double), &slot));
    LIPS_TRY(lips_cuda_stage_get(h, slot, sum, sizeof(double)));
    *out = *(const double *)slot->host;
    return LIPS_OK;
}
