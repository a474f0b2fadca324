/* The calls of cuDNN and cuBLAS that benches compare products with. */
#include "gpu_op.h"

#include "base/log.h"
#include "backend/cuda/conv_dnn.h"
#include "kernels/conv.h"

#include <string.h>

static lips_cuda_conv conv_shape(const gpu_side *s)
{
    return (lips_cuda_conv){.b = s->y.b,
                            .t = s->y.t,
                            .h = s->x.h,
                            .w = s->x.w,
                            .c = s->x.c,
                            .oh = s->y.h,
                            .ow = s->y.w,
                            .o = s->y.c,
                            .r = s->s.geom.r,
                            .stride = s->s.geom.stride,
                            .pad = s->s.geom.pad};
}

static bool is_conv(const gpu_side *s, lips_pass *pass)
{
    static const struct {
        const char *name;
        lips_pass pass;
    } passes[] = {{"conv_forward", LIPS_FORWARD}, {"conv_vjp", LIPS_VJP}, {"conv_grad", LIPS_GRAD}};
    for (int i = 0; i < 3; i++)
        if (strcmp(s->op->name, passes[i].name) == 0) {
            *pass = passes[i].pass;
            return true;
        }
    return false;
}

/* The filter lies in the workspace: packed before, or the gradient that is written. */
static lips_status call_dnn(void *user)
{
    gpu_side *s = user;
    lips_cuda_conv_dnn_args a = {.shape = conv_shape(s),
                                 .x = s->x.data,
                                 .y = s->y.data,
                                 .filter = s->work,
                                 .precision = s->precision};
    is_conv(s, &a.pass);
    return lips_cuda_conv_dnn((lips_cuda *)s->be, &a);
}

/* Bare: the backend's library way of a layer without bias, ReLU and mask is the call alone. */
static lips_status call_blas(void *user)
{
    const gpu_side *s = user;
    const lips_linear_args a = {.y = s->y, .x = s->x, .w = s->w, .dw = s->d};
    const lips_ops *o = s->be->ops;
    LIPS_TRY(o->set_libraries(s->be, LIPS_LIBRARY_AUTO, LIPS_LIBRARY_NVIDIA));
    LIPS_TRY(strcmp(s->op->name, "linear_forward") == 0 ? o->linear_forward(s->be, &a)
             : strcmp(s->op->name, "linear_vjp") == 0   ? o->linear_vjp(s->be, &a)
                                                        : o->linear_grad(s->be, &a));
    return o->set_libraries(s->be, LIPS_LIBRARY_OWN, LIPS_LIBRARY_OWN);
}

bool gpu_op_library(gpu_side *s, lips_status (**call)(void *))
{
    lips_pass pass;
    const lips_cuda_conv shape = conv_shape(s);
    *call = NULL;
    if (strncmp(s->op->name, "linear_", 7) == 0 && strcmp(s->op->name, "linear_gram") != 0)
        *call = call_blas;
    if (is_conv(s, &pass) && lips_cuda_conv_dnn_offers(&shape, s->precision)) {
        if (pass != LIPS_GRAD && lips_cuda_conv_pack(s->work, s->w, &shape, false,
                                                     ((lips_cuda *)s->be)->stream) != LIPS_OK)
            return false;
        *call = call_dnn;
    }
    if (!*call)
        return false;
    const lips_status st = (*call)(s);
    if (st == LIPS_ERR_UNSUPPORTED)
        lips_error_clear();
    return st == LIPS_OK;
}
