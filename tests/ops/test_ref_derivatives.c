/*
 * Every derivative that ref offers against central differences of its own forward, and the adjoint
 * identity. Shapes: strides 1 and 2, pads 0..2, kernels 1, 2, 3, 5, odd sizes.
 */
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "../lib/differences.h"
#include "../lib/subject.h"

#include <stdlib.h>

/* ---- linear ---- */

static lips_status call_linear(lips_linear_fn fn, const subject *s, const lips_tensor *y,
                               const lips_tensor *x, const lips_tensor *mask)
{
    return fn(s->c.be, &(lips_linear_args){.y = *y,
                                           .x = *x,
                                           .w = s->param[0],
                                           .mask = mask,
                                           .dw = s->grad[0],
                                           .db = s->grad[1],
                                           .theta = s->theta});
}

static void linear_forward(subject *s)
{
    opcase_ok(s->c.be->ops->linear_forward(
        s->c.be, &(lips_linear_args){.y = s->y, .x = s->x, .w = s->param[0], .bias = s->param[1]}));
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
        subject s = {.forward = linear_forward,
                     .jvp = linear_jvp,
                     .vjp = linear_vjp,
                     .param_grad = linear_grad,
                     .gram = linear_gram};
        subject_begin(&s, i, 1 + i % 3);
        int64_t c = opcase_pick(&s.c, width, 6), o = opcase_pick(&s.c, width, 6);
        s.n_param[0] = c * o;
        s.n_param[1] = o;
        subject_tensors(&s, c, 1, 1, o, 1, 1);
        subject_check_inputs(&s, "linear inputs");
        subject_check_params(&s, "linear parameters");
        subject_end(&s);
    }
}

/* ---- convolution ---- */

static lips_conv_args conv_args(const subject *s, const lips_tensor *y, const lips_tensor *x)
{
    return (lips_conv_args){.y = *y,
                            .x = *x,
                            .geom = s->geom,
                            .w = s->param[0],
                            .dw = s->grad[0],
                            .db = s->grad[1],
                            .theta = s->theta,
                            .work = s->work};
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
    static const lips_conv_geom geom[] = {{1, 1, 0}, {3, 1, 1}, {3, 2, 1}, {3, 1, 0},
                                          {5, 1, 2}, {5, 2, 2}, {1, 2, 0}, {3, 2, 0},
                                          {3, 1, 2}, {1, 1, 1}, {5, 2, 0}, {2, 2, 1}};
    static const int64_t side[] = {5, 6, 7};
    for (int i = 0; i < 12; i++) {
        subject s = {.forward = conv_forward,
                     .jvp = conv_jvp,
                     .vjp = conv_vjp,
                     .param_grad = conv_grad,
                     .gram = conv_gram,
                     .geom = geom[i]};
        subject_begin(&s, i, 1 + i % 2);
        int64_t c = opcase_pick(&s.c, width, 3), o = opcase_pick(&s.c, width, 3);
        int64_t h = opcase_pick(&s.c, side, 3), w = opcase_pick(&s.c, side, 3);
        s.n_param[0] = o * c * s.geom.r * s.geom.r;
        s.n_param[1] = o;
        subject_tensors(&s, c, h, w, o, lips_conv_out(h, &s.geom), lips_conv_out(w, &s.geom));
        lips_conv_args a = conv_args(&s, &s.dy, &s.dx);
        s.work = opcase_work(&s.c, s.c.be->ops->conv_workspace(s.c.be, &a));
        subject_check_inputs(&s, "conv inputs");
        subject_check_params(&s, "conv parameters");
        subject_end(&s);
    }
}

/* ---- bias ---- */

static void bias_forward(subject *s)
{
    opcase_ok(s->c.be->ops->add(s->c.be, &s->y, &s->x, &s->x));
    opcase_ok(
        s->c.be->ops->bias_forward(s->c.be, &(lips_bias_args){.y = s->y, .bias = s->param[0]}));
}

static void bias_grad(subject *s)
{
    opcase_ok(s->c.be->ops->bias_grad(s->c.be, &(lips_bias_args){.y = s->one, .db = s->grad[0]}));
}

