#include "gpu.h"

#include "common.h"
#include "network.h"

#include "base/log.h"
#include "base/version.h"
#include "kernels/reduce.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * For predictions. H100 SXM by NVIDIA's data sheet (80 GB, dense): 3.35 TB/s, 67 TFLOP/s f32, 67
 * f64 on tensor cores, 495 TF32, 989 BF16. Copies reach about nine tenths of such a memory rate and
 * large products about eight tenths of such a product rate; a launch between two others takes about
 * 2 us of the device's time.
 */
static const char predicted_device[] = "H100 SXM";
static const double sheet_copy = 0.9 * 3.35e12;
static const double sheet_rate[GPU_UNITS] = {[GPU_F32] = 0.8 * 495e12 / 3,
                                             [GPU_TF32] = 0.8 * 495e12,
                                             [GPU_BF16] = 0.8 * 989e12,
                                             [GPU_FFMA] = 0.8 * 67e12,
                                             [GPU_F64] = 0.8 * 67e12};

/* Rows of fewer bytes are launches rather than streams: at 3 TB/s this many take 40 us. */
static const double stream_bytes = 120e6;
static const double stream_share = 0.85;

enum { REPEATS_MIN = 30, REPEATS_FEW = 10, REPEATS_MAX = 200, L2_TIMES = 4 };
static const double seconds_min = 0.05, seconds_max = 2;

struct gpu {
    lips_cuda *h;
    const char *select;
    bool tiny;
    double copy, rate[GPU_UNITS];
    float *flush; /* read to empty the cache */
    int64_t flush_n;
    double *flush_out;
    void *flush_scratch;
    cudaEvent_t start, stop;
    int64_t rows, wrong;
    int64_t streams, slow_streams;
    char slow[256]; /* their ops */
};

static lips_status cuda_status(cudaError_t e, const char *call)
{
    return e == cudaSuccess ? LIPS_OK : lips_cuda_fail(e, call, __FILE__, __LINE__);
}

#define CUDA_OK(call) bench_ok(cuda_status(call, #call))

bool gpu_is_there(const gpu *g)
{
    return g->h != NULL;
}

bool gpu_is_tiny(const gpu *g)
{
    return g->tiny;
}

lips_cuda *gpu_handle(gpu *g)
{
    return g->h;
}

static void *device_memory(gpu *g, size_t bytes)
{
    void *p = NULL;
    bench_ok(g->h->base.ops->alloc(&g->h->base, &p, bytes));
    return p;
}

