#include "backend/cuda/prove.h"

#include "base/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* At most PIECES pieces of PIECE floats: 16 MiB of a large output. */
enum { PIECES = 64, PIECE = 1 << 16 };

/* Of the norm: ways may round operands to their precision or not (2^-9, 2^-12 and 2^-25 of each at
 * random), and sum in another order: some eight times what is seen. An entry may be off by WORST
 * times as much of the root mean square. */
static const double most_off[] = {
    [LIPS_PRECISION_F32] = 1e-4, [LIPS_PRECISION_TF32] = 2e-3, [LIPS_PRECISION_BF16] = 1.5e-2};
static const double WORST = 64;

static const char *const precision_names[] = {"f32", "tf32", "bf16"};

typedef struct proof {
    float *out; /* on the device: what run() overwrites, or adds to */
    int64_t n;
    bool adds;
    int64_t pieces, piece, step; /* of out; step: from one to the next */
    float *want, *got;           /* (pieces, piece) host memory */
} proof;

static lips_status begin(proof *f, const lips_cuda_product *p)
{
    f->adds = p->sum != NULL;
    f->out = p->sum ? *p->sum : p->out;
    f->n = p->sum ? (int64_t)(p->sum_bytes / sizeof(float)) : p->out_count;
    f->piece = f->n < PIECE ? f->n : PIECE;
    f->pieces = (f->n + f->piece - 1) / f->piece; /* they may overlap */
    f->pieces = f->pieces < PIECES ? f->pieces : PIECES;
    f->step = f->pieces > 1 ? (f->n - f->piece) / (f->pieces - 1) : 0;
    const size_t bytes = (size_t)(f->pieces * f->piece) * sizeof(float);
    f->want = malloc(bytes);
    f->got = malloc(bytes);
    return f->want && f->got
               ? LIPS_OK
               : lips_fail(LIPS_ERR_MEMORY, "cuda: out of memory (%zu bytes asked)", bytes);
}

/* One run on memory that held NaN (zeros, if it adds), and its pieces. */
static lips_status run(lips_cuda *h, const proof *f, const lips_cuda_product *p, lips_cuda_way way,
                       float *to)
{
    LIPS_TRY_CUDA(
        cudaMemsetAsync(f->out, f->adds ? 0 : 0xff, (size_t)f->n * sizeof(float), h->stream));
    LIPS_TRY(p->run(h, p->args, way));
    for (int64_t i = 0; i < f->pieces; i++)
        LIPS_TRY_CUDA(cudaMemcpyAsync(to + i * f->piece, f->out + i * f->step,
                                      (size_t)f->piece * sizeof(float), cudaMemcpyDeviceToHost,
                                      h->stream));
    return lips_cuda_wait(h);
}

/* By how much `got` is off, over what it may be: right up to 1. NaN where there is nothing to
 * compare with. */
static double off_by(const proof *f, double most)
{
    double norm = 0, sum = 0, worst = 0;
    const int64_t n = f->pieces * f->piece;
    for (int64_t i = 0; i < n; i++) {
        const double want = (double)f->want[i], d = fabs((double)f->got[i] - want);
        norm += want * want;
        sum += d * d;
        worst = d > worst ? d : worst;
    }
    if (!(norm > 0) || !isfinite(norm))
        return NAN;
    if (!isfinite(sum)) /* of a NaN as well */
        return INFINITY;
    const double in_norm = sqrt(sum / norm) / most;
    const double in_worst = worst / (WORST * most * sqrt(norm / (double)n));
    return in_norm > in_worst ? in_norm : in_worst;
}

static lips_status prove_way(lips_cuda *h, const proof *f, const lips_cuda_product *p,
                             lips_cuda_way way, bool *right)
{
    char sizes[160] = "";
    LIPS_TRY(run(h, f, p, way, f->got));
    const double off = off_by(f, most_off[p->precision]);
    *right = off <= 1 || (isnan(off) && way != LIPS_CUDA_WGMMA);
    if (*right || isnan(off))
        return LIPS_OK;
    for (int i = 0; i < LIPS_CUDA_SIZES; i++)
        snprintf(sizes + strlen(sizes), sizeof sizes - strlen(sizes), " %lld",
                 (long long)p->size[i]);
    lips_warn("cuda: %s %s%s: the way \"%s\" gives other results than \"tile\" (%.3g times what "
              "rounding allows); it is not used for this shape",
              p->op, precision_names[p->precision], sizes, lips_cuda_way_name(way), off);
    return LIPS_OK;
}

static lips_status prove_all(lips_cuda *h, const proof *f, const lips_cuda_product *p,
                             bool (*offered)[LIPS_CUDA_WAYS])
{
    LIPS_TRY(run(h, f, p, LIPS_CUDA_TILE, f->want));
    for (int way = 0; way < LIPS_CUDA_WAYS; way++)
        if ((*offered)[way] && way != LIPS_CUDA_TILE && way != LIPS_CUDA_LIBRARY)
            LIPS_TRY(prove_way(h, f, p, (lips_cuda_way)way, &(*offered)[way]));
    return LIPS_OK;
}

lips_status lips_cuda_prove(lips_cuda *h, const lips_cuda_product *p,
                            bool (*offered)[LIPS_CUDA_WAYS])
{
    proof f = {0};
    lips_status st;
    int others = 0;
    for (int way = 0; way < LIPS_CUDA_WAYS; way++)
        others += (*offered)[way] && way != LIPS_CUDA_TILE && way != LIPS_CUDA_LIBRARY;
    if (others == 0 || !p->offered[LIPS_CUDA_TILE] || (!p->out_count && !p->sum))
        return LIPS_OK;
    LIPS_TRY_GOTO(st, begin(&f, p), out);
    st = prove_all(h, &f, p, offered);
out:
    free(f.want);
    free(f.got);
    return st;
}
