/* cli/shape.h - the architecture of a weights file: from its tensors, its metadata, the inputs and
 * the user's flags, which must agree. */
#ifndef LIPS_CLI_SHAPE_H
#define LIPS_CLI_SHAPE_H

#include "base/safetensors.h"
#include "cli/cli.h"
#include "nn/net.h"

/* 0 where nobody said. */
typedef struct lips_image_shape {
    int64_t c, h, w;
    int64_t features; /* c*h*w, also where only the product is known */
} lips_image_shape;

/* "3x32x32". LIPS_ERR_USAGE. */
lips_status lips_shape_parse(lips_image_shape *out, const char *text);

/* The spec of path's network. inputs: shape of the user's samples, or NULL. What the flags --model,
 * --width, --depth,
 * --classes, --batch-norm and --input say must be what the tensors say. LIPS_ERR_USAGE names both;
 * LIPS_ERR_DATA if the tensors are of no known architecture. */
lips_status lips_shape_resolve(lips_model_spec *out, const lips_st_file *f, const char *path,
                               const lips_args *a, const lips_image_shape *inputs);

#endif
