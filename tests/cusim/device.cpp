/*
 * The emulated device itself: number, properties, errors, launches, failures on demand.
 */
#include "sim.h"

#include <map>
#include <stdlib.h>
#include <string>
#include <unistd.h>

extern "C" const char __executable_start; /* the linker's: where the program's addresses begin */

namespace cusim
{
namespace
{

const int SHARED_DEFAULT_MAX = (int)SHARED_STATIC_MAX;

struct Ran {
    long times = 0, threads = 0; /* of a block, at most */
};

struct State {
    std::map<std::string, long> calls;
    std::map<const void *, int> dynamic_limit; /* cudaFuncSetAttribute */
    std::map<const void *, Ran> kernels;       /* that ran to their end */
    cudaError_t sticky[DEVICES_MAX] = {};
    bool announced = false;
    uint64_t digest = 0xcbf29ce484222325u; /* FNV-1a */
    size_t to_device = 0, to_host = 0;     /* bytes copied */
};
State &state = *new State;

/* Of the calling host thread, as the real ones. */
thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device = 0;

/* Whether list ("function:n,...") names the n-th call of function. */
bool listed(const char *variable, const char *function, long n)
{
    const char *list = getenv(variable);
    if (!list)
        return false;
    std::string key = "," + std::string(function) + ":" + std::to_string(n) + ",";
    return ("," + std::string(list) + ",").find(key) != std::string::npos;
}

/* At exit: how far a test of failures has to count, whether results are the same, what leaks. */
void write_summary()
{
    FILE *f = fopen(getenv("CUSIM_SUMMARY"), "w");
    if (!f)
        return;
    for (auto &i : state.calls)
        fprintf(f, "%s %ld\n", i.first.c_str(), i.second);
    for (auto &i : state.kernels) {
        size_t at = (size_t)((const char *)i.first - &__executable_start);
        fprintf(f, "kernel:%zx %ld\nthreads:%zx %ld\n", at, i.second.times, at, i.second.threads);
    }
    fprintf(f, "digest %016llx\ndevice_bytes %zu\npinned_bytes %zu\n",
            (unsigned long long)state.digest, memory_used(), memory_pinned());
    fprintf(f, "to_device_bytes %zu\nto_host_bytes %zu\n", state.to_device, state.to_host);
    for (int i = 0; i < DEVICES_MAX; i++)
        if (memory_peak(i) > 0)
            fprintf(f, "peak_bytes_%d %zu\n", i, memory_peak(i));
    fclose(f);
}

int device_count()
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible && !*visible)
        return 0;
    const char *text = getenv("CUSIM_DEVICES");
    return text ? std::min(atoi(text), DEVICES_MAX) : 1;
}

/* A number from the environment, for devices and drivers that programs must refuse. */
int setting(const char *variable, int otherwise)
{
    const char *text = getenv(variable);
    return text ? atoi(text) : otherwise;
}

/* An emulated program says so, at its first call of the runtime. */
void announce()
{
    if (state.announced || device_count() == 0)
        return;
    state.announced = true;
    fprintf(stderr, "cusim: the CUDA device is emulated on the CPU\n");
    if (getenv("CUSIM_SUMMARY"))
        atexit(write_summary);
}

bool valid_shape(const Launch &l)
{
    const dim3 g = l.grid, b = l.block;
    return g.x > 0 && g.x <= 0x7fffffffu && g.y > 0 && g.y <= 65535 && g.z > 0 && g.z <= 65535 &&
           b.x > 0 && b.x <= 1024 && b.y > 0 && b.y <= 1024 && b.z > 0 && b.z <= 64 &&
           (size_t)b.x * b.y * b.z <= 1024;
}

} // namespace

int64_t index_max()
{
    static const char *text = getenv("CUSIM_INDEX_MAX");
    return text ? atoll(text) : INT64_C(1) << 31;
}

std::recursive_mutex &big_lock()
{
    static std::recursive_mutex &lock = *new std::recursive_mutex;
    return lock;
}

bool chosen_to_stick(const char *function)
{
    return listed("CUSIM_STICKY", function, state.calls[function]);
}

bool chosen_to_fail(const char *function)
{
    announce();
    long n = ++state.calls[function];
    bool launch = strcmp(function, "cudaLaunchKernel") == 0;
    if (!launch && chosen_to_stick(function))
        set_sticky(cudaErrorIllegalAddress);
    return listed("CUSIM_FAIL", function, n);
}

cudaError_t finish(cudaError_t e)
{
    if (sticky_error() != cudaSuccess)
        e = sticky_error();
    if (e != cudaSuccess && e != cudaErrorNotReady)
        last_error = e;
    return e;
}

