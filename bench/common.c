#include "common.h"

#include "base/log.h"
#include "base/random.h"
#include "base/version.h"
#include "backend/cpu/cpu.h"

#include <dnnl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { SEED = 1, REPEATS_MIN = 30, REPEATS_MAX = 20000, GEMM = 512 };
static const double seconds_min = 0.3, seconds_max = 1.5;
static const double call_min = 20e-6; /* shorter calls are timed in bunches */

struct bench {
    lips_backend *be;
    const char *select;
    double gflops; /* of multiply-adds in registers */
    uint64_t draws;
    int64_t rows, wrong;
};

void bench_ok(lips_status st)
{
    if (st == LIPS_OK)
        return;
    fprintf(stderr, "error: %s\n%s\n", lips_error(), lips_error_trace());
    exit(lips_exit_code(st));
}

static void *memory(bench *b, size_t bytes)
{
    void *p = NULL;
    bench_ok(b->be->ops->alloc(b->be, &p, bytes));
    return p;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of this thread on a processor: other programs on the machine then count little. */
static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct timing {
    double p5, median, p95;
    int64_t repeats;
} timing;

static timing time_calls(void (*call)(void *), void *user)
{
    call(user);
    double start = processor_seconds();
    call(user);
    double once = processor_seconds() - start;
    int64_t bunch = once < call_min ? (int64_t)(call_min / (once > 1e-9 ? once : 1e-9)) + 1 : 1;
    double *t = malloc(REPEATS_MAX * sizeof *t);
    if (!t)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    int64_t n = 0;
    for (double sum = 0; n < REPEATS_MAX && (n < 3 || sum < seconds_max);) {
        if (n >= REPEATS_MIN && sum >= seconds_min)
            break;
        start = processor_seconds();
        for (int64_t i = 0; i < bunch; i++)
            call(user);
        double took = processor_seconds() - start;
        t[n++] = took / (double)bunch;
        sum += took;
    }
    qsort(t, (size_t)n, sizeof *t, ascending);
    timing out = {.p5 = t[n / 20], .median = t[n / 2], .p95 = t[n - 1 - n / 20], .repeats = n};
    free(t);
    return out;
}

typedef struct copy_job {
    char *to, *from;
    size_t bytes;
} copy_job;

static void copy_once(void *user)
{
    copy_job *j = user;
    memcpy(j->to, j->from, j->bytes);
}

/* Bytes per second, read and written, of a copy that moves as much as the row does. */
static double copy_rate(bench *b, double bytes)
{
    size_t half = bytes < 128 ? 64 : (size_t)(bytes / 2);
    copy_job j = {.to = memory(b, half), .from = memory(b, half), .bytes = half};
    double rate = 2 * (double)half / time_calls(copy_once, &j).median;
    b->be->ops->release(b->be, j.to);
    b->be->ops->release(b->be, j.from);
    return rate;
}

/* Twelve chains of dependent multiply-adds: two units of four cycles need eight. */
enum { CHAINS = 12, SPINS = 100000 };

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void spin_avx512(void *user)
{
    const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
    __m512 x[CHAINS];
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        x[i] = _mm512_set1_ps((float)i);
    for (int k = 0; k < SPINS; k++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            x[i] = _mm512_fmadd_ps(x[i], a, b);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        *(volatile float *)user += _mm512_cvtss_f32(x[i]);
}

__attribute__((target("avx2,fma"))) static void spin_avx2(void *user)
{
    const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-3f);
    __m256 x[CHAINS];
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        x[i] = _mm256_set1_ps((float)i);
    for (int k = 0; k < SPINS; k++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            x[i] = _mm256_fmadd_ps(x[i], a, b);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        *(volatile float *)user += _mm256_cvtss_f32(x[i]);
}
#endif

/* GFLOP/s of nothing but multiply-adds in registers; 0 where we have no kernel for it. */
static double multiply_add_rate(void)
{
    float sink = 0;
#if defined(__x86_64__)
    const double flops = 2e-9 * CHAINS * SPINS;
    if (__builtin_cpu_supports("avx512f"))
        return 16 * flops / time_calls(spin_avx512, &sink).p5;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 8 * flops / time_calls(spin_avx2, &sink).p5;
#endif
    return (double)sink;
}

typedef struct gemm_job {
    float *x, *w, *y;
} gemm_job;

static void gemm_once(void *user)
{
    gemm_job *j = user;
    if (dnnl_sgemm('N', 'N', GEMM, GEMM, GEMM, 1, j->w, GEMM, j->x, GEMM, 0, j->y, GEMM) !=
        dnnl_success)
        bench_ok(lips_fail(LIPS_ERR_RUNTIME, "bench: dnnl_sgemm failed"));
}

float *bench_reals(bench *b, int64_t n)
{
    float *p = memory(b, (size_t)n * sizeof *p);
    lips_rng rng = {.seed = SEED, .stream = LIPS_STREAM_TEST, .epoch = (uint32_t)b->draws++};
    for (int64_t i = 0; i < n; i++)
        p[i] = (float)(2 * lips_rng_uniform(&rng, (uint64_t)i) - 1);
    return p;
}

lips_tensor bench_tensor(bench *b, int64_t samples, int64_t c, int64_t h, int64_t w, int64_t t,
                         bool spatial)
{
    lips_tensor x = {.cap = samples, .b = samples, .c = c, .h = h, .w = w, .t = t};
    x.lanes = b->be->ops->plan_lanes(b->be, samples, spatial);
    x.data = memory(b, b->be->ops->tensor_bytes(b->be, &x));
    int64_t n = samples * c * h * w * t;
    float *v = bench_reals(b, n);
    double *host = malloc((size_t)n * sizeof *host);
    if (!host)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    for (int64_t i = 0; i < n; i++)
        host[i] = (double)v[i];
    bench_ok(b->be->ops->upload_f64(b->be, &x, host));
    free(host);
    b->be->ops->release(b->be, v);
    return x;
}

lips_backend *bench_backend(bench *b)
{
    return b->be;
}

/* The processor's name as Linux gives it. */
static void print_processor(void)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            line[strcspn(line, "\n")] = '\0';
            printf("  cpu%s", strchr(line, ':') + 1);
            break;
        }
    if (f)
        fclose(f);
}

