/*
 * Device and pinned memory. Device allocations lie in one reserved range of addresses, each between
 * inaccessible pages and NaN-filled; freed addresses never come back. The end of an allocation,
 * rounded to 256 bytes as a device's would be, meets an inaccessible page, so that one element too
 * far faults at once; the bytes of rounding are a red zone, checked after every kernel.
 *
 * The pages are accessible only while device work runs: host code that follows a device pointer
 * faults, as with a device.
 */
#include "sim.h"

#include <map>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace cusim
{
namespace
{

#ifdef CUSIM_TSAN
const size_t RANGE = (size_t)64 << 30; /* TSan keeps four times as many addresses for itself */
#else
const size_t RANGE = (size_t)4 << 40; /* addresses, not memory */
#endif
const size_t ALIGN = 256;        /* what cudaMalloc promises */
const unsigned char FILL = 0xff; /* NaN as float and double */
const size_t ZONE_MAX = 256;     /* bytes in front of an allocation that are checked */

struct Allocation {
    size_t bytes; /* as asked */
    int device;
    unsigned char *pages;
    size_t page_bytes;
};
typedef std::map<const unsigned char *, Allocation> Allocations;

struct State {
    unsigned char *range = nullptr;
    size_t next = 0; /* offset of unused addresses */
    Allocations device;
    Allocations freed;                                  /* for messages */
    std::map<const unsigned char *, size_t> pinned;     /* made by cudaMallocHost */
    std::map<const unsigned char *, size_t> registered; /* made by cudaHostRegister */
    size_t used[DEVICES_MAX] = {}, peak[DEVICES_MAX] = {};
    int open = 0;
    struct sigaction old_handler;
};
State &state = *new State;

size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

bool in_range(const void *p)
{
    return state.range && (const unsigned char *)p >= state.range &&
           (const unsigned char *)p < state.range + RANGE;
}

/* The allocation that p lies in or follows; nullptr if there is none before p. */
const Allocations::value_type *before(const Allocations &all, const unsigned char *p)
{
    auto i = all.upper_bound(p);
    return i == all.begin() ? nullptr : &*--i;
}

void describe(const unsigned char *p, char *text, size_t n)
{
    auto *live = before(state.device, p), *gone = before(state.freed, p);
    if (gone && (!live || gone->first > live->first))
        snprintf(text, n, "%p is in or behind freed memory", (const void *)p);
    else if (!live)
        snprintf(text, n, "%p is before all allocations", (const void *)p);
    else if (p < live->first + live->second.bytes)
        snprintf(text, n, "%p is in an allocation of %zu bytes", (const void *)p,
                 live->second.bytes);
    else
        snprintf(text, n, "%p is %zu bytes behind an allocation of %zu bytes", (const void *)p,
                 (size_t)(p - (live->first + live->second.bytes)), live->second.bytes);
}

void on_fault(int number, siginfo_t *info, void *)
{
    const unsigned char *p = (const unsigned char *)info->si_addr;
    if (!in_range(p) && kernel_running())
        report("illegal address %p", (const void *)p);
    if (!in_range(p)) { /* not ours: the old handler gets it when the instruction repeats */
        sigaction(number, &state.old_handler, nullptr);
        return;
    }
    char where[160];
    describe(p, where, sizeof where);
    if (kernel_running())
        report("out of bounds: %s", where);
    if (state.open > 0)
        fprintf(stderr, "cusim: a copy or a library call is out of bounds: %s\n", where);
    else
        fprintf(stderr, "cusim: the host follows a device pointer: %s\n", where);
    abort();
}

void reserve()
{
    void *p = mmap(nullptr, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        perror("cusim: cannot reserve addresses for device memory");
        abort();
    }
    state.range = (unsigned char *)p;
}

/* Again before device work: a test's framework takes the signal for itself at every test. */
void catch_faults()
{
    struct sigaction action = {}, current;
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, nullptr, &current);
    if (current.sa_sigaction == on_fault)
        return;
    state.old_handler = current;
    sigaction(SIGSEGV, &action, nullptr);
}

void protect(const Allocation &a, int protection)
{
    if (mprotect(a.pages, a.page_bytes, protection) != 0) {
        perror("cusim: mprotect");
        abort();
    }
}

void *device_alloc(size_t bytes)
{
    if (!state.range)
        reserve();
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const int device = device_now();
    Allocation a = {bytes, device, state.range + state.next + page, round_up(bytes, page)};
    state.next += page + a.page_bytes + page;
    if (state.next > RANGE) {
        fprintf(stderr, "cusim: %zu bytes of device addresses used up\n", RANGE);
        abort();
    }
    protect(a, PROT_READ | PROT_WRITE);
    memset(a.pages, FILL, a.page_bytes);
    unsigned char *p = a.pages + a.page_bytes - round_up(bytes, ALIGN);
#ifdef __SANITIZE_ADDRESS__
    __asan_poison_memory_region(p + bytes, round_up(bytes, ALIGN) - bytes);
#endif
    if (state.open == 0)
        protect(a, PROT_NONE);
    state.device[p] = a;
    state.used[device] += round_up(bytes, ALIGN);
    state.peak[device] = std::max(state.peak[device], state.used[device]);
    return p;
}

bool device_free(void *p)
{
    auto i = state.device.find((const unsigned char *)p);
    if (i == state.device.end())
        return false;
    const Allocation *a = &i->second;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(a->pages, a->page_bytes);
#endif
    madvise(a->pages, a->page_bytes, MADV_DONTNEED);
    protect(*a, PROT_NONE);
    state.used[a->device] -= round_up(a->bytes, ALIGN);
    state.freed.insert(*i);
    state.device.erase(i);
    return true;
}

bool contains(const std::map<const unsigned char *, size_t> &map, const unsigned char *p, size_t n)
{
    auto i = map.upper_bound(p);
    return i != map.begin() && (--i, p + n <= i->first + i->second);
}

__attribute__((no_sanitize_address)) bool filled(const unsigned char *from, const unsigned char *to)
{
    for (; from < to; from++)
        if (*from != FILL)
            return false;
    return true;
}

} // namespace