void digest(const void *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        state.digest = (state.digest ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
}

void count_copy(bool to_device, size_t bytes)
{
    (to_device ? state.to_device : state.to_host) += bytes;
}

cudaError_t sticky_error()
{
    return state.sticky[current_device];
}

void set_sticky(cudaError_t e)
{
    for (int i = 0; i < DEVICES_MAX; i++)
        if (i == current_device || getenv("CUSIM_STICKY_ALL"))
            state.sticky[i] = e;
}

int device_now()
{
    return current_device;
}

void device_switch(int device)
{
    current_device = device;
}

void launch(cudaStream_t stream, const Launch &what)
{
    std::lock_guard<std::recursive_mutex> lock(big_lock());
    if (chosen_to_fail("cudaLaunchKernel")) {
        finish(cudaErrorLaunchOutOfResources);
        return;
    }
    bool faulty = chosen_to_stick("cudaLaunchKernel");
    bool endless = listed("CUSIM_HANG", "cudaLaunchKernel", state.calls["cudaLaunchKernel"]);
    if (!belongs_here(stream)) {
        finish(cudaErrorInvalidResourceHandle);
        return;
    }
    auto limit = state.dynamic_limit.find(what.function);
    size_t dynamic_max =
        (size_t)(limit == state.dynamic_limit.end() ? SHARED_DEFAULT_MAX : limit->second);
    if (!valid_shape(what)) {
        finish(cudaErrorInvalidConfiguration);
        return;
    }
    if (what.shared > dynamic_max) {
        finish(cudaErrorInvalidValue);
        return;
    }
    if (capture_implied(stream)) {
        finish(cudaErrorStreamCaptureImplicit);
        return;
    }
    auto run = [what, faulty, endless]() {
        if (sticky_error() != cudaSuccess)
            return true;
        while (endless)
            pause();
        if (faulty) {
            set_sticky(cudaErrorIllegalAddress);
            return true;
        }
        run_kernel(what);
        memory_check(what.name);
        Ran &r = state.kernels[what.function];
        r.times++;
        r.threads = std::max(r.threads, (long)(what.block.x * what.block.y * what.block.z));
        return true;
    };
    push(stream, {run, "kernel", what.function});
    finish(cudaSuccess);
}

} // namespace cusim

using namespace cusim;

extern "C" {

cudaError_t cudaGetDeviceCount(int *n)
{
    CUSIM_ENTER(cudaErrorInsufficientDriver);
    if (setting("CUSIM_DRIVER", CUDART_VERSION) < CUDART_VERSION)
        return finish(cudaErrorInsufficientDriver);
    *n = device_count();
    return finish(*n > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    std::lock_guard<std::recursive_mutex> lock(big_lock());
    if (chosen_to_fail(__func__))
        return finish(cudaErrorDevicesUnavailable);
    if (device_count() == 0)
        return finish(cudaErrorNoDevice);
    if (device < 0 || device >= device_count())
        return finish(cudaErrorInvalidDevice);
    current_device = device;
    return finish(cudaSuccess);
}

cudaError_t cudaGetDevice(int *device)
{
    CUSIM_ENTER(cudaErrorNoDevice);
    *device = current_device;
    return finish(device_count() > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
    CUSIM_ENTER(cudaErrorInvalidDevice);
    if (device < 0 || device >= device_count())
        return finish(cudaErrorInvalidDevice);
    memset(prop, 0, sizeof *prop);
    const char *name = getenv("CUSIM_NAME");
    snprintf(prop->name, sizeof prop->name, "%s", name ? name : "emulated (cusim)");
    prop->totalGlobalMem = memory_capacity();
    prop->sharedMemPerBlock = SHARED_STATIC_MAX;
    prop->sharedMemPerBlockOptin = SHARED_OPTIN_MAX;
    prop->sharedMemPerMultiprocessor = SHARED_OPTIN_MAX + 1024;
    prop->regsPerBlock = prop->regsPerMultiprocessor = 65536;
    prop->warpSize = 32;
    prop->maxThreadsPerBlock = 1024;
    prop->maxThreadsPerMultiProcessor = 2048;
    prop->maxBlocksPerMultiProcessor = 32;
    prop->maxThreadsDim[0] = prop->maxThreadsDim[1] = 1024;
    prop->maxThreadsDim[2] = 64;
    prop->maxGridSize[0] = 0x7fffffff;
    prop->maxGridSize[1] = prop->maxGridSize[2] = 65535;
    prop->major = setting("CUSIM_CAPABILITY", 90) / 10;
    prop->minor = setting("CUSIM_CAPABILITY", 90) % 10;
    prop->multiProcessorCount = 4;
    prop->l2CacheSize = 50 << 20;
    prop->memoryBusWidth = 5120;
    prop->unifiedAddressing = prop->canMapHostMemory = 1;
    prop->concurrentKernels = 1;
    prop->asyncEngineCount = 2;
    return finish(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    CUSIM_ENTER(cudaErrorInvalidDevice);
    struct cudaDeviceProp prop;
    cudaError_t e = cudaGetDeviceProperties(&prop, device);
    if (e != cudaSuccess)
        return e;
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = prop.multiProcessorCount; break;
    case cudaDevAttrComputeCapabilityMajor: *value = prop.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = prop.minor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)SHARED_OPTIN_MAX; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)SHARED_STATIC_MAX; break;
    case cudaDevAttrL2CacheSize: *value = prop.l2CacheSize; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = prop.maxThreadsPerBlock; break;
    case cudaDevAttrClockRate: *value = 1000000; break;
    case cudaDevAttrMemoryClockRate: *value = 1000000; break;
    default:
        fprintf(stderr, "cusim: cudaDeviceGetAttribute: attribute %d is not offered\n",
                (int)attribute);
        return finish(cudaErrorInvalidValue);
    }
    return finish(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    CUSIM_ENTER(cudaErrorInvalidValue);
    *version = setting("CUSIM_DRIVER", CUDART_VERSION);
    return finish(cudaSuccess);
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    CUSIM_ENTER(cudaErrorInvalidValue);
    *version = CUDART_VERSION;
    return finish(cudaSuccess);
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
    CUSIM_ENTER(cudaErrorInvalidValue);
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (value < 0 || value > (int)SHARED_OPTIN_MAX)
            return finish(cudaErrorInvalidValue);
        state.dynamic_limit[function] = value;
    } else if (attribute != cudaFuncAttributePreferredSharedMemoryCarveout) {
        return finish(cudaErrorInvalidValue);
    }
    return finish(cudaSuccess);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *function)
{
    CUSIM_ENTER(cudaErrorInvalidDeviceFunction);
    memset(a, 0, sizeof *a);
    auto limit = state.dynamic_limit.find(function);
    a->maxDynamicSharedSizeBytes =
        limit == state.dynamic_limit.end() ? SHARED_DEFAULT_MAX : limit->second;
    a->maxThreadsPerBlock = 1024;
    a->numRegs = 32;
    a->binaryVersion = a->ptxVersion = 90;
    return finish(cudaSuccess);
}

/* As if threads were the only limit besides shared memory. */
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int threads,
                                                          size_t dynamic)
{
    CUSIM_ENTER(cudaErrorInvalidValue);
    if (threads <= 0 || threads > 1024 || dynamic > SHARED_OPTIN_MAX)
        return finish(cudaErrorInvalidValue);
    int by_threads = std::min(32, 2048 / threads);
    int by_shared = dynamic > 0 ? (int)((SHARED_OPTIN_MAX + 1024) / (dynamic + 1024)) : by_threads;
    *blocks = std::min(by_threads, by_shared);
    return finish(cudaSuccess);
}

