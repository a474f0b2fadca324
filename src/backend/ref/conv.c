/*
 * ref: convolution (cross-correlation, as in PyTorch), with (i,j) the place in the kernel:
 *
 *   y[o,p,q] = bias[o] + sum_{c,i,j} w[o,c,i,j] x[c, p stride + i - pad, q stride + j - pad]
 *
 * where x is 0 outside the image.
 */
#include "backend/ref/ref.h"

/* Stacked values of x at kernel place (i,j) of output place (p,q); NULL outside the image. */
static const double *tap(const lips_conv_args *a, int64_t s, int64_t c, int64_t p, int64_t q,
                         int64_t i, int64_t j)
{
    int64_t row = p * a->geom.stride + i - a->geom.pad;
    int64_t col = q * a->geom.stride + j - a->geom.pad;
    if (row < 0 || row >= a->x.h || col < 0 || col >= a->x.w)
        return NULL;
    return ref_at(&a->x, s, c, row, col);
}

static int64_t weight_at(const lips_conv_args *a, int64_t o, int64_t c, int64_t i, int64_t j)
{
    return ((o * a->x.c + c) * a->geom.r + i) * a->geom.r + j;
}

/* One output place of one channel, all stacked values. */
static void forward_place(const lips_conv_args *a, int64_t s, int64_t o, int64_t p, int64_t q)
{
    const double *w = a->w, *bias = a->bias;
    double *y = ref_at(&a->y, s, o, p, q);
    for (int64_t t = 0; t < a->y.t; t++)
        y[t] = bias ? bias[o] : 0;
    for (int64_t c = 0; c < a->x.c; c++)
        for (int64_t i = 0; i < a->geom.r; i++)
            for (int64_t j = 0; j < a->geom.r; j++) {
                const double *x = tap(a, s, c, p, q, i, j);
                for (int64_t t = 0; x && t < a->y.t; t++)
                    y[t] += w[weight_at(a, o, c, i, j)] * x[t];
            }
    if (a->relu && *y < 0)
        *y = 0;
}

lips_status ref_conv_forward(lips_backend *be, const lips_conv_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_conv(LIPS_FORWARD, a));
    LIPS_TRY(ref_layout("conv_forward", &a->x));
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t o = 0; o < a->y.c; o++)
            for (int64_t p = 0; p < a->y.h; p++)
                for (int64_t q = 0; q < a->y.w; q++)
                    forward_place(a, s, o, p, q);
    return LIPS_OK;
}

/* The output place that reads input place `at` through kernel place i; false if there is none. */
static bool reader(const lips_conv_geom *g, int64_t at, int64_t i, int64_t n_out, int64_t *out)
{
    int64_t v = at + g->pad - i;
    *out = v / g->stride;
    return v >= 0 && v % g->stride == 0 && *out < n_out;
}

/* One input place of one channel: the sum over all outputs that read it. */
static void vjp_place(const lips_conv_args *a, int64_t s, int64_t c, int64_t row, int64_t col)
{
    const double *w = a->w;
    double *dx = ref_at(&a->x, s, c, row, col);
    for (int64_t t = 0; t < a->x.t; t++)
        dx[t] = 0;
    if (a->mask && !(*ref_at(a->mask, s, c, row, col) > 0))
        return;
    for (int64_t o = 0; o < a->y.c; o++)
        for (int64_t i = 0; i < a->geom.r; i++)
            for (int64_t j = 0; j < a->geom.r; j++) {
                int64_t p, q;
                if (!reader(&a->geom, row, i, a->y.h, &p) || !reader(&a->geom, col, j, a->y.w, &q))
                    continue;
                for (int64_t t = 0; t < a->x.t; t++)
                    dx[t] += w[weight_at(a, o, c, i, j)] * ref_at(&a->y, s, o, p, q)[t];
            }
}

lips_status ref_conv_vjp(lips_backend *be, const lips_conv_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_conv(LIPS_VJP, a));
    LIPS_TRY(ref_layout("conv_vjp", &a->x));
    for (int64_t s = 0; s < a->x.b; s++)
        for (int64_t c = 0; c < a->x.c; c++)
            for (int64_t row = 0; row < a->x.h; row++)
                for (int64_t col = 0; col < a->x.w; col++)
                    vjp_place(a, s, c, row, col);
    return LIPS_OK;
}

/* Derivative of <dy_t, y> with respect to the weight at (o,c,i,j), for one sample. */
static double weight_derivative(const lips_conv_args *a, int64_t s, int64_t o, int64_t c, int64_t i,
                                int64_t j, int64_t t)
{
    double sum = 0;
    for (int64_t p = 0; p < a->y.h; p++)
        for (int64_t q = 0; q < a->y.w; q++) {
            const double *x = tap(a, s, c, p, q, i, j);
            if (x)
                sum += ref_at(&a->y, s, o, p, q)[t] * *x;
        }
    return sum;
}

lips_status ref_conv_grad(lips_backend *be, const lips_conv_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_conv(LIPS_GRAD, a));
    LIPS_TRY(ref_layout("conv_grad", &a->x));
    double *dw = a->dw, *db = a->db;
    for (int64_t o = 0; o < a->y.c; o++) {
        for (int64_t c = 0; dw && c < a->x.c; c++)
            for (int64_t i = 0; i < a->geom.r; i++)
                for (int64_t j = 0; j < a->geom.r; j++)
                    for (int64_t s = 0; s < a->y.b; s++)
                        dw[weight_at(a, o, c, i, j)] += weight_derivative(a, s, o, c, i, j, 0);
        for (int64_t s = 0; db && s < a->y.b; s++)
            for (int64_t p = 0; p < a->y.h; p++)
                for (int64_t q = 0; q < a->y.w; q++)
                    db[o] += *ref_at(&a->y, s, o, p, q);
    }
    return LIPS_OK;
}

/* T derivatives of one weight. */
size_t ref_conv_workspace(lips_backend *be, const lips_conv_args *a)
{
    (void)be;
    return (size_t)a->y.t * sizeof(double);
}

/* The definition: the Gram of the T rows of the sample's Jacobian, one column (weight) at a time.
 */
lips_status ref_conv_gram(lips_backend *be, const lips_conv_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_conv(LIPS_GRAM, a));
    LIPS_TRY(ref_layout("conv_gram", &a->x));
    LIPS_TRY(lips_check_vector("conv_gram work", a->work, 0, a->y.t));
    double *column = a->work;
    int64_t nt = a->y.t, rr = a->geom.r * a->geom.r;
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t n = 0; n < a->y.c * a->x.c * rr; n++) {
            int64_t o = n / (a->x.c * rr), c = n / rr % a->x.c, place = n % rr;
            for (int64_t t = 0; t < nt; t++)
                column[t] = weight_derivative(a, s, o, c, place / a->geom.r, place % a->geom.r, t);
            for (int64_t t = 0; t < nt; t++)
                for (int64_t u = 0; u < nt; u++)
                    a->theta[(s * nt + t) * nt + u] += column[t] * column[u];
        }
    return LIPS_OK;
}