Memory memory_kind(const void *address, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)address;
    if (in_range(p)) {
        auto *a = before(state.device, p);
        return a && p + bytes <= a->first + a->second.bytes ? Memory::DEVICE : Memory::HOST;
    }
    if (contains(state.pinned, p, bytes) || contains(state.registered, p, bytes))
        return Memory::PINNED;
    return Memory::HOST;
}

void memory_open()
{
    if (state.open++ > 0)
        return;
    catch_faults();
    for (auto &i : state.device)
        protect(i.second, PROT_READ | PROT_WRITE);
}

void memory_close()
{
    if (--state.open > 0)
        return;
    for (auto &i : state.device)
        protect(i.second, PROT_NONE);
}

void memory_check(const char *what)
{
    for (auto &i : state.device) {
        const Allocation &a = i.second;
        const unsigned char *front = std::max((const unsigned char *)a.pages, i.first - ZONE_MAX);
        bool before_ok = filled(front, i.first);
        if (before_ok && filled(i.first + a.bytes, i.first + round_up(a.bytes, ALIGN)))
            continue;
        fprintf(stderr, "cusim: kernel %s wrote out of bounds: %s an allocation of %zu bytes\n",
                what, before_ok ? "behind" : "before", a.bytes);
        abort();
    }
}

size_t memory_used()
{
    size_t bytes = 0;
    for (size_t used : state.used)
        bytes += used;
    return bytes;
}

size_t memory_peak(int device)
{
    return state.peak[device];
}

size_t memory_pinned()
{
    size_t bytes = 0;
    for (auto &i : state.pinned)
        bytes += i.second;
    return bytes;
}

size_t memory_capacity()
{
    const char *text = getenv("CUSIM_MEMORY");
    for (int i = 0; text && i < device_now(); i++) {
        const char *next = strchr(text, ',');
        text = next ? next + 1 : text;
    }
    return text ? (size_t)strtoull(text, nullptr, 10) : (size_t)4 << 30;
}

/* No device reaches into another's memory. */
static void check_device(const void *p, const char *kernel, int argument)
{
    if (!in_range(p) || memory_kind(p, 0) != Memory::DEVICE)
        return;
    auto *a = before(state.device, (const unsigned char *)p);
    if (a->second.device == device_now())
        return;
    fprintf(stderr, "cusim: kernel %s on device %d: argument %d is memory of device %d: %p\n",
            kernel, device_now(), argument, a->second.device, p);
    abort();
}

