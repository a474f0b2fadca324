/*
 * tests/cusim/sim.h - what the parts of the emulated device share. Not for kernels (device.h) nor
 * for the host code under test, which sees NVIDIA's headers alone.
 *
 * Switches (environment), read once per process:
 *   CUSIM_ORDER    forward, reverse or random:SEED: order of blocks, warps and lanes
 *   CUSIM_MEMORY   bytes of device memory (default 4 GiB); several, joined by commas: one device's
 *                  each, the last of them for the rest
 *   CUSIM_DEVICES  number of devices (default 1)
 *   CUSIM_NAME     what the devices are called; products are then measured as on any GPU
 *   CUSIM_CAPABILITY  compute capability, 90 for 9.0 (the default)
 *   CUSIM_DRIVER   CUDA version of the driver, 12040 for 12.4; 0: none (default: the runtime's)
 *   CUSIM_FAIL     function:n[,function:n...]: the n-th call of that function fails
 *   CUSIM_STICKY   function:n[,...]: the same, with an error that every later call returns; for
 *                  cudaLaunchKernel the kernel fails when it runs, as an illegal address does.
 *                  Later calls are those for the same device; with
 *   CUSIM_STICKY_ALL  (any value) those for every device of the process
 *   CUSIM_HANG     cudaLaunchKernel:n[,...]: the kernel never ends
 *   CUSIM_INDEX_MAX  from how many values on kernels take 64-bit indices (default 2^31)
 *   CUSIM_SUMMARY  a file: at exit, one line "function calls" for each function called,
 *                  "kernel:address times" for each kernel that ran, "digest" of all that was copied
 *                  to the host, "device_bytes" and "pinned_bytes" never freed, "peak_bytes_N" of
 *                  device N, "to_device_bytes" and "to_host_bytes" copied between the two
 */
#ifndef LIPS_TESTS_CUSIM_SIM_H
#define LIPS_TESTS_CUSIM_SIM_H

#include "device.h"

#include <mutex>
#include <string>

namespace cusim
{

/* ---- scheduler.cpp: kernels ---- */

/* Runs every block of the launch to its end; a fault in the kernel stops the program. */
void run_kernel(const Launch &what);
/* Whether a kernel is running, and what it is, for a signal handler's message. */
bool kernel_running();

/* ---- shared.cpp: shared memory of the running block ---- */

/* Largest static allocation, and static with dynamic where the function was allowed it. */
constexpr size_t SHARED_STATIC_MAX = 48 << 10, SHARED_OPTIN_MAX = 227 << 10;

void shared_begin_kernel(size_t dynamic_bytes);
/* NaN-fills all objects. fresh: at addresses that no recent block used, for the race detector. */
void shared_begin_block(bool fresh);
/* Reports writes between the objects. */
void shared_end_block();
size_t shared_dynamic_bytes();
/* Dynamic shared memory as it was at the last shared_publish() of the block; NaN before. */
void shared_publish();
const unsigned char *shared_published();

/* While it lives, the race detector does not see what the C library moves for the emulator. */
struct Unseen {
    Unseen();
    ~Unseen();
    Unseen(const Unseen &) = delete;
    Unseen &operator=(const Unseen &) = delete;
};

/* ---- products.cpp: products of warpgroups ---- */

void products_begin(Products *p);
void products_end(const Products *p);
void products_begin_block();
/* Publishes if all threads have; whether any had. */
bool products_at_barrier(int threads);

/* ---- memory.cpp: device and pinned memory ---- */

enum class Memory { HOST, PINNED, DEVICE };

/* What p is; [p, p+bytes) must lie in one allocation to be PINNED or DEVICE. */
Memory memory_kind(const void *p, size_t bytes);
/* Device memory may be touched between open and close, and only then: outside, the host that reads
 * a device pointer faults as it would with a device. Nests. */
void memory_open();
void memory_close();
/* Reports writes beside any device allocation, blaming what. */
void memory_check(const char *what);
size_t memory_used(); /* of all devices */
size_t memory_peak(int device);
size_t memory_pinned();
size_t memory_capacity(); /* of the current device */

/* ---- stream.cpp: deferred work ---- */

/* A piece of a stream's work. run() returns false to be asked again later: an event is missing. */
struct Work {
    std::function<bool()> run;
    const char *kind;     /* "kernel", "memcpy", ...: a graph's topology */
    const void *function; /* of a kernel */
};

/* Appends to the stream, or to the graph that it is being captured into. */
void push(cudaStream_t stream, Work work);
void push(cudaStream_t stream, const char *kind, std::function<void()> run);
/* Whether the stream is one of the calling thread's device: kernels are launched on no other. */
bool belongs_here(cudaStream_t stream);
bool capturing(cudaStream_t stream);
/* Any capture on the calling thread that forbids unsafe calls; such a call ends it as invalid. */
bool capture_forbids();
/* Work on the null stream while a stream that waits for it is being captured: also the end of that
 * capture. */
bool capture_implied(cudaStream_t stream);
void drain(cudaStream_t stream);
void drain_all();

/* ---- device.cpp: errors, failures on demand ---- */

/* The calling thread's device; while work of a stream runs, the stream's. */
constexpr int DEVICES_MAX = 64;
int device_now();
void device_switch(int device);

/* Every entry holds it: host threads take turns. */
std::recursive_mutex &big_lock();
/* Whether this call, the n-th of function, was chosen to fail. */
bool chosen_to_fail(const char *function);
/* The same for a kernel that shall fail when it runs. */
bool chosen_to_stick(const char *function);
/* Notes the error for cudaGetLastError; a sticky error is returned instead of any other. */
cudaError_t finish(cudaError_t e);
/* Takes note of bytes that went to the host: equal in every order of threads. */
void digest(const void *p, size_t bytes);
/* Bytes that a copy moved over the bus, for the summary. */
void count_copy(bool to_device, size_t bytes);
cudaError_t sticky_error();
void set_sticky(cudaError_t e);

/* Head of an entry of the runtime library: takes the lock, counts the call, fails on demand. */
#define CUSIM_ENTER(error)                                                                         \
    std::lock_guard<std::recursive_mutex> lock_(cusim::big_lock());                                \
    do {                                                                                           \
        if (cusim::chosen_to_fail(__func__))                                                       \
            return cusim::finish(error);                                                           \
        if (cusim::sticky_error() != cudaSuccess)                                                  \
            return cusim::finish(cudaSuccess);                                                     \
    } while (0)

} // namespace cusim

#endif
