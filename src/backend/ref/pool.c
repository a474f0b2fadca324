/* ref: average pooling over k x k windows without overlap, or over the whole image (k = 0). */
#include "backend/ref/ref.h"

typedef struct window {
    int64_t h, w;
} window;

static window window_of(const lips_pool_args *a)
{
    return (window){a->k ? a->k : a->x.h, a->k ? a->k : a->x.w};
}

lips_status ref_avgpool_forward(lips_backend *be, const lips_pool_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_avgpool(LIPS_FORWARD, a));
    LIPS_TRY(ref_layout("avgpool_forward", &a->x));
    window k = window_of(a);
    for (int64_t s = 0; s < a->y.b; s++)
        for (int64_t c = 0; c < a->y.c; c++)
            for (int64_t p = 0; p < a->y.h; p++)
                for (int64_t q = 0; q < a->y.w; q++)
                    for (int64_t t = 0; t < a->y.t; t++) {
                        double sum = 0;
                        for (int64_t i = 0; i < k.h; i++)
                            for (int64_t j = 0; j < k.w; j++)
                                sum += ref_at(&a->x, s, c, p * k.h + i, q * k.w + j)[t];
                        ref_at(&a->y, s, c, p, q)[t] = sum / (double)(k.h * k.w);
                    }
    return LIPS_OK;
}

lips_status ref_avgpool_vjp(lips_backend *be, const lips_pool_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_avgpool(LIPS_VJP, a));
    LIPS_TRY(ref_layout("avgpool_vjp", &a->x));
    window k = window_of(a);
    for (int64_t s = 0; s < a->x.b; s++)
        for (int64_t c = 0; c < a->x.c; c++)
            for (int64_t p = 0; p < a->x.h; p++)
                for (int64_t q = 0; q < a->x.w; q++) {
                    bool open = !a->mask || *ref_at(a->mask, s, c, p, q) > 0;
                    const double *dy = ref_at(&a->y, s, c, p / k.h, q / k.w);
                    for (int64_t t = 0; t < a->x.t; t++)
                        ref_at(&a->x, s, c, p, q)[t] = open ? dy[t] / (double)(k.h * k.w) : 0;
                }
    return LIPS_OK;
}