/* A pointer that a kernel may follow: nullptr, device memory, pinned host memory. */
void check_pointer(const void *p, const char *kernel, int argument)
{
    std::lock_guard<std::recursive_mutex> lock(big_lock());
    check_device(p, kernel, argument);
    /* The end of an allocation is a fair pointer to nothing. */
    if (!p || memory_kind(p, 0) != Memory::HOST)
        return;
    fprintf(stderr, "cusim: kernel %s: argument %d is no device pointer: %p\n", kernel, argument,
            p);
    abort();
}

void check_struct(const void *value, size_t bytes, const char *kernel, int argument)
{
    std::lock_guard<std::recursive_mutex> lock(big_lock());
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t at = 0; at + sizeof(void *) <= bytes; at += sizeof(void *)) {
        uintptr_t word;
        memcpy(&word, (const char *)value + at, sizeof word);
        check_device((const void *)word, kernel, argument);
        /* Where programs, heaps and stacks are; not two sizes side by side, which under a
         * sanitizer lie in its shadow. Of device addresses, a bad one faults when it is used. */
        bool host_like = word >> 44 == 5 || word >> 44 == 7;
        if (!host_like || in_range((const void *)word) ||
            memory_kind((const void *)word, 0) != Memory::HOST)
            continue;
        unsigned char resident;
        if (mincore((void *)(word / page * page), page, &resident) != 0)
            continue; /* no address of this process: a number */
        fprintf(stderr,
                "cusim: kernel %s: argument %d holds a pointer at byte %zu that is no device "
                "pointer: %p\n",
                kernel, argument, at, (void *)word);
        abort();
    }
}

} // namespace cusim

using namespace cusim;

extern "C" {

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    CUSIM_ENTER(cudaErrorMemoryAllocation);
    *p = nullptr;
    if (capture_forbids())
        return finish(cudaErrorStreamCaptureUnsupported);
    const size_t used = state.used[device_now()];
    if (bytes > memory_capacity() || round_up(bytes, ALIGN) > memory_capacity() - used)
        return finish(cudaErrorMemoryAllocation);
    if (bytes > 0)
        *p = device_alloc(bytes);
    return finish(cudaSuccess);
}

cudaError_t cudaFree(void *p)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    if (capture_forbids())
        return finish(cudaErrorStreamCaptureUnsupported);
    if (!p)
        return finish(cudaSuccess);
    drain_all();
    return finish(device_free(p) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    CUSIM_ENTER(cudaErrorMemoryAllocation);
    *p = nullptr;
    if (capture_forbids())
        return finish(cudaErrorStreamCaptureUnsupported);
    if (bytes == 0)
        return finish(cudaSuccess);
    if (posix_memalign(p, 4096, bytes) != 0)
        return finish(cudaErrorMemoryAllocation);
    memset(*p, FILL, bytes);
    state.pinned[(const unsigned char *)*p] = bytes;
    return finish(cudaSuccess);
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    CUSIM_ENTER(cudaErrorMemoryAllocation);
    return cudaHostAlloc(p, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *p)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    if (capture_forbids())
        return finish(cudaErrorStreamCaptureUnsupported);
    if (!p)
        return finish(cudaSuccess);
    drain_all();
    if (state.pinned.erase((const unsigned char *)p) == 0)
        return finish(cudaErrorInvalidValue);
    free(p);
    return finish(cudaSuccess);
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned)
{
    CUSIM_ENTER(cudaErrorMemoryAllocation);
    if (capture_forbids())
        return finish(cudaErrorStreamCaptureUnsupported);
    if (bytes == 0 || in_range(p))
        return finish(cudaErrorInvalidValue);
    if (memory_kind(p, bytes) == Memory::PINNED)
        return finish(cudaErrorHostMemoryAlreadyRegistered);
    state.registered[(const unsigned char *)p] = bytes;
    return finish(cudaSuccess);
}

cudaError_t cudaHostUnregister(void *p)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    if (capture_forbids())
        return finish(cudaErrorStreamCaptureUnsupported);
    drain_all();
    bool known = state.registered.erase((const unsigned char *)p) > 0;
    return finish(known ? cudaSuccess : cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned)
{
    CUSIM_ENTER(cudaErrorInvalidValue);
    *device = host;
    return finish(memory_kind(host, 1) == Memory::PINNED ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    CUSIM_ENTER(cudaErrorIllegalAddress);
    *total = memory_capacity();
    *free_bytes = memory_capacity() - state.used[device_now()];
    return finish(cudaSuccess);
}

} // extern "C"
