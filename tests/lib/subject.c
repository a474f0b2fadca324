#include "subject.h"

#include "cmocka_all.h"
#include "compare.h"
#include "differences.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Central differences: rel 1e-6. Identities hold to rounding of sums of a few hundred terms. */
static const double TOL_DIFFERENCE = 1e-6, TOL_IDENTITY = 1e-12;
enum { T = SUBJECT_T, PARAMS = SUBJECT_PARAMS };

static int64_t size_of(const lips_tensor *t)
{
    return t->b * lips_tensor_features(t) * t->t;
}

static void forward_of_x(void *user, const double *x, double *y)
{
    subject *s = user;
    opcase_ok(s->c.be->ops->upload_f64(s->c.be, &s->x, x));
    s->forward(s);
    opcase_ok(s->c.be->ops->download(s->c.be, y, &s->y));
}

static void forward_of_params(void *user, const double *p, double *y)
{
    subject *s = user;
    int64_t off = 0;
    for (int i = 0; i < PARAMS; off += s->n_param[i++])
        if (s->n_param[i])
            opcase_ok(s->c.be->ops->write(s->c.be, s->param[i], 0, p + off, s->n_param[i]));
    s->forward(s);
    opcase_ok(s->c.be->ops->download(s->c.be, y, &s->y));
}

static double *doubles(int64_t n)
{
    double *v = calloc((size_t)n, sizeof *v);
    assert_non_null(v);
    return v;
}

/* Values of a stacked tensor are (B,T,features); row t of the whole batch, one after another. */
static void gather(double *out, const double *v, const lips_tensor *t, int64_t row)
{
    int64_t n = lips_tensor_features(t);
    for (int64_t s = 0; s < t->b; s++)
        memcpy(out + s * n, v + (s * t->t + row) * n, (size_t)n * sizeof *v);
}

static void matvec(double *out, const double *jac, const double *v, int64_t m, int64_t n,
                   bool transposed)
{
    memset(out, 0, (size_t)(transposed ? n : m) * sizeof *out);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            out[transposed ? j : i] += jac[i * n + j] * v[transposed ? i : j];
}

void subject_check_inputs(subject *s, const char *what)
{
    int64_t n = size_of(&s->x), m = size_of(&s->y);
    double *x = opcase_values(&s->c, &s->x), *jac = doubles(m * n);
    difference_jacobian(&(difference_map){forward_of_x, s, n, m}, x, jac);
    opcase_ok(s->c.be->ops->upload_f64(s->c.be, &s->x, x));
    s->forward(s);
    s->jvp(s);
    s->vjp(s, NULL);
    double *xdot = opcase_values(&s->c, &s->xdot), *ydot = opcase_values(&s->c, &s->ydot);
    double *dy = opcase_values(&s->c, &s->dy), *dx = opcase_values(&s->c, &s->dx);
    s->vjp(s, &s->mask);
    double *masked = opcase_values(&s->c, &s->dx), *mask = opcase_values(&s->c, &s->mask);
    double *u = doubles(m), *v = doubles(n), *ju = doubles(n), *jv = doubles(m),
           *got = doubles(n + m);
    for (int64_t t = 0; t < T; t++) {
        gather(v, xdot, &s->xdot, t);
        gather(u, dy, &s->dy, t);
        matvec(jv, jac, v, m, n, false);
        matvec(ju, jac, u, m, n, true);
        gather(got, ydot, &s->ydot, t);
        assert_true(cmp_check(what, got, jv, m, TOL_DIFFERENCE));
        double left = 0, right = 0;
        for (int64_t i = 0; i < m; i++)
            left += u[i] * got[i];
        gather(got, dx, &s->dx, t);
        assert_true(cmp_check(what, got, ju, n, TOL_DIFFERENCE));
        for (int64_t i = 0; i < n; i++)
            right += got[i] * v[i];
        assert_true(fabs(left - right) <= 1e-10 * (fabs(left) + 1));
        for (int64_t i = 0; i < n; i++)
            ju[i] = mask[i] > 0 ? got[i] : 0;
        gather(got, masked, &s->dx, t);
        assert_true(cmp_check(what, got, ju, n, TOL_IDENTITY));
    }
    free(x), free(jac), free(xdot), free(ydot), free(dy), free(dx), free(masked), free(mask);
    free(u), free(v), free(ju), free(jv), free(got);
}

