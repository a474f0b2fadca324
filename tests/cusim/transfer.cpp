/*
 * Copies and fills. Pageable host memory is staged before the call returns on the way to the
 * device, and the way back waits for the stream; pinned memory is read and written when the work
 * runs.
 */
#include "stream.h"

namespace cusim
{
namespace
{

/* One copy as it was asked for. */
struct Copy {
    void *to;
    const void *from;
    size_t bytes;
};

bool kinds_agree(const Copy &c, cudaMemcpyKind kind)
{
    bool to_device = memory_kind(c.to, c.bytes) == Memory::DEVICE;
    bool from_device = memory_kind(c.from, c.bytes) == Memory::DEVICE;
    switch (kind) {
    case cudaMemcpyHostToDevice: return to_device && !from_device;
    case cudaMemcpyDeviceToHost: return !to_device && from_device;
    case cudaMemcpyDeviceToDevice: return to_device && from_device;
    case cudaMemcpyHostToHost: return !to_device && !from_device;
    case cudaMemcpyDefault: return true;
    }
    return false;
}

/* A graph may outlive the pinned memory that it names. */
void need_pinned(const void *p, size_t bytes)
{
    if (memory_kind(p, bytes) == Memory::PINNED)
        return;
    fprintf(stderr, "cusim: a copy in a graph names %zu bytes at %p, pinned no more\n", bytes, p);
    abort();
}

/* Of host memory that is not pinned a captured copy could not keep what the call promises. */
bool may_push(const Copy &c, cudaStream_t stream)
{
    return !capturing(stream) || (memory_kind(c.to, c.bytes) != Memory::HOST &&
                                  memory_kind(c.from, c.bytes) != Memory::HOST);
}

void push_copy(const Copy &c, cudaStream_t stream)
{
    const bool in_graph = capturing(stream);
    const bool from_device = memory_kind(c.from, c.bytes) == Memory::DEVICE;
    const bool to_device = memory_kind(c.to, c.bytes) == Memory::DEVICE;
    const bool over_bus = to_device != (memory_kind(c.from, c.bytes) == Memory::DEVICE);
    bool staged = memory_kind(c.from, c.bytes) == Memory::HOST && !capturing(stream);
    if (staged) {
        std::string copy((const char *)c.from, c.bytes);
        push(stream, "memcpy", [=]() {
            memcpy(c.to, copy.data(), c.bytes);
            if (over_bus)
                count_copy(to_device, c.bytes);
        });
    } else {
        push(stream, "memcpy", [=]() {
            if (in_graph && !from_device)
                need_pinned(c.from, c.bytes);
            if (in_graph && !to_device)
                need_pinned(c.to, c.bytes);
            memcpy(c.to, c.from, c.bytes);
            if (over_bus)
                count_copy(to_device, c.bytes);
            if (!to_device)
                digest(c.to, c.bytes);
        });
    }
    if (memory_kind(c.to, c.bytes) == Memory::HOST && !capturing(stream))
        drain(stream);
}

} // namespace
} // namespace cusim

using namespace cusim;

extern "C" {

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    Copy c = {to, from, bytes};
    if (bytes == 0)
        return finish(cudaSuccess);
    if (!kinds_agree(c, kind))
        return finish(cudaErrorInvalidValue);
    if (capture_implied(stream))
        return finish(cudaErrorStreamCaptureImplicit);
    if (!may_push(c, stream)) {
        stream_of(stream)->graph->invalid = true;
        return finish(cudaErrorStreamCaptureUnsupported);
    }
    push_copy(c, stream);
    return finish(cudaSuccess);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    if (capture_forbids())
        return finish(cudaErrorStreamCaptureUnsupported);
    cudaError_t e = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    drain(nullptr);
    return finish(e);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    if (width > to_pitch || width > from_pitch)
        return finish(cudaErrorInvalidPitchValue);
    for (size_t y = 0; y < height && width > 0; y++) {
        Copy c = {(char *)to + y * to_pitch, (const char *)from + y * from_pitch, width};
        if (!kinds_agree(c, kind))
            return finish(cudaErrorInvalidValue);
        push_copy(c, stream);
    }
    return finish(cudaSuccess);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    if (bytes == 0)
        return finish(cudaSuccess);
    if (memory_kind(p, bytes) == Memory::HOST)
        return finish(cudaErrorInvalidValue);
    if (capture_implied(stream))
        return finish(cudaErrorStreamCaptureImplicit);
    push(stream, "memset", [=]() { memset(p, value, bytes); });
    return finish(cudaSuccess);
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    if (capture_forbids())
        return finish(cudaErrorStreamCaptureUnsupported);
    return cudaMemsetAsync(p, value, bytes, nullptr);
}

} // extern "C"
