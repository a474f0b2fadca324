#include "differences.h"

#include "cmocka_all.h"

#include <stdlib.h>

void difference_jacobian(const difference_map *map, double *x, double *jac)
{
    const double step = 1e-4;
    double *hi = calloc((size_t)map->m, sizeof *hi), *lo = calloc((size_t)map->m, sizeof *lo);
    assert_true(hi && lo);
    for (int64_t j = 0; j < map->n; j++) {
        double at = x[j];
        x[j] = at + step;
        map->f(map->user, x, hi);
        x[j] = at - step;
        map->f(map->user, x, lo);
        x[j] = at;
        for (int64_t i = 0; i < map->m; i++)
            jac[i * map->n + j] = (hi[i] - lo[i]) / (2 * step);
    }
    free(hi);
    free(lo);
}
