/* ref: class token and positions; one place out of many. */
#include "backend/ref/ref.h"

/* Stacked value t of channel c at place p of sample s. */
static double *at(const lips_tensor *x, int64_t s, int64_t c, int64_t p, int64_t t)
{
    return ref_at(x, s, c, 0, 0) + p * x->t + t;
}

lips_status ref_tokens_forward(lips_backend *be, const lips_tokens_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_tokens(LIPS_FORWARD, a));
    LIPS_TRY(ref_layout("tokens_forward", &a->y));
    const double *token = a->token, *pos = a->pos;
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t c = 0; c < a->y.c; c++)
            for (int64_t n = 0; n < a->y.w; n++)
                for (int64_t t = 0; t < a->y.t; t++) {
                    double v = pos ? pos[n * a->y.c + c] : 0;
                    if (n == 0)
                        v += token ? token[c] : 0;
                    else
                        v += a->x ? *at(a->x, s, c, n - 1, t) : 0;
                    *at(&a->y, s, c, n, t) = v;
                }
    return LIPS_OK;
}

lips_status ref_tokens_vjp(lips_backend *be, const lips_tokens_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_tokens(LIPS_VJP, a));
    LIPS_TRY(ref_layout("tokens_vjp", &a->y));
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t c = 0; c < a->y.c; c++)
            for (int64_t p = 0; p < a->y.w - 1; p++)
                for (int64_t t = 0; t < a->y.t; t++) {
                    bool open = !a->mask || *at(a->mask, s, c, p, 0) > 0;
                    *at(a->x, s, c, p, t) = open ? *at(&a->y, s, c, p + 1, t) : 0;
                }
    return LIPS_OK;
}

lips_status ref_tokens_grad(lips_backend *be, const lips_tokens_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_tokens(LIPS_GRAD, a));
    LIPS_TRY(ref_layout("tokens_grad", &a->y));
    double *dtoken = a->dtoken, *dpos = a->dpos;
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t c = 0; c < a->y.c; c++) {
            if (dtoken)
                dtoken[c] += *at(&a->y, s, c, 0, 0);
            for (int64_t n = 0; dpos && n < a->y.w; n++)
                dpos[n * a->y.c + c] += *at(&a->y, s, c, n, 0);
        }
    return LIPS_OK;
}

lips_status ref_tokens_gram(lips_backend *be, const lips_tokens_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_tokens(LIPS_GRAM, a));
    LIPS_TRY(ref_layout("tokens_gram", &a->y));
    int64_t nt = a->y.t;
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t t = 0; t < nt; t++)
            for (int64_t u = 0; u < nt; u++)
                for (int64_t c = 0; c < a->y.c; c++)
                    for (int64_t n = 0; n < a->y.w; n++) {
                        double both = *at(&a->y, s, c, n, t) * *at(&a->y, s, c, n, u);
                        a->theta[(s * nt + t) * nt + u] += n == 0 ? 2 * both : both;
                    }
    return LIPS_OK;
}

lips_status ref_pick_forward(lips_backend *be, const lips_pick_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_pick(LIPS_FORWARD, a));
    LIPS_TRY(ref_layout("pick_forward", &a->y));
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t c = 0; c < a->y.c; c++)
            for (int64_t t = 0; t < a->y.t; t++)
                *at(&a->y, s, c, 0, t) = *at(&a->x, s, c, a->at, t);
    return LIPS_OK;
}

lips_status ref_pick_vjp(lips_backend *be, const lips_pick_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_pick(LIPS_VJP, a));
    LIPS_TRY(ref_layout("pick_vjp", &a->y));
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t c = 0; c < a->y.c; c++)
            for (int64_t p = 0; p < a->x.h * a->x.w; p++)
                for (int64_t t = 0; t < a->y.t; t++) {
                    bool open = p == a->at && (!a->mask || *at(a->mask, s, c, p, 0) > 0);
                    *at(&a->x, s, c, p, t) = open ? *at(&a->y, s, c, 0, t) : 0;
                }
    return LIPS_OK;
}
