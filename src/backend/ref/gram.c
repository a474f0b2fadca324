/* ref: inner products of the stacked values of each sample. */
#include "backend/ref/ref.h"

lips_status ref_gram(lips_backend *be, const lips_gram_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_gram(a));
    LIPS_TRY(ref_layout("gram", &a->x));
    int64_t nt = a->x.t;
    for (int64_t s = 0; s < a->x.b; s++) {
        const double *x = ref_at(&a->x, s, 0, 0, 0);
        for (int64_t t = 0; t < nt; t++)
            for (int64_t u = 0; u < nt; u++) {
                double sum = 0;
                for (int64_t i = 0; i < lips_tensor_features(&a->x); i++)
                    sum += x[i * nt + t] * x[i * nt + u];
                a->g[(s * nt + t) * nt + u] += sum;
            }
    }
    return LIPS_OK;
}