bench *bench_begin(int argc, char **argv)
{
    bench *b = calloc(1, sizeof *b);
    if (!b)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    b->select = argc > 1 ? argv[1] : NULL;
    bench_ok(lips_backend_find("cpu")->open(&b->be, 0));
    int64_t n = GEMM * GEMM;
    gemm_job j = {.x = bench_reals(b, n), .w = bench_reals(b, n), .y = bench_reals(b, n)};
    double gemm = 2e-9 * GEMM * GEMM * GEMM / time_calls(gemm_once, &j).median;
    b->gflops = fmax(gemm, multiply_add_rate());
    printf("# lipsweep bench  commit %s", lips_commit());
    print_processor();
    printf("  kernels %s  1 core  seed %d  operands warm  processor time\n",
           lips_cpu_k(b->be)->name, SEED);
    printf(
        "# limits: multiply-adds %.0f GFLOP/s (dnnl_sgemm %d^3 reaches %.0f), copy of 64 MiB %.1f "
        "GB/s, of 256 KiB %.1f GB/s\n",
        b->gflops, GEMM, gemm, copy_rate(b, 128e6) * 1e-9, copy_rate(b, 512e3) * 1e-9);
    printf("# %-18s %-12s %-5s %-28s %10s %10s %10s %11s %7s %8s %5s %9s %5s\n", "op", "variant",
           "dtype", "shape", "p5_us", "med_us", "p95_us", "bytes", "GB/s", "GFLOP/s", "peak%",
           "err_rel", "wrong");
    float *done[] = {j.x, j.w, j.y};
    for (int i = 0; i < 3; i++)
        b->be->ops->release(b->be, done[i]);
    return b;
}

bool bench_selected(const bench *b, const bench_case *c)
{
    char all[256];
    snprintf(all, sizeof all, "%s %s %s", c->op, c->variant, c->shape);
    return !b->select || strstr(all, b->select);
}

void bench_row(bench *b, const bench_case *c)
{
    if (!bench_selected(b, c))
        return;
    timing t = time_calls(c->call, c->user);
    double by_bytes = c->bytes / copy_rate(b, c->bytes), by_flops = c->flops * 1e-9 / b->gflops;
    if (strcmp(c->dtype, "f64") == 0)
        by_flops *= 2; /* half as many to a register */
    double floor = by_bytes > by_flops ? by_bytes : by_flops;
    char error[32] = "-";
    int64_t wrong = 0;
    if (c->check)
        snprintf(error, sizeof error, "%.1e", c->check(c->user, &wrong));
    printf("  %-18s %-12s %-5s %-28s %10.2f %10.2f %10.2f %11.0f %7.1f %8.1f %5.0f %9s %5lld\n",
           c->op, c->variant, c->dtype, c->shape, t.p5 * 1e6, t.median * 1e6, t.p95 * 1e6, c->bytes,
           c->bytes / t.median * 1e-9, c->flops / t.median * 1e-9, 100 * floor / t.median, error,
           (long long)wrong);
    fflush(stdout);
    b->rows++;
    b->wrong += wrong != 0;
}

double bench_error(const float *got, const double *want, int64_t n, double tol, int64_t *wrong)
{
    double norm = 0, diff = 0, most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fabs(want[i]) > most ? fabs(want[i]) : most;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)got[i] - want[i];
        norm += want[i] * want[i];
        diff += d * d;
        *wrong += !(fabs(d) <= tol * most); /* said so that a NaN is wrong */
    }
    return norm > 0 ? sqrt(diff / norm) : sqrt(diff);
}

int bench_end(bench *b)
{
    bool ok = b->rows > 0 && b->wrong == 0;
    printf("# verdict: %s (rows %lld wrong %lld)\n", ok ? "OK" : "FAIL", (long long)b->rows,
           (long long)b->wrong);
    b->be->ops->close(b->be);
    free(b);
    return ok ? 0 : 1;
}
