/* cuda/tokens.c - GELU, class token and positions, picking one place. */
#include "backend/cuda/ops.h"
#include "kernels/gelu.h"
#include "kernels/gram.h"
#include "kernels/tokens.h"

lips_status cuda_op_gelu_forward(lips_backend *be, const lips_gelu_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_gelu(LIPS_FORWARD, a));
    LIPS_TRY(lips_cuda_layout("gelu_forward", &a->x));
    LIPS_TRY(lips_cuda_enter(be, &h));
    return lips_cuda_gelu(a->y.data, a->x.data, lips_cuda_used(&a->x), h->stream);
}

lips_status cuda_op_gelu_slope(lips_backend *be, const lips_gelu_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_gelu(LIPS_VJP, a));
    LIPS_TRY(lips_cuda_layout("gelu_slope", &a->x));
    LIPS_TRY(lips_cuda_enter(be, &h));
    bool images = a->x.lanes == LIPS_CUDA_IMAGES;
    int64_t pixels = a->x.h * a->x.w;
    return lips_cuda_gelu_slope(a->y.data, a->x.data, a->in->data,
                                images ? a->x.b * pixels : a->x.b, a->x.t,
                                images ? a->x.c : a->x.c * pixels, h->stream);
}

lips_status cuda_op_gelu_vjp_dot(lips_backend *be, const lips_gelu_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_gelu(LIPS_VJP_DOT, a));
    LIPS_TRY(lips_cuda_layout("gelu_vjp_dot", &a->x));
    LIPS_TRY(lips_cuda_enter(be, &h));
    return lips_cuda_gelu_vjp_dot(a->y.data, a->x.data, a->in->data, a->dot->data,
                                  lips_cuda_used(&a->x), h->stream);
}

/* Of a tensor of tokens. */
static lips_cuda_tokens tokens_of(const lips_tensor *y)
{
    return (lips_cuda_tokens){.b = y->b, .p = y->w - 1, .t = y->t, .c = y->c};
}

lips_status cuda_op_tokens_forward(lips_backend *be, const lips_tokens_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_tokens(LIPS_FORWARD, a));
    LIPS_TRY(lips_cuda_images("tokens_forward", &a->y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    lips_cuda_tokens k = tokens_of(&a->y);
    return lips_cuda_tokens_forward(&k, a->y.data, a->x ? a->x->data : NULL, a->token, a->pos,
                                    h->stream);
}

lips_status cuda_op_tokens_vjp(lips_backend *be, const lips_tokens_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_tokens(LIPS_VJP, a));
    LIPS_TRY(lips_cuda_images("tokens_vjp", &a->y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    lips_cuda_tokens k = tokens_of(&a->y);
    return lips_cuda_tokens_vjp(&k, a->x->data, a->y.data, a->mask ? a->mask->data : NULL,
                                h->stream);
}

lips_status cuda_op_tokens_grad(lips_backend *be, const lips_tokens_args *a)
{
    lips_cuda *h;
    void *scratch;
    LIPS_TRY(lips_check_tokens(LIPS_GRAD, a));
    LIPS_TRY(lips_cuda_images("tokens_grad", &a->y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    lips_cuda_tokens k = tokens_of(&a->y);
    LIPS_TRY(lips_cuda_scratch(h, lips_cuda_tokens_grad_bytes(&k), &scratch));
    return lips_cuda_tokens_grad(&k, a->dtoken, a->dpos, a->y.data, scratch, h->stream);
}

/* The positions' part is the Gram of all places, the token's that of the first, brought together
 * in scratch. */
lips_status cuda_op_tokens_gram(lips_backend *be, const lips_tokens_args *a)
{
    lips_cuda *h;
    double *theta;
    void *scratch;
    LIPS_TRY(lips_check_tokens(LIPS_GRAM, a));
    LIPS_TRY(lips_cuda_images("tokens_gram", &a->y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(lips_cuda_f64(h, "tokens_gram", a->theta, a->y.b * a->y.t * a->y.t, &theta));
    lips_cuda_gram_args all = {.theta = theta,
                               .x = a->y.data,
                               .b = a->y.b,
                               .p = a->y.w,
                               .t = a->y.t,
                               .c = a->y.c},
                        first = all;
    first.p = 1;
    size_t all_work = lips_cuda_gram_work(&all), work = lips_cuda_gram_work(&first);
    size_t row = (size_t)(a->y.b * a->y.t * a->y.c) * sizeof(float);
    work = work > all_work ? work : all_work; /* one after the other */
    work = (work + 255) / 256 * 256;          /* what follows is aligned */
    LIPS_TRY(lips_cuda_scratch(h, work + row, &scratch));
    all.work = first.work = scratch;
    first.x = (char *)scratch + work;
    lips_cuda_tokens k = tokens_of(&a->y);
    k.p = a->y.w; /* picked among all places */
    LIPS_TRY(lips_cuda_pick(&k, (float *)((char *)scratch + work), a->y.data, 0, h->stream));
    LIPS_TRY(lips_cuda_gram(&all, h->stream));
    return lips_cuda_gram(&first, h->stream);
}

static lips_cuda_tokens places_of(const lips_tensor *x)
{
    return (lips_cuda_tokens){.b = x->b, .p = x->h * x->w, .t = x->t, .c = x->c};
}

lips_status cuda_op_pick_forward(lips_backend *be, const lips_pick_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_pick(LIPS_FORWARD, a));
    LIPS_TRY(lips_cuda_images("pick_forward", &a->x));
    LIPS_TRY(lips_cuda_enter(be, &h));
    lips_cuda_tokens k = places_of(&a->x);
    return lips_cuda_pick(&k, a->y.data, a->x.data, a->at, h->stream);
}

lips_status cuda_op_pick_vjp(lips_backend *be, const lips_pick_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_pick(LIPS_VJP, a));
    LIPS_TRY(lips_cuda_images("pick_vjp", &a->x));
    LIPS_TRY(lips_cuda_enter(be, &h));
    lips_cuda_tokens k = places_of(&a->x);
    return lips_cuda_pick_vjp(&k, a->x.data, a->y.data, a->mask ? a->mask->data : NULL, a->at,
                              h->stream);
}