cudaError_t cudaGetLastError(void)
{
    std::lock_guard<std::recursive_mutex> lock(big_lock());
    cudaError_t e = finish(last_error);
    last_error = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    std::lock_guard<std::recursive_mutex> lock(big_lock());
    return finish(last_error);
}

#define CUSIM_ERRORS(X)                                                                            \
    X(cudaSuccess, "no error")                                                                     \
    X(cudaErrorInvalidValue, "invalid argument")                                                   \
    X(cudaErrorMemoryAllocation, "out of memory")                                                  \
    X(cudaErrorInvalidConfiguration, "invalid configuration argument")                             \
    X(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version") \
    X(cudaErrorInvalidDeviceFunction, "invalid device function")                                   \
    X(cudaErrorNoDevice, "no CUDA-capable device is detected")                                     \
    X(cudaErrorInvalidDevice, "invalid device ordinal")                                            \
    X(cudaErrorDevicesUnavailable, "CUDA-capable device(s) is/are busy or unavailable")            \
    X(cudaErrorInvalidResourceHandle, "invalid resource handle")                                   \
    X(cudaErrorNotReady, "device not ready")                                                       \
    X(cudaErrorIllegalAddress, "an illegal memory access was encountered")                         \
    X(cudaErrorLaunchOutOfResources, "too many resources requested for launch")                    \
    X(cudaErrorLaunchFailure, "unspecified launch failure")                                        \
    X(cudaErrorHostMemoryAlreadyRegistered, "part or all of the memory is already mapped")         \
    X(cudaErrorHostMemoryNotRegistered, "pointer does not correspond to a registered region")      \
    X(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")       \
    X(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error in capture")    \
    X(cudaErrorStreamCaptureMerge, "operation would result in a merge of captures")                \
    X(cudaErrorStreamCaptureUnmatched, "capture was not begun in this stream")                     \
    X(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work")                        \
    X(cudaErrorStreamCaptureIsolation, "dependency on uncaptured work in a captured stream")       \
    X(cudaErrorStreamCaptureImplicit, "operation would make the null stream depend on a capture")  \
    X(cudaErrorStreamCaptureWrongThread, "capture belongs to another thread")                      \
    X(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capture")    \
    X(cudaErrorGraphExecUpdateFailure, "the graph update was not performed")

const char *cudaGetErrorName(cudaError_t e)
{
    switch (e) {
#define X(code, text)                                                                              \
    case code: return #code;
        CUSIM_ERRORS(X)
#undef X
    default: return "unrecognized error code";
    }
}

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
#define X(code, text)                                                                              \
    case code: return text;
        CUSIM_ERRORS(X)
#undef X
    default: return "unrecognized error code";
    }
}

} // extern "C"