static void test_bias(void **state)
{
    (void)state;
    subject s = {
        .forward = bias_forward, .param_grad = bias_grad, .gram = bias_gram, .n_param = {3}};
    subject_begin(&s, 0, 2);
    subject_tensors(&s, 3, 2, 3, 3, 2, 3);
    subject_check_params(&s, "bias");
    subject_end(&s);
}

/* ---- relu ---- */

static void relu_forward(subject *s)
{
    opcase_ok(s->c.be->ops->relu_forward(s->c.be, &(lips_relu_args){.y = s->y, .x = s->x}));
}

static void relu_jvp(subject *s)
{
    opcase_ok(s->c.be->ops->relu_mask(
        s->c.be, &(lips_relu_args){.y = s->ydot, .x = s->xdot, .mask = &s->y}));
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
    for (int64_t i = 0; i < s.x.b * lips_tensor_features(&s.x); i++)
        x[i] += x[i] < 0 ? -0.01 : 0.01;
    opcase_ok(s.c.be->ops->upload_f64(s.c.be, &s.x, x));
    subject_check_inputs(&s, "relu");
    free(x);
    subject_end(&s);
}

/* ---- average pooling ---- */

static void pool_forward(subject *s)
{
    opcase_ok(
        s->c.be->ops->avgpool_forward(s->c.be, &(lips_pool_args){.y = s->y, .x = s->x, .k = s->k}));
}

static void pool_jvp(subject *s)
{
    opcase_ok(s->c.be->ops->avgpool_forward(
        s->c.be, &(lips_pool_args){.y = s->ydot, .x = s->xdot, .k = s->k}));
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
        subject_check_inputs(&s, "avgpool");
        subject_end(&s);
    }
}

/* ---- batch norm ---- */

static lips_bn_args bn_args(const subject *s, const lips_tensor *y, const lips_tensor *x)
{
    return (lips_bn_args){.y = *y,
                          .x = *x,
                          .in = &s->x,
                          .gamma = s->param[0],
                          .beta = s->param[1],
                          .mean = s->mean,
                          .var = s->var,
                          .batch_mean = s->batch_mean,
                          .batch_var = s->batch_var,
                          .training = s->training,
                          .eps = 1e-5,
                          .momentum = 0.1,
                          .dgamma = s->grad[0],
                          .dbeta = s->grad[1],
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
        subject s = {.forward = bn_forward,
                     .jvp = bn_jvp,
                     .vjp = bn_vjp,
                     .param_grad = bn_grad,
                     .gram = training ? NULL : bn_gram,
                     .training = training,
                     .n_param = {3, 3}};
        int64_t side = i < 2 ? 1 : 3;
        subject_begin(&s, i, 4);
        subject_tensors(&s, 3, side, side, 3, side, side);
        s.mean = opcase_reals(&s.c, 3);
        s.var = opcase_reals(&s.c, 3);
        opcase_ok(s.c.be->ops->write(s.c.be, s.var, 0, (const double[]){0.5, 2, 1}, 3));
        s.batch_mean = opcase_doubles(&s.c, 3, true);
        s.batch_var = opcase_doubles(&s.c, 3, true);
        subject_check_inputs(&s, training ? "bn inputs, training" : "bn inputs, evaluation");
        subject_check_params(&s,
                             training ? "bn parameters, training" : "bn parameters, evaluation");
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
        s.a = (lips_loss_args){.kind = i ? LIPS_LOSS_MSE : LIPS_LOSS_CROSS_ENTROPY,
                               .z = s.z,
                               .labels = labels,
                               .targets = i == 2 ? targets : NULL,
                               .loss = s.loss,
                               .dz = &s.dz,
                               .scale = 0.25};
        double *z = opcase_values(&s.c, &s.z), want[20];
        difference_jacobian(&(difference_map){total_loss, &s, 20, 1}, z, want);
        double sum;
        total_loss(&s, z, &sum);
        double *dz = opcase_values(&s.c, &s.dz);
        assert_true(cmp_check("loss gradient", dz, want, 20, 1e-6));
        free(z), free(dz);
        assert_true(opcase_end(&s.c));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),  cmocka_unit_test(test_conv),
        cmocka_unit_test(test_bias),    cmocka_unit_test(test_relu),
        cmocka_unit_test(test_avgpool), cmocka_unit_test(test_batchnorm),
        cmocka_unit_test(test_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
