/* cli/tell.h - which architecture the tensors of a file belong to, and the sizes that they give. */
#ifndef LIPS_CLI_TELL_H
#define LIPS_CLI_TELL_H

#include "base/safetensors.h"

#include <stdbool.h>

/* Sizes with the tensor that gives each. */
typedef struct lips_told {
    const char *kind;
    int64_t width, depth, classes, channels; /* 0 (depth: -1): the tensors do not say */
    int64_t features;                        /* mlp: inputs */
    int64_t tokens;                          /* vit: patches and the class token */
    int64_t side;                            /* vit: of the image if it is square */
    bool batch_norm;
    char first[64], last[64]; /* names of the tensors of the width and of the classes */
    const char *norm;         /* how the first batch norm's names begin; NULL: no such option */
} lips_told;

/* A tensor that alone tells the architecture suffices; what is missing, extra or misshapen beside
 * it is for lips_weights_fill to name. LIPS_ERR_DATA if there is none. */
lips_status lips_tell(lips_told *out, const lips_st_file *f, const char *path);

#endif
