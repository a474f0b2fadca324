/*
 * Every derivative that ref offers against central differences of its own forward, and the adjoint
 * identity <u, Jv> = <J'u, v>. Shapes: strides 1 and 2, pads 0..2, kernels 1, 3, 5, odd sizes.
 */
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "../lib/differences.h"
#include "../lib/opcase.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Central differences: rel 1e-6. Identities hold to rounding of sums of a few hundred terms. */
static const double TOL_DIFFERENCE = 1e-6, TOL_IDENTITY = 1e-12;
enum { T = 3, PARAMS = 2 };

/* One op with its inputs: x and the parameters are what is differentiated. */
typedef struct subject {
    opcase c;
    lips_tensor x, y;      /* primal */
    lips_tensor xdot, ydot, dy, dx, mask, one; /* one: a cotangent with t = 1 */
    void *param[PARAMS], *grad[PARAMS];
    int64_t n_param[PARAMS];
    double *theta;
    lips_conv_geom geom;
    int64_t k;
    bool training;
    void *mean, *var;
    double *batch_mean, *batch_var;
    void *work;
    void (*forward)(struct subject *);
    void (*jvp)(struct subject *);
    void (*vjp)(struct subject *, const lips_tensor *mask);
    void (*param_grad)(struct subject *);
    void (*gram)(struct subject *);
} subject;

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

static void matvec(double *out, const double *jac, const double *v, int64_t m, int64_t n, bool transposed)
{
    memset(out, 0, (size_t)(transposed ? n : m) * sizeof *out);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            out[transposed ? j : i] += jac[i * n + j] * v[transposed ? i : j];
}

static void check_inputs(subject *s, const char *what)
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
    double *u = doubles(m), *v = doubles(n), *ju = doubles(n), *jv = doubles(m), *got = doubles(n + m);
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
static void explicit_gram(const subject *s, const double *jac, const double *dy, int64_t n, double *theta)
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

