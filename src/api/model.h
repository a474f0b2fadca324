/*
 * api/model.h - a loaded network behind the public handle (lipsweep/lipsweep.h).
 */
#ifndef LIPS_API_MODEL_H
#define LIPS_API_MODEL_H

#include "lipsweep/lipsweep.h"
#include "nn/net.h"

struct lips_model {
    lips_net *net;
    double *params;  /* (P) */
    double *init;    /* (P) or NULL */
    double *buffers; /* running statistics */
    int64_t epoch;   /* -1: unknown */
};

/* The backend called name, NULL: "cpu". Errors: LIPS_ERR_USAGE listing those there are. */
lips_status lips_api_backend(const lips_ops **out, const char *name);

/* Checks that there are samples. Errors: LIPS_ERR_USAGE. */
lips_status lips_api_check_samples(const lips_samples *s);

#endif
