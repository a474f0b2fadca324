#include "measure/triangle.h"

#include "backend/vector.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The factorisation costs 2 O^2 D in f64 loops, once; a pass to the input and its Gram cost
 * about K (O + K) D per sample in tuned ones. Up to this ratio D / O a few hundred samples repay
 * it. */
enum { NARROW = 8 };

bool lips_triangle_pays(const lips_net *net)
{
    const lips_model_spec *s = lips_net_spec(net);
    const lips_layer_info *first = lips_net_layer(net, 1);
    return first && !first->conv && first->c * first->h * first->w == s->c * s->h * s->w &&
           first->o * NARROW <= first->c * first->h * first->w;
}

/* Reflects row j's part from column j on to (alpha, 0, ..., 0), and the rows below it likewise. */
static void reflect(double *a, int64_t j, int64_t o, int64_t d)
{
    double *v = a + j * d + j;
    int64_t n = d - j;
    double norm = sqrt(lips_dot(v, v, n));
    double alpha = v[0] > 0 ? -norm : norm;
    if (norm == 0)
        return;
    v[0] -= alpha;
    double scale = 2 / lips_dot(v, v, n);
    for (int64_t i = j + 1; i < o; i++) {
        double *row = a + i * d + j, f = scale * lips_dot(row, v, n);
        lips_axpy(row, -f, v, n);
    }
    v[0] = alpha;
}

lips_status lips_triangle_create(double **out, const double *w, int64_t o, int64_t d)
{
    double *a = malloc((size_t)(o * d) * sizeof *a), *l = calloc((size_t)(o * o), sizeof *l);
    *out = NULL;
    if (!a || !l) {
        free(a);
        free(l);
        return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for the first layer's factor");
    }
    memcpy(a, w, (size_t)(o * d) * sizeof *a);
    for (int64_t j = 0; j < o; j++) {
        reflect(a, j, o, d);
        for (int64_t i = j; i < o; i++)
            l[i * o + j] = a[i * d + j];
    }
    free(a);
    *out = l;
    return LIPS_OK;
}