static void check_params(subject *s, const char *what)
{
    int64_t n = s->n_param[0] + s->n_param[1], m = size_of(&s->y), nt = s->y.b * T * T;
    double *p = doubles(n), *jac = doubles(m * n), *want = doubles(n), *got = doubles(n), *y = doubles(m);
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
static void subject_begin(subject *s, int index, int64_t b)
{
    opcase_begin(&s->c, lips_backend_find("ref"), 0x0de, index);
    opcase_batch(&s->c, b, true);
}

static void subject_tensors(subject *s, int64_t c, int64_t h, int64_t w, int64_t o, int64_t oh, int64_t ow)
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

static void subject_end(subject *s)
{
    assert_true(opcase_end(&s->c));
}

/* ---- linear ---- */

static lips_status call_linear(lips_linear_fn fn, const subject *s, const lips_tensor *y,
                               const lips_tensor *x, const lips_tensor *mask)
{
    return fn(s->c.be, &(lips_linear_args){.y = *y, .x = *x, .w = s->param[0], .mask = mask,
                                           .dw = s->grad[0], .db = s->grad[1], .theta = s->theta});
}

static void linear_forward(subject *s)
{
    opcase_ok(s->c.be->ops->linear_forward(s->c.be, &(lips_linear_args){.y = s->y, .x = s->x,
                                                    .w = s->param[0], .bias = s->param[1]}));
}

static void linear_jvp(subject *s)
{
    opcase_ok(call_linear(s->c.be->ops->linear_forward, s, &s->ydot, &s->xdot, NULL));
}

static void linear_vjp(subject *s, const lips_tensor *mask)
{
    opcase_ok(call_linear(s->c.be->ops->linear_vjp, s, &s->dy, &s->dx, mask));
}

static void linear_grad(subject *s)
{
    opcase_ok(call_linear(s->c.be->ops->linear_grad, s, &s->one, &s->x, NULL));
}

static void bias_gram(subject *s)
{
    opcase_ok(s->c.be->ops->bias_gram(s->c.be, &(lips_bias_args){.y = s->dy, .theta = s->theta}));
}

static void linear_gram(subject *s)
{
    opcase_ok(call_linear(s->c.be->ops->linear_gram, s, &s->dy, &s->x, NULL));
    bias_gram(s);
}

static void test_linear(void **state)
{
    (void)state;
    static const int64_t width[] = {1, 2, 3, 5, 8, 13};
    for (int i = 0; i < 12; i++) {
        subject s = {.forward = linear_forward, .jvp = linear_jvp, .vjp = linear_vjp,
                     .param_grad = linear_grad, .gram = linear_gram};
        subject_begin(&s, i, 1 + i % 3);
        int64_t c = opcase_pick(&s.c, width, 6), o = opcase_pick(&s.c, width, 6);
        s.n_param[0] = c * o;
        s.n_param[1] = o;
        subject_tensors(&s, c, 1, 1, o, 1, 1);
        check_inputs(&s, "linear inputs");
        check_params(&s, "linear parameters");
        subject_end(&s);
    }
}

/* ---- convolution ---- */

static lips_conv_args conv_args(const subject *s, const lips_tensor *y, const lips_tensor *x)
{
    return (lips_conv_args){.y = *y, .x = *x, .geom = s->geom, .w = s->param[0], .dw = s->grad[0],
                            .db = s->grad[1], .theta = s->theta, .work = s->work};
}

static void conv_forward(subject *s)
{
    lips_conv_args a = conv_args(s, &s->y, &s->x);
    a.bias = s->param[1];
    opcase_ok(s->c.be->ops->conv_forward(s->c.be, &a));
}

static void conv_jvp(subject *s)
{
    lips_conv_args a = conv_args(s, &s->ydot, &s->xdot);
    opcase_ok(s->c.be->ops->conv_forward(s->c.be, &a));
}

static void conv_vjp(subject *s, const lips_tensor *mask)
{
    lips_conv_args a = conv_args(s, &s->dy, &s->dx);
    a.mask = mask;
    opcase_ok(s->c.be->ops->conv_vjp(s->c.be, &a));
}

static void conv_grad(subject *s)
{
    lips_conv_args a = conv_args(s, &s->one, &s->x);
    opcase_ok(s->c.be->ops->conv_grad(s->c.be, &a));
}

static void conv_gram(subject *s)
{
    lips_conv_args a = conv_args(s, &s->dy, &s->x);
    opcase_ok(s->c.be->ops->conv_gram(s->c.be, &a));
    bias_gram(s);
}

static void test_conv(void **state)
{
    (void)state;
    static const int64_t width[] = {1, 2, 3};
    static const lips_conv_geom geom[] = {{1, 1, 0}, {3, 1, 1}, {3, 2, 1}, {3, 1, 0}, {5, 1, 2}, {5, 2, 2},
                                          {1, 2, 0}, {3, 2, 0}, {3, 1, 2}, {1, 1, 1}, {5, 2, 0}, {2, 2, 1}};
    static const int64_t side[] = {5, 6, 7};
    for (int i = 0; i < 12; i++) {
        subject s = {.forward = conv_forward, .jvp = conv_jvp, .vjp = conv_vjp, .param_grad = conv_grad,
                     .gram = conv_gram, .geom = geom[i]};
        subject_begin(&s, i, 1 + i % 2);
        int64_t c = opcase_pick(&s.c, width, 3), o = opcase_pick(&s.c, width, 3);
        int64_t h = opcase_pick(&s.c, side, 3), w = opcase_pick(&s.c, side, 3);
        s.n_param[0] = o * c * s.geom.r * s.geom.r;
        s.n_param[1] = o;
        subject_tensors(&s, c, h, w, o, lips_conv_out(h, &s.geom), lips_conv_out(w, &s.geom));
        lips_conv_args a = conv_args(&s, &s.dy, &s.dx);
        s.work = opcase_work(&s.c, s.c.be->ops->conv_workspace(s.c.be, &a));
        check_inputs(&s, "conv inputs");
        check_params(&s, "conv parameters");
        subject_end(&s);
    }
}

/* ---- bias ---- */

static void bias_forward(subject *s)
{
    opcase_ok(s->c.be->ops->add(s->c.be, &s->y, &s->x, &s->x));
    opcase_ok(s->c.be->ops->bias_forward(s->c.be, &(lips_bias_args){.y = s->y, .bias = s->param[0]}));
}

static void bias_grad(subject *s)
{
    opcase_ok(s->c.be->ops->bias_grad(s->c.be, &(lips_bias_args){.y = s->one, .db = s->grad[0]}));
}

static void test_bias(void **state)
{
    (void)state;
    subject s = {.forward = bias_forward, .param_grad = bias_grad, .gram = bias_gram, .n_param = {3}};
    subject_begin(&s, 0, 2);
    subject_tensors(&s, 3, 2, 3, 3, 2, 3);
    check_params(&s, "bias");
    subject_end(&s);
}

/* ---- relu ---- */

static void relu_forward(subject *s)
{
    opcase_ok(s->c.be->ops->relu_forward(s->c.be, &(lips_relu_args){.y = s->y, .x = s->x}));
}

static void relu_jvp(subject *s)
{
    opcase_ok(s->c.be->ops->relu_mask(s->c.be,
                                      &(lips_relu_args){.y = s->ydot, .x = s->xdot, .mask = &s->y}));
}

/* The extra mask of check_inputs is applied in place. */
static void relu_vjp(subject *s, const lips_tensor *mask)
{
    const lips_ops *ops = s->c.be->ops;
    opcase_ok(ops->relu_mask(s->c.be, &(lips_relu_args){.y = s->dx, .x = s->dy, .mask = &s->y}));
    if (mask)
        opcase_ok(ops->relu_mask(s->c.be, &(lips_relu_args){.y = s->dx, .x = s->dx, .mask = mask}));
}

static void test_relu(void **state)
{
    (void)state;
    subject s = {.forward = relu_forward, .jvp = relu_jvp, .vjp = relu_vjp};
    subject_begin(&s, 1, 2);
    subject_tensors(&s, 3, 2, 5, 3, 2, 5);
    /* Away from the kink: a difference across it is no derivative. */
    double *x = opcase_values(&s.c, &s.x);
    for (int64_t i = 0; i < size_of(&s.x); i++)
        x[i] += x[i] < 0 ? -0.01 : 0.01;
    opcase_ok(s.c.be->ops->upload_f64(s.c.be, &s.x, x));
    check_inputs(&s, "relu");
    free(x);
    subject_end(&s);
}

/* ---- average pooling ---- */

static void pool_forward(subject *s)
{
    opcase_ok(s->c.be->ops->avgpool_forward(s->c.be, &(lips_pool_args){.y = s->y, .x = s->x, .k = s->k}));
}

static void pool_jvp(subject *s)
{
    opcase_ok(s->c.be->ops->avgpool_forward(s->c.be,
                                            &(lips_pool_args){.y = s->ydot, .x = s->xdot, .k = s->k}));
}

static void pool_vjp(subject *s, const lips_tensor *mask)
{
    opcase_ok(s->c.be->ops->avgpool_vjp(
        s->c.be, &(lips_pool_args){.y = s->dy, .x = s->dx, .k = s->k, .mask = mask}));
}

static void test_avgpool(void **state)
{
    (void)state;
    static const int64_t shape[][3] = {{2, 4, 6}, {3, 6, 9}, {0, 5, 7}, {1, 3, 3}, {0, 1, 1}};
    for (int i = 0; i < 5; i++) {
        subject s = {.forward = pool_forward, .jvp = pool_jvp, .vjp = pool_vjp, .k = shape[i][0]};
        int64_t h = shape[i][1], w = shape[i][2];
        subject_begin(&s, i, 2);
        subject_tensors(&s, 3, h, w, 3, s.k ? h / s.k : 1, s.k ? w / s.k : 1);
        check_inputs(&s, "avgpool");
        subject_end(&s);
    }
}

/* ---- batch norm ---- */

static lips_bn_args bn_args(const subject *s, const lips_tensor *y, const lips_tensor *x)
{
    return (lips_bn_args){.y = *y, .x = *x, .in = &s->x, .gamma = s->param[0], .beta = s->param[1],
                          .mean = s->mean, .var = s->var, .batch_mean = s->batch_mean,
                          .batch_var = s->batch_var, .training = s->training, .eps = 1e-5,
                          .momentum = 0.1, .dgamma = s->grad[0], .dbeta = s->grad[1],
                          .theta = s->theta};
}

static void bn_forward(subject *s)
{
    lips_bn_args a = bn_args(s, &s->y, &s->x);
    opcase_ok(s->c.be->ops->bn_forward(s->c.be, &a));
}

static void bn_jvp(subject *s)
{
    lips_bn_args a = bn_args(s, &s->ydot, &s->xdot);
    opcase_ok(s->c.be->ops->bn_jvp(s->c.be, &a));
}

static void bn_vjp(subject *s, const lips_tensor *mask)
{
    lips_bn_args a = bn_args(s, &s->dy, &s->dx);
    opcase_ok(s->c.be->ops->bn_vjp(s->c.be, &a));
    if (mask)
        opcase_ok(s->c.be->ops->relu_mask(s->c.be,
                                          &(lips_relu_args){.y = s->dx, .x = s->dx, .mask = mask}));
}

static void bn_grad(subject *s)
{
    lips_bn_args a = bn_args(s, &s->one, &s->x);
    opcase_ok(s->c.be->ops->bn_grad(s->c.be, &a));
}

static void bn_gram(subject *s)
{
    lips_bn_args a = bn_args(s, &s->dy, &s->x);
    opcase_ok(s->c.be->ops->bn_gram(s->c.be, &a));
}

static void test_batchnorm(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        bool training = i % 2;
        subject s = {.forward = bn_forward, .jvp = bn_jvp, .vjp = bn_vjp, .param_grad = bn_grad,
                     .gram = training ? NULL : bn_gram, .training = training, .n_param = {3, 3}};
        int64_t side = i < 2 ? 1 : 3;
        subject_begin(&s, i, 4);
        subject_tensors(&s, 3, side, side, 3, side, side);
        s.mean = opcase_reals(&s.c, 3);
        s.var = opcase_reals(&s.c, 3);
        opcase_ok(s.c.be->ops->write(s.c.be, s.var, 0, (const double[]){0.5, 2, 1}, 3));
        s.batch_mean = opcase_doubles(&s.c, 3, true);
        s.batch_var = opcase_doubles(&s.c, 3, true);
        check_inputs(&s, training ? "bn inputs, training" : "bn inputs, evaluation");
        check_params(&s, training ? "bn parameters, training" : "bn parameters, evaluation");
        subject_end(&s);
    }
}