/* theta[b] of the T cotangents, from the explicit Jacobian of sample b. */
static void explicit_gram(const subject *s, const double *jac, const double *dy, int64_t n,
                          double *theta)
{
    int64_t out = lips_tensor_features(&s->y);
    double *rows = doubles(T * n);
    for (int64_t b = 0; b < s->y.b; b++) {
        for (int64_t t = 0; t < T; t++)
            matvec(rows + t * n, jac + b * out * n, dy + (b * T + t) * out, out, n, true);
        for (int64_t t = 0; t < T; t++)
            for (int64_t u = 0; u < T; u++)
                for (int64_t i = 0; i < n; i++)
                    theta[(b * T + t) * T + u] += rows[t * n + i] * rows[u * n + i];
    }
    free(rows);
}

void subject_check_params(subject *s, const char *what)
{
    int64_t n = s->n_param[0] + s->n_param[1], m = size_of(&s->y), nt = s->y.b * T * T;
    double *p = doubles(n), *jac = doubles(m * n), *want = doubles(n), *got = doubles(n),
           *y = doubles(m);
    double *theta = doubles(nt);
    const lips_ops *ops = s->c.be->ops;
    for (int64_t i = 0, off = 0; i < PARAMS; off += s->n_param[i++])
        if (s->n_param[i])
            opcase_ok(ops->read(s->c.be, p + off, s->param[i], 0, s->n_param[i]));
    difference_jacobian(&(difference_map){forward_of_params, s, n, m}, p, jac);
    forward_of_params(s, p, y);
    double *u = opcase_values(&s->c, &s->one), *dy = opcase_values(&s->c, &s->dy);
    matvec(want, jac, u, m, n, true);
    /* Added to: starts at 1. */
    for (int64_t i = 0; i < n; i++)
        want[i] += got[i] = 1;
    for (int i = 0; i < PARAMS; i++)
        if (s->n_param[i])
            opcase_ok(ops->write(s->c.be, s->grad[i], 0, got, s->n_param[i]));
    s->param_grad(s);
    for (int64_t i = 0, off = 0; i < PARAMS; off += s->n_param[i++])
        if (s->n_param[i])
            opcase_ok(ops->read(s->c.be, got + off, s->grad[i], 0, s->n_param[i]));
    assert_true(cmp_check(what, got, want, n, TOL_DIFFERENCE));
    if (s->gram) {
        for (int64_t i = 0; i < nt; i++)
            theta[i] = s->theta[i] = 0.5;
        explicit_gram(s, jac, dy, n, theta);
        s->gram(s);
        assert_true(cmp_check(what, s->theta, theta, nt, TOL_DIFFERENCE));
    }
    free(p), free(jac), free(want), free(got), free(y), free(theta), free(u), free(dy);
}

/* Tensors of a subject whose x is (c,h,w) and y (o,oh,ow). */
void subject_begin(subject *s, int index, int64_t b)
{
    opcase_begin(&s->c, lips_backend_find("ref"), 0x0de, index);
    opcase_batch(&s->c, b, true);
}

void subject_tensors(subject *s, int64_t c, int64_t h, int64_t w, int64_t o, int64_t oh, int64_t ow)
{
    s->x = opcase_input(&s->c, c, h, w, 1);
    s->y = opcase_output(&s->c, o, oh, ow, 1);
    s->xdot = opcase_input(&s->c, c, h, w, T);
    s->ydot = opcase_output(&s->c, o, oh, ow, T);
    s->dy = opcase_input(&s->c, o, oh, ow, T);
    s->dx = opcase_output(&s->c, c, h, w, T);
    s->mask = opcase_input(&s->c, c, h, w, 1);
    s->one = opcase_input(&s->c, o, oh, ow, 1);
    s->theta = opcase_doubles(&s->c, s->x.b * T * T, true);
    for (int i = 0; i < PARAMS; i++)
        if (s->n_param[i]) {
            s->param[i] = opcase_reals(&s->c, s->n_param[i]);
            s->grad[i] = opcase_poisoned(&s->c, s->n_param[i]);
        }
}

void subject_end(subject *s)
{
    assert_true(opcase_end(&s->c));
}
