/*
 * measure/triangle.h - a small stand-in for a wide first layer.
 *
 * Where the first layer is linear, J = delta' W with W (O,D), and G = J J' = delta' (W W') delta
 * sees W only through W W'. With W = L Q (L lower triangular, O x O; Q with orthonormal rows) the
 * rows of delta' L have the same Gram matrix as those of delta' W: for O << D the pass ends in O
 * features instead of D, and no digit is lost, since Q is orthogonal.
 */
#ifndef LIPS_MEASURE_TRIANGLE_H
#define LIPS_MEASURE_TRIANGLE_H

#include "nn/net.h"

/* Is the first layer linear on the input itself, and narrow enough that the triangle pays? */
bool lips_triangle_pays(const lips_net *net);

/* *l (o,o), malloc'ed: the lower-triangular factor of w (o,d), o <= d, by Householder reflections
 * in f64. Non-finite weights give non-finite factors. Errors: LIPS_ERR_MEMORY. */
lips_status lips_triangle_create(double **l, const double *w, int64_t o, int64_t d);

#endif
