#include "measure/subset.h"

#include "base/random.h"

#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

lips_status lips_measure_subset(int64_t **index, int64_t *count, int64_t n, int64_t wanted,
                                uint64_t seed)
{
    *index = NULL;
    *count = n;
    if (wanted == 0 || wanted >= n)
        return LIPS_OK;
    int64_t *order = malloc((size_t)n * sizeof *order);
    if (!order)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory choosing the samples to measure");
    const lips_rng rng = {.seed = seed, .stream = LIPS_STREAM_MEASURE};
    lips_rng_permutation(&rng, order, n);
    qsort(order, (size_t)wanted, sizeof *order, by_value);
    *index = order;
    *count = wanted;
    return LIPS_OK;
}
