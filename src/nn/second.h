/*
 * nn/second.h - second-order passes: Hessian and Gauss-Newton products of a network, by the tangent
 * of the backward pass (forward over reverse: Pearlmutter, Neural Computation 1994), layer by
 * layer.
 *
 * With the primal activations and cotangents of a batch kept, a Hessian product costs 6 forward
 * passes and a Gauss-Newton product 4: the passes are stacked on nothing that depends on the
 * direction.
 *
 *   lips_exec_forward(ex, false, &z)        evaluation mode; upload the batch before
 *   lips_second_seed -> fill with dL/dz     then lips_second_primal keeps every cotangent
 *   for each direction v (device vector of P reals):
 *       lips_second_jvp(s, v, &zdot)        zdot = J v
 *       lips_second_seed_dot -> fill with (d2L/dz2) zdot
 *       lips_second_vjp(s, v, out)          out += (Hessian) v;  with v = NULL the Gauss-Newton
 *                                           product
 *
 * Batch norm counts with its running statistics, which are constants here.
 */
#ifndef LIPS_NN_SECOND_H
#define LIPS_NN_SECOND_H

#include "nn/net.h"

typedef struct lips_second lips_second;

/* Memory for batches of up to the exec's cap, beside the exec's own, which must have been created
 * with t >= 1. ex stays the caller's and must outlive it. */
lips_status lips_second_create(lips_second **out, lips_exec *ex);
void lips_second_free(lips_second *s);
/* Its bytes beside an exec for so many samples, without taking them. */
size_t lips_second_plan_bytes(const lips_net *net, lips_backend *be, int64_t cap);

/* Where the loss's cotangent at the logits (t = 1) goes, after a forward. */
lips_status lips_second_seed(lips_second *s, lips_tensor *seed);
/* Backward pass from the seed; its cotangents are kept until the next. Not needed for Gauss-Newton
 * products. */
lips_status lips_second_primal(lips_second *s);

/* zdot (K,1,1), t = 1: the logits' tangent along the parameter direction v (P reals, device). */
lips_status lips_second_jvp(lips_second *s, const void *v, lips_tensor *zdot);

/* Where (d2L/dz2) zdot goes. May be the same memory as zdot: its contents are then replaced. */
lips_status lips_second_seed_dot(lips_second *s, lips_tensor *seed);
/* out (P reals, device), added to: summed over the batch, J'seed_dot, plus, if v (that of the last
 * jvp) is not NULL, the change of J' along v applied to the seed: together the Hessian product. */
lips_status lips_second_vjp(lips_second *s, const void *v, void *out);

#endif
