/*
 * measure/conv_map.h - a convolution layer as a linear map and its transpose, in f64 on the host:
 * with its real input size, zero padding and stride.
 */
#ifndef LIPS_MEASURE_CONV_MAP_H
#define LIPS_MEASURE_CONV_MAP_H

#include "nn/net.h"

typedef struct lips_conv_map lips_conv_map;

/* w (O,C,R,R) is copied. Errors: LIPS_ERR_MEMORY. */
lips_status lips_conv_map_create(lips_conv_map **out, const lips_layer_info *info, const double *w);
/* Bytes that lips_conv_map_create takes. */
size_t lips_conv_map_bytes(const lips_layer_info *info);
void lips_conv_map_free(lips_conv_map *m);

/* y (O,OH,OW) = theta x, overwritten; x (C,H,W). */
void lips_conv_map_apply(lips_conv_map *m, double *y, const double *x);
/* x = theta' y, overwritten. */
void lips_conv_map_apply_t(lips_conv_map *m, double *x, const double *y);

#endif