static void empty_cache(gpu *g)
{
    bench_ok(lips_cuda_diff_sumsq(g->flush_out, g->flush, NULL, g->flush_n, g->flush_scratch,
                                  g->h->stream));
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double once(gpu *g, lips_status (*call)(void *), void *user, gpu_by by)
{
    float ms = 0;
    if (by == GPU_COLD)
        empty_cache(g);
    if (by == GPU_WALL) {
        bench_ok(lips_cuda_wait(g->h));
        const double start = lips_now();
        bench_ok(call(user));
        bench_ok(lips_cuda_wait(g->h));
        return lips_now() - start;
    }
    CUDA_OK(cudaEventRecord(g->start, g->h->stream));
    bench_ok(call(user));
    CUDA_OK(cudaEventRecord(g->stop, g->h->stream));
    CUDA_OK(cudaEventSynchronize(g->stop));
    CUDA_OK(cudaEventElapsedTime(&ms, g->start, g->stop));
    return (double)ms * 1e-3;
}

gpu_time gpu_clock(gpu *g, lips_status (*call)(void *), void *user, gpu_by by)
{
    double t[REPEATS_MAX], sum = 0;
    int n = 0;
    bench_ok(call(user));
    bench_ok(lips_cuda_wait(g->h));
    do {
        t[n] = once(g, call, user, by);
        sum += t[n++];
        if (g->tiny && n == 3)
            break;
    } while (n < REPEATS_FEW || (n < REPEATS_MIN && sum < seconds_max) ||
             (n < REPEATS_MAX && sum < seconds_min));
    qsort(t, (size_t)n, sizeof *t, ascending);
    return (gpu_time){.p5 = t[n / 20], .median = t[n / 2], .p95 = t[n - 1 - n / 20]};
}

/* ---- limits ---- */

typedef struct copy_job {
    gpu *g;
    char *to, *from;
    size_t bytes;
} copy_job;

static lips_status copy_once(void *user)
{
    const copy_job *j = user;
    LIPS_TRY_CUDA(
        cudaMemcpyAsync(j->to, j->from, j->bytes, cudaMemcpyDeviceToDevice, j->g->h->stream));
    return LIPS_OK;
}

static double copy_rate(gpu *g)
{
    copy_job j = {.g = g, .bytes = g->tiny ? (size_t)1 << 16 : (size_t)1 << 30};
    j.to = device_memory(g, j.bytes);
    j.from = device_memory(g, j.bytes);
    const double rate = 2 * (double)j.bytes / gpu_clock(g, copy_once, &j, GPU_WARM).median;
    g->h->base.ops->release(&g->h->base, j.to);
    g->h->base.ops->release(&g->h->base, j.from);
    return rate;
}

typedef struct gemm_job {
    cublasHandle_t blas;
    int n;
    cudaDataType_t type;
    cublasComputeType_t compute;
    void *a, *b, *c;
} gemm_job;

static lips_status gemm_once(void *user)
{
    const gemm_job *j = user;
    const float one = 1, zero = 0;
    LIPS_TRY_CUBLAS(cublasGemmEx(j->blas, CUBLAS_OP_T, CUBLAS_OP_N, j->n, j->n, j->n, &one, j->a,
                                 j->type, j->n, j->b, j->type, j->n, &zero, j->c, CUDA_R_32F, j->n,
                                 j->compute, CUBLAS_GEMM_DEFAULT));
    return LIPS_OK;
}

/* n x n random numbers, since zeros would draw less power and run faster; `pairs`: each f32's two
 * halves are bf16 numbers. Blocks of a million repeat. */
static void *random_matrix(gpu *g, int n, bool pairs)
{
    const lips_ops *o = g->h->base.ops;
    const int64_t count = (int64_t)n * n, block = count < 1 << 20 ? count : 1 << 20;
    char *p = device_memory(g, (size_t)count * sizeof(float));
    double *host = bench_take(block, sizeof *host);
    for (int64_t i = 0; i < block; i++) {
        float u = bench_uniform(7, 2 * i), v = bench_uniform(7, 2 * i + 1);
        uint32_t high, low;
        memcpy(&high, &u, sizeof high);
        memcpy(&low, &v, sizeof low);
        high = (high & 0xffff0000u) | low >> 16;
        memcpy(&v, &high, sizeof v);
        host[i] = (double)(pairs ? v : u);
    }
    bench_ok(o->write(&g->h->base, p, 0, host, block));
    free(host);
    for (int64_t done = block; done < count; done += block) {
        const int64_t more = count - done < block ? count - done : block;
        bench_ok(o->copy(&g->h->base, p + done * (int64_t)sizeof(float), p,
                         (size_t)more * sizeof(float)));
    }
    return p;
}

static void matrix_rates(gpu *g)
{
    static const struct {
        gpu_unit unit;
        cudaDataType_t type;
        cublasComputeType_t compute;
    } kinds[] = {{GPU_F32, CUDA_R_32F, CUBLAS_COMPUTE_32F},
                 {GPU_TF32, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32},
                 {GPU_BF16, CUDA_R_16BF, CUBLAS_COMPUTE_32F}};
    gemm_job j = {.n = g->tiny ? 32 : 8192};
    bench_ok(lips_cuda_blas(g->h, &j.blas));
    j.c = device_memory(g, (size_t)j.n * (size_t)j.n * sizeof(float));
    for (int i = 0; i < 3; i++) {
        j.type = kinds[i].type;
        j.compute = kinds[i].compute;
        j.a = random_matrix(g, j.n, j.type == CUDA_R_16BF);
        j.b = random_matrix(g, j.n, j.type == CUDA_R_16BF);
        g->rate[kinds[i].unit] = 2 * pow(j.n, 3) / gpu_clock(g, gemm_once, &j, GPU_WARM).median;
        g->h->base.ops->release(&g->h->base, j.a);
        g->h->base.ops->release(&g->h->base, j.b);
    }
    g->h->base.ops->release(&g->h->base, j.c);
    /* cuBLAS's f32 is FFMA; f64 tensor cores have its rate on the devices that have them. */
    g->rate[GPU_FFMA] = g->rate[GPU_F64] = g->rate[GPU_F32];
}

/* ---- begin and end ---- */

static void open_device(gpu *g, const lips_device *d)
{
    lips_backend *be = NULL;
    bench_ok(lips_backend_find("cuda")->open(&be, 0));
    g->h = (lips_cuda *)be;
    g->tiny = d->emulated || getenv("BENCH_TINY");
    const size_t bytes =
        g->tiny ? (size_t)1 << 16 : (size_t)L2_TIMES * (size_t)g->h->prop.l2CacheSize;
    g->flush = device_memory(g, bytes);
    g->flush_n = (int64_t)(bytes / sizeof(float));
    g->flush_out = device_memory(g, sizeof(double));
    g->flush_scratch = device_memory(g, lips_cuda_diff_sumsq_bytes(g->flush_n) + 64);
    CUDA_OK(cudaEventCreate(&g->start));
    CUDA_OK(cudaEventCreate(&g->stop));
    g->copy = copy_rate(g);
    matrix_rates(g);
    int clock = 0, memory_clock = 0;
    CUDA_OK(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, g->h->device));
    CUDA_OK(cudaDeviceGetAttribute(&memory_clock, cudaDevAttrMemoryClockRate, g->h->device));
    printf("# %s  %s  top clocks %d/%d MHz  L2 %d KiB, emptied before each call\n", d->name,
           d->detail, clock / 1000, memory_clock / 1000, g->h->prop.l2CacheSize / 1024);
}

