/*
 * cpu: the convolutions of the table. Checks, the choice of the algorithm, and its dispatch.
 */
#include "backend/cpu/conv.h"

#include "backend/check.h"

#include <math.h>

static const char *const names[] = {"conv_forward", "conv_vjp", "conv_grad", "conv_gram"};

static double multiply_adds(const lips_conv_args *a)
{
    return (double)a->y.c * (double)a->x.c * (double)(a->geom.r * a->geom.r) *
           (double)(a->y.h * a->y.w);
}

double lips_conv_flops(lips_conv_op op, const lips_conv_args *a)
{
    if (op != LIPS_CONV_GRAM)
        return 2 * multiply_adds(a) * (double)a->y.t * (double)a->y.b;
    const double direct = lips_conv_gram_direct_cost(a), pixel = lips_conv_gram_pixel_cost(a);
    return 2 * (direct < pixel ? direct : pixel) * (double)a->y.b;
}

static bool winograd_fits(const lips_conv_args *a)
{
    return a->geom.r == 3 && a->geom.stride == 1;
}

/* Of the measured cycles of each (bench/conv.c, Zen 5): the direct way and the pixel Gram do about
 * 1.15 and 1.2 multiply-adds of a block per cycle. */
static lips_conv_algo choose_gram(const lips_conv_args *a)
{
    const double direct = lips_conv_gram_direct_cost(a) / 1.15;
    const double pixel = lips_conv_gram_pixel_cost(a) / 1.2;
    const double winograd = winograd_fits(a) ? lips_conv_winograd_gram_cost(a) : INFINITY;
    if (winograd < direct && winograd < pixel)
        return LIPS_CONV_WINOGRAD;
    return pixel < direct ? LIPS_CONV_PIXEL_GRAM : LIPS_CONV_DIRECT;
}

static bool matrix_fits(lips_conv_op op, const lips_conv_args *a)
{
    return (op == LIPS_CONV_FORWARD || op == LIPS_CONV_VJP) && a->geom.r == 1 && a->geom.pad == 0;
}

/* With fewer inputs the direct tiles are faster (bench/conv.c, rows R=1), but the vjp of a stride,
 * most of which is zeros, at any width. */
static bool matrix_wins(lips_conv_op op, const lips_conv_args *a)
{
    if (op == LIPS_CONV_VJP)
        return a->geom.stride > 1 || a->y.c >= 8;
    return a->x.c >= 16;
}

lips_conv_algo lips_cpu_conv_choose(lips_conv_op op, const lips_conv_args *a)
{
    if (op == LIPS_CONV_GRAM)
        return choose_gram(a);
    if (matrix_fits(op, a) && matrix_wins(op, a))
        return LIPS_CONV_MATRIX;
    if (!winograd_fits(a))
        return LIPS_CONV_DIRECT;
    const bool grad = op == LIPS_CONV_GRAD;
    const double winograd = grad ? lips_conv_winograd_grad_cost(a) : lips_conv_winograd_cost(op, a);
    const double direct = grad ? lips_conv_grad_cost(a) : lips_conv_apply_cost(op, a);
    return winograd < direct ? LIPS_CONV_WINOGRAD : LIPS_CONV_DIRECT;
}

size_t lips_cpu_conv_work(lips_conv_op op, const lips_conv_args *a, lips_conv_algo algo)
{
    if (algo == LIPS_CONV_AUTO)
        algo = lips_cpu_conv_choose(op, a);
    if (algo == LIPS_CONV_MATRIX)
        return lips_conv_matrix_work(a);
    switch (op) {
    case LIPS_CONV_FORWARD:
    case LIPS_CONV_VJP:
        return algo == LIPS_CONV_WINOGRAD ? lips_conv_winograd_work(op, a)
                                          : lips_conv_apply_work(op, a);
    case LIPS_CONV_GRAD:
        return algo == LIPS_CONV_WINOGRAD ? lips_conv_winograd_grad_work(a)
                                          : lips_conv_grad_work(a);
    case LIPS_CONV_GRAM:
        return algo == LIPS_CONV_PIXEL_GRAM ? lips_conv_gram_pixel_work(a)
               : algo == LIPS_CONV_WINOGRAD ? lips_conv_winograd_gram_work(a)
                                            : lips_conv_gram_direct_work(a);
    }
    return 0;
}

