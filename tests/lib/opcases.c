#include "opcases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const opcase_table *const opcase_tables[] = {
    &opcases_memory, &opcases_linear, &opcases_conv,   &opcases_simple,  &opcases_bn,
    &opcases_train,  &opcases_step,   &opcases_tokens, &opcases_vectors, NULL};

bool opcase_offered(const lips_ops *ops, size_t slot)
{
    void (*fn)(void);
    memcpy(&fn, (const char *)ops + slot, sizeof fn);
    return fn != NULL;
}

int64_t pick_batch(opcase *c)
{
    static const int64_t v[] = {1, 15, 16, 17, 31, 33};
    return opcase_pick(c, v, 6);
}

int64_t pick_width(opcase *c)
{
    static const int64_t v[] = {1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33};
    const char *fixed = getenv("LIPS_TEST_WIDTH");
    const int64_t picked = opcase_pick(c, v, 11);
    return fixed ? atoll(fixed) : picked;
}

int64_t pick_stack(opcase *c)
{
    static const int64_t v[] = {1, 2, 3, 10};
    return opcase_pick(c, v, 4);
}

bool pick_bool(opcase *c)
{
    static const int64_t v[] = {0, 1};
    return opcase_pick(c, v, 2);
}

lips_cursor *pick_cursor(opcase *c, bool stop, lips_cursor *host)
{
    static const int64_t row[] = {0, 1, 7}, updates[] = {1, 2, 1000};
    *host = (lips_cursor){.row = opcase_pick(c, row, 3),
                          .updates = opcase_pick(c, updates, 3),
                          .epoch = 3,
                          .stop = stop ? LIPS_STOP_LOSS : LIPS_STOP_NONE,
                          .rate = 0.03};
    host->adam_rate = host->rate / (1 - pow(0.9, (double)host->updates));
    host->adam_root = 1 / sqrt(1 - pow(0.999, (double)host->updates));
    return opcase_bytes(c, host, sizeof *host);
}

double pick_arithmetic(opcase *c)
{
    static const int64_t v[] = {0, 1, 2};
    static const double tols[] = {[LIPS_PRECISION_F32] = OP_CONV,
                                  [LIPS_PRECISION_TF32] = OP_TF32,
                                  [LIPS_PRECISION_BF16] = OP_BF16};
    const lips_ops *ops = c->be->ops;
    const lips_precision precision = (lips_precision)opcase_pick(c, v, 3);
    const lips_library picked = (lips_library)opcase_pick(c, v, 3);
    const lips_library library = opcase_own_kernels() ? LIPS_LIBRARY_OWN : picked;
    if (ops->set_precision)
        opcase_ok(ops->set_precision(c->be, precision, precision));
    if (ops->set_libraries)
        opcase_ok(ops->set_libraries(c->be, library, library));
    return tols[precision];
}