static void state_rates(gpu *g, const char *reason)
{
    g->copy = sheet_copy;
    memcpy(g->rate, sheet_rate, sizeof g->rate);
    printf("# PREDICTIONS for an %s, nothing was measured: %s\n", predicted_device, reason);
    printf("# rates assumed: 0.9 of the data sheet's memory rate, 0.8 of its product rates; f32 "
           "products as three in TF32; %.0f us a launch\n"
           "# streams: 0.92 of the copy rate, unless 0.8 of the rates at which a multiprocessor "
           "issues instructions, adds in f64 or converts to and from f64 allow less\n",
           GPU_LAUNCH_SECONDS * 1e6);
}

gpu *gpu_begin(int argc, char **argv)
{
    lips_device d;
    gpu *g = bench_take(1, sizeof *g);
    g->select = argc > 1 ? argv[1] : NULL;
    printf("# lipsweep bench  commit %s\n", lips_commit());
    if (!getenv("BENCH_PREDICT") && lips_backend_find("cuda")->probe(&d, 0) == LIPS_OK)
        open_device(g, &d);
    else
        state_rates(g, getenv("BENCH_PREDICT") ? "BENCH_PREDICT is set" : lips_error());
    printf("# limits: copy %.0f GB/s; products f32 %.1f, tf32 %.1f, bf16 %.1f TFLOP/s\n",
           g->copy * 1e-9, g->rate[GPU_F32] * 1e-12, g->rate[GPU_TF32] * 1e-12,
           g->rate[GPU_BF16] * 1e-12);
    printf("# %-16s %-12s %-5s %-34s %9s %9s %9s %12s %8s %6s %8s %6s %9s %6s %8s %5s %s\n", "op",
           "variant", "dtype", "shape", "p5_us", "med_us", "p95_us", "bytes", "GB/s", "copy%",
           "TFLOP/s", "rate%", "lib_us", "speed", "err_rel", "wrong", "how");
    return g;
}

static void close_device(gpu *g)
{
    void *done[] = {g->flush, g->flush_out, g->flush_scratch};
    for (int i = 0; i < 3; i++)
        g->h->base.ops->release(&g->h->base, done[i]);
    (void)cudaEventDestroy(g->start);
    (void)cudaEventDestroy(g->stop);
    g->h->base.ops->close(&g->h->base);
}

int gpu_end(gpu *g)
{
    if (g->streams)
        gpu_target(
            g, g->slow_streams == 0,
            "%lld of %lld elementwise, Gram and reduction rows of %.0f MB or more reach %.0f%% "
            "of the copy rate%s%s",
            (long long)(g->streams - g->slow_streams), (long long)g->streams, stream_bytes * 1e-6,
            100 * stream_share, g->slow[0] ? "; below:" : "", g->slow);
    const bool ok = g->rows > 0 && g->wrong == 0;
    printf("# verdict: %s (rows %lld wrong %lld)\n", ok ? "OK" : "FAIL", (long long)g->rows,
           (long long)g->wrong);
    if (g->h)
        close_device(g);
    free(g);
    return ok ? 0 : 1;
}