/* ---- loss ---- */

typedef struct loss_subject {
    opcase c;
    lips_tensor z, dz;
    lips_loss_args a;
    double loss[4];
} loss_subject;

/* The scaled sum of the losses. */
static void total_loss(void *user, const double *z, double *sum)
{
    loss_subject *s = user;
    opcase_ok(s->c.be->ops->upload_f64(s->c.be, &s->z, z));
    opcase_ok(s->c.be->ops->loss(s->c.be, &s->a));
    *sum = 0;
    for (int64_t i = 0; i < s->z.b; i++)
        *sum += s->a.scale * s->loss[i];
}

static void test_loss(void **state)
{
    (void)state;
    const int64_t labels[4] = {1, 0, 4, 4};
    const float targets[20] = {0.5f, -1, 2, 0, 3, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, -2, 4, 0.25f, 7, 1};
    for (int i = 0; i < 3; i++) {
        loss_subject s = {0};
        opcase_begin(&s.c, lips_backend_find("ref"), 0x1055, i);
        opcase_batch(&s.c, 4, false);
        s.z = opcase_input(&s.c, 5, 1, 1, 1);
        s.dz = opcase_output(&s.c, 5, 1, 1, 1);
        s.a = (lips_loss_args){.kind = i ? LIPS_LOSS_MSE : LIPS_LOSS_CROSS_ENTROPY, .z = s.z,
                               .labels = labels, .targets = i == 2 ? targets : NULL, .loss = s.loss,
                               .dz = &s.dz, .scale = 0.25};
        double *z = opcase_values(&s.c, &s.z), want[20];
        difference_jacobian(&(difference_map){total_loss, &s, 20, 1}, z, want);
        double sum;
        total_loss(&s, z, &sum);
        double *dz = opcase_values(&s.c, &s.dz);
        assert_true(cmp_check("loss gradient", dz, want, 20, TOL_DIFFERENCE));
        free(z), free(dz);
        assert_true(opcase_end(&s.c));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear), cmocka_unit_test(test_conv),      cmocka_unit_test(test_bias),
        cmocka_unit_test(test_relu),   cmocka_unit_test(test_avgpool),   cmocka_unit_test(test_batchnorm),
        cmocka_unit_test(test_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
