/* ref: loss per sample, prediction, and the gradient at the logits. */
#include "backend/ref/ref.h"
#include "backend/rows.h"

#include <math.h>
#include <string.h>

static int64_t argmax(const double *z, int64_t k)
{
    int64_t best = 0;
    for (int64_t i = 1; i < k; i++)
        if (z[i] > z[best])
            best = i;
    return best;
}

/* log sum exp z - z_y. The largest logit is taken out, the others are summed apart: where the
 * label's logit is far ahead the loss is their sum, which 1 + sum would lose. */
static double cross_entropy(const double *z, int64_t k, int64_t y)
{
    int64_t top = argmax(z, k);
    double rest = 0;
    for (int64_t i = 0; i < k; i++)
        if (i != top)
            rest += exp(z[i] - z[top]);
    return log1p(rest) + (z[top] - z[y]);
}

/* dz = scale (softmax(z) - e_y); the label's entry is minus the sum of the others, without
 * cancellation. */
static void cross_entropy_gradient(const double *z, int64_t k, int64_t y, double scale, double *dz)
{
    int64_t top = argmax(z, k);
    double sum = 0, others = 0;
    for (int64_t i = 0; i < k; i++)
        sum += exp(z[i] - z[top]);
    for (int64_t i = 0; i < k; i++) {
        double p = exp(z[i] - z[top]) / sum;
        dz[i] = scale * p;
        others += i == y ? 0 : p;
    }
    dz[y] = -scale * others;
}

/* Label of sample s, the host's or its row's. */
static int64_t label_of(const lips_loss_args *a, int64_t s)
{
    if (!a->rows)
        return a->labels[s];
    const char *labels = (const char *)a->rows->memory + lips_rows_labels_at(a->rows);
    return ((const int64_t *)(const void *)labels)[a->order[a->cursor->row + a->first + s]];
}

/* Target of output i: given, or one-hot. */
static double target(const lips_loss_args *a, int64_t s, int64_t i)
{
    if (a->rows && a->rows->targets) {
        const char *targets = (const char *)a->rows->memory + lips_rows_targets_at(a->rows);
        int64_t row = a->order[a->cursor->row + a->first + s];
        return (double)((const float *)(const void *)targets)[row * a->z.c + i];
    }
    if (!a->rows && a->targets)
        return (double)a->targets[s * a->z.c + i];
    return label_of(a, s) == i ? 1.0 : 0.0;
}

static void sample_loss(const lips_loss_args *a, int64_t s)
{
    int64_t k = a->z.c;
    const double *z = ref_at(&a->z, s, 0, 0, 0);
    double *dz = a->dz ? ref_at(a->dz, s, 0, 0, 0) : NULL;
    if (a->kind == LIPS_LOSS_CROSS_ENTROPY) {
        if (a->loss)
            a->loss[s] = cross_entropy(z, k, label_of(a, s));
        if (dz)
            cross_entropy_gradient(z, k, label_of(a, s), a->scale, dz);
        return;
    }
    double sum = 0;
    for (int64_t i = 0; i < k; i++) {
        double e = z[i] - target(a, s, i);
        sum += e * e;
        if (dz)
            dz[i] = a->scale * e;
    }
    if (a->loss)
        a->loss[s] = sum / 2;
}

lips_status ref_loss(lips_backend *be, const lips_loss_args *a)
{
    (void)be;
    LIPS_TRY(lips_check_loss(a));
    LIPS_TRY(ref_layout("loss", &a->z));
    if (a->rows && (a->loss || a->dz))
        LIPS_TRY(ref_course("loss", a->rows, a->order + a->cursor->row + a->first, a->z.b));
    for (int64_t s = 0; s < a->z.b; s++) {
        if (a->loss || a->dz)
            sample_loss(a, s);
        if (a->pred)
            a->pred[s] = argmax(ref_at(&a->z, s, 0, 0, 0), a->z.c);
    }
    if (a->dz)
        memset(ref_at(a->dz, a->dz->b, 0, 0, 0), 0,
               (size_t)((a->dz->cap - a->dz->b) * a->dz->c) * sizeof(double));
    return LIPS_OK;
}