/* ---- rows ---- */

bool gpu_selected(const gpu *g, const gpu_row *r)
{
    char all[256];
    snprintf(all, sizeof all, "%s %s %s", r->op, r->variant, r->shape);
    return !g->select || strstr(all, g->select);
}

double gpu_floor(const gpu *g, const gpu_row *r)
{
    const double by_bytes = r->bytes / g->copy;
    const double by_flops = r->unit == GPU_NONE ? 0 : r->flops / g->rate[r->unit];
    return by_bytes > by_flops ? by_bytes : by_flops;
}

/* 132 multiprocessors at 1.755 GHz, which convert 16, add 64 in f64 and issue 128 a clock (CUDA
 * programming guide, 9.0), of which kernels reach eight tenths. */
double gpu_busy(double conversions, double f64, double issued)
{
    static const double clocks = 0.8 * 132 * 1.755e9;
    return fmax(conversions / 16, fmax(f64 / 64, issued / 128)) / clocks;
}

double gpu_predicted(const gpu *g, const gpu_row *r)
{
    const double limit = gpu_floor(g, r) / r->expected;
    return limit > r->busy ? limit : r->busy;
}

static const char *how(const gpu *g)
{
    return !g->h ? "predicted"
           : strncmp(g->h->prop.name, LIPS_CUDA_EMULATED, strlen(LIPS_CUDA_EMULATED)) == 0
               ? "emulated"
               : "measured";
}

static void note_stream(gpu *g, const gpu_row *r, double share)
{
    if (!r->streams || r->bytes < stream_bytes || g->tiny)
        return;
    g->streams++;
    if (share >= stream_share)
        return;
    g->slow_streams++;
    const size_t n = strlen(g->slow);
    snprintf(g->slow + n, sizeof g->slow - n, " %s(T=%s) %.0f%%", r->op, strrchr(r->shape, '=') + 1,
             100 * share);
}

double gpu_print(gpu *g, const gpu_row *r, const gpu_found *found)
{
    double t =
        r->predicted > 0 ? r->predicted : gpu_predicted(g, r) + r->launches * GPU_LAUNCH_SECONDS;
    if (found)
        t = found->time.median;
    const double share = r->bytes / t / g->copy;
    char p5[32] = "-", p95[32] = "-", rate[32] = "-", library[32] = "-", speed[32] = "-",
         error[32] = "-";
    if (found) {
        snprintf(p5, sizeof p5, "%.2f", found->time.p5 * 1e6);
        snprintf(p95, sizeof p95, "%.2f", found->time.p95 * 1e6);
        if (found->checked)
            snprintf(error, sizeof error, "%.1e", found->error);
        g->wrong += found->wrong != 0;
    }
    if (r->unit != GPU_NONE)
        snprintf(rate, sizeof rate, "%.1f", 100 * r->flops / t / g->rate[r->unit]);
    if (found && found->library > 0) {
        snprintf(library, sizeof library, "%.2f", found->library * 1e6);
        snprintf(speed, sizeof speed, "%.2f", found->library / t);
    }
    printf("  %-16s %-12s %-5s %-34s %9s %9.2f %9s %12.0f %8.1f %6.1f %8.2f %6s %9s %6s %8s %5lld "
           "%s\n",
           r->op, r->variant, r->dtype, r->shape, p5, t * 1e6, p95, r->bytes, r->bytes / t * 1e-9,
           100 * share, r->flops / t * 1e-12, rate, library, speed, error,
           (long long)(found ? found->wrong : 0), how(g));
    fflush(stdout);
    g->rows++;
    note_stream(g, r, share);
    return t;
}

static void print_target(const gpu *g, const char *verdict, const char *format, va_list list)
{
    char text[512];
    vsnprintf(text, sizeof text, format, list);
    if (!g->tiny)
        printf("# target %s: %s, %s\n", verdict, how(g), text);
}

void gpu_target(gpu *g, bool pass, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    print_target(g, pass ? "PASS" : "FAIL", format, list);
    va_end(list);
}

void gpu_target_of_bound(gpu *g, bool pass, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    print_target(g, pass ? "PASS" : "OPEN", format, list);
    va_end(list);
}
