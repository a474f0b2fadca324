/*
 * bench/gpu.h - benches of the cuda backend: rows in the format of bench/common.h, times from the
 * device's own clock, limits measured in the same run; and where there is no device the same rows
 * as predictions.
 *
 * A device that is there: each row is the median over at least 30 calls (10 of long ones) after a
 * warm-up, each between two events on the backend's stream, the second-level cache emptied before
 * each (by reading four times its size). Limits: the rate of a device-to-device copy (bytes read
 * and written), and of square products through cuBLAS in f32, TF32 and BF16.
 *
 * No device: every time is bytes and operations over the rates of an H100 SXM, divided by the share
 * of the limit that the row states as expected, plus the launches. The rates are the vendor's data
 * sheet's, brought down to what a copy and a large product are known to reach of them (gpu.c). Such
 * rows say "predicted". On an emulated device (tests/cusim) shapes are tiny and rows say
 * "emulated": they show that the results are right, their times mean nothing.
 */
#ifndef LIPS_BENCH_GPU_H
#define LIPS_BENCH_GPU_H

#include "backend/cuda/cuda_internal.h"

typedef struct gpu gpu;

/* Exits with a message on any error. argv[1], if given, selects rows whose "op variant shape"
 * contains it. */
gpu *gpu_begin(int argc, char **argv);
/* Prints targets and verdict; the exit code: 0, or 1 if a row was wrong or none was printed. */
int gpu_end(gpu *g);

bool gpu_is_there(const gpu *g); /* else predictions */
bool gpu_is_tiny(const gpu *g);  /* shapes should be: an emulated device, or BENCH_TINY is set */
lips_cuda *gpu_handle(gpu *g);   /* NULL without a device */

/* What decides a row's time besides memory: the units its operations run on. */
typedef enum gpu_unit {
    GPU_NONE,
    GPU_F32, /* products in f32; ours as three in TF32, which may pass cuBLAS's f32 rate */
    GPU_TF32,
    GPU_BF16,
    GPU_FFMA, /* f32 outside tensor cores */
    GPU_F64,  /* tensor cores */
    GPU_UNITS
} gpu_unit;

typedef struct gpu_row {
    const char *op, *variant, *dtype, *shape;
    double bytes, flops; /* of one call: operands read and written once; multiply-adds count 2 */
    gpu_unit unit;
    double expected; /* share of the limit, for predictions */
    double busy;     /* seconds of the busiest unit that `flops` does not count, for predictions */
    int launches;
    double predicted; /* seconds, of rows that are no single op; 0: by the floor and `expected` */
    bool streams;     /* elementwise, Gram or reduction: judged by the copy rate */
} gpu_row;

typedef struct gpu_time {
    double p5, median, p95; /* seconds */
} gpu_time;

bool gpu_selected(const gpu *g, const gpu_row *r);

/* By events on the handle's stream, the cache emptied before each call or not; or by the clock on
 * the wall, until the device is idle, for calls that use streams of their own. */
typedef enum gpu_by { GPU_COLD, GPU_WARM, GPU_WALL } gpu_by;

/* Times call; its first run is not counted. */
gpu_time gpu_clock(gpu *g, lips_status (*call)(void *user), void *user, gpu_by by);
/* Seconds by the rates in use (measured, or the data sheet's): the floor. */
double gpu_floor(const gpu *g, const gpu_row *r);
/* Seconds of the busiest of an H100's other units, for predictions: so many threads' conversions to
 * and from f64, f64 operations, and instructions, these among them. */
double gpu_busy(double conversions, double f64, double issued);
/* Without launches. */
double gpu_predicted(const gpu *g, const gpu_row *r);

/* What was measured for a row. */
typedef struct gpu_found {
    gpu_time time;
    double library; /* seconds of the library's call; 0: there is none */
    bool checked;
    double error;  /* relative L2, against the cpu or ref backend */
    int64_t wrong; /* entries */
} gpu_found;

/* Of the device's time, between two others. */
#define GPU_LAUNCH_SECONDS 2e-6

/* found NULL: the prediction. Returns its median, measured or predicted, in seconds. */
double gpu_print(gpu *g, const gpu_row *r, const gpu_found *found);

/* A line "# target ..." with PASS or FAIL, "predicted" or "measured"; on tiny shapes it judges
 * nothing. */
void gpu_target(gpu *g, bool pass, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Against a bound of the other's time: what does not pass is OPEN, since the other may be slower.
 */
void gpu_target_of_bound(gpu *g, bool pass, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