/* The args do not say which op they are for, so the answer is enough for each. */
size_t lips_cpu_conv_workspace(lips_backend *be, const lips_conv_args *a)
{
    size_t most = 0;
    (void)be;
    if (lips_check_conv_plan(a) != LIPS_OK)
        return 0;
    lips_conv_args p = *a;
    p.y.t = lips_conv_max(a->x.t, a->y.t);
    for (int op = LIPS_CONV_FORWARD; op <= LIPS_CONV_GRAM; op++) {
        const bool stacked = op == LIPS_CONV_FORWARD || op == LIPS_CONV_VJP;
        p.x.t = stacked ? p.y.t : 1;
        const size_t bytes = lips_cpu_conv_work((lips_conv_op)op, &p, LIPS_CONV_AUTO);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static lips_status check(lips_conv_op op, const lips_conv_args *a)
{
    static const lips_pass passes[] = {LIPS_FORWARD, LIPS_VJP, LIPS_GRAD, LIPS_GRAM};
    LIPS_TRY(lips_check_conv(passes[op], a));
    if (a->x.lanes % LIPS_CPU_LANES)
        return lips_fail(LIPS_ERR_USAGE, "%s: lanes is %lld, must be a multiple of %d on cpu",
                         names[op], (long long)a->x.lanes, LIPS_CPU_LANES);
    if (!a->work || (uintptr_t)a->work % 64)
        return lips_fail(LIPS_ERR_USAGE, "%s: work is %p, must be set and 64-byte aligned",
                         names[op], a->work);
    return LIPS_OK;
}

lips_status lips_cpu_conv_run(lips_backend *be, lips_conv_op op, const lips_conv_args *a,
                              lips_conv_algo algo)
{
    const lips_cpu_kernels *k = lips_cpu_k(be);
    LIPS_TRY(check(op, a));
    if (algo == LIPS_CONV_AUTO)
        algo = lips_cpu_conv_choose(op, a);
    if (algo == LIPS_CONV_WINOGRAD && !winograd_fits(a))
        return lips_fail(LIPS_ERR_UNSUPPORTED, "%s: Winograd is for 3x3 of stride 1 only",
                         names[op]);
    if (algo == LIPS_CONV_MATRIX && !matrix_fits(op, a))
        return lips_fail(LIPS_ERR_UNSUPPORTED,
                         "%s: matrix products are for 1x1 without padding only", names[op]);
    if (algo == LIPS_CONV_PIXEL_GRAM && op != LIPS_CONV_GRAM)
        return lips_fail(LIPS_ERR_UNSUPPORTED, "%s: the pixel Gram is not for this op", names[op]);
    if (algo == LIPS_CONV_MATRIX)
        return lips_conv_matrix(k, op, a);
    switch (op) {
    case LIPS_CONV_FORWARD:
    case LIPS_CONV_VJP:
        if (algo == LIPS_CONV_WINOGRAD)
            lips_conv_winograd(k, op, a);
        else
            lips_conv_apply(k, op, a);
        break;
    case LIPS_CONV_GRAD:
        if (algo == LIPS_CONV_WINOGRAD)
            lips_conv_winograd_grad(k, a);
        else
            lips_conv_grad(k, a);
        break;
    case LIPS_CONV_GRAM:
        if (algo == LIPS_CONV_PIXEL_GRAM)
            lips_conv_gram_pixel(k, a);
        else if (algo == LIPS_CONV_WINOGRAD)
            lips_conv_winograd_gram(k, a);
        else
            lips_conv_gram_direct(k, a);
        break;
    }
    return LIPS_OK;
}

lips_status lips_cpu_conv_forward(lips_backend *be, const lips_conv_args *a)
{
    return lips_cpu_conv_run(be, LIPS_CONV_FORWARD, a, LIPS_CONV_AUTO);
}

lips_status lips_cpu_conv_vjp(lips_backend *be, const lips_conv_args *a)
{
    return lips_cpu_conv_run(be, LIPS_CONV_VJP, a, LIPS_CONV_AUTO);
}

lips_status lips_cpu_conv_grad(lips_backend *be, const lips_conv_args *a)
{
    return lips_cpu_conv_run(be, LIPS_CONV_GRAD, a, LIPS_CONV_AUTO);
}

lips_status lips_cpu_conv_gram(lips_backend *be, const lips_conv_args *a)
{
    return lips_cpu_conv_run(be, LIPS_CONV_GRAM, a, LIPS_CONV_AUTO);
}
