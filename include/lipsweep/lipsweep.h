/*
 * lipsweep/lipsweep.h - measure a network from C or C++: load weights, give inputs, get quantities.
 *
 *     lips_model *model = NULL;
 *     lips_results *results = NULL;
 *     lips_model_args load = {.path = "weights.safetensors"};
 *     if (lips_model_load(&model, &load) != LIPS_OK) ...lips_error()...
 *     lips_measuring what = {.inputs = {.x = x, .labels = y, .n = n}, .metrics = "jacobian"};
 *     if (lips_model_measure(&results, model, &what) != LIPS_OK) ...
 *     for (int64_t i = 0; i < lips_results_count(results); i++)
 *         puts(lips_results_json(results, i));
 *     lips_results_free(results);
 *     lips_model_free(model);
 *
 * A complete program: tests/api/example.c. Link with liblipsweep.a and the libraries that `make
 * config` prints.
 *
 * Letters: N samples, K classes (outputs), C x H x W the input's channels, height and width.
 * Every function returns a status (lipsweep/status.h) or cannot fail; after a failure lips_error()
 * says in one line what and where, and outputs are untouched or NULL. Structs are filled with
 * designated initialisers (or zeroed first): a field left 0 means what its comment says. Handles
 * are freed with their own function, which accepts NULL. A model is immutable after loading:
 * threads may share it. All calls return when their work is done.
 */
#ifndef LIPSWEEP_LIPSWEEP_H
#define LIPSWEEP_LIPSWEEP_H

#include "lipsweep/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0", static. */
const char *lips_version(void);

/* ---- networks ---- */

typedef struct lips_model lips_model;

/* Which file, and what network it holds. kind NULL: the file was written by lipsweep and says so
 * itself; the other description fields must then be 0. Tensors bear PyTorch's state_dict names
 * (OIHW convolutions, [out,in] linears); F32, F64, F16 or BF16. */
typedef struct lips_model_args {
    const char *path;      /* weights, .safetensors */
    const char *init_path; /* the same network before training, for distances; NULL: unknown */
    const char *kind;      /* "mlp", "convnet", ... */
    int64_t width;         /* >= 1 */
    int64_t depth;         /* hidden layers of an mlp */
    int64_t classes;       /* K >= 1 */
    int64_t channels, height, width_pixels; /* C, H, W of one input */
    bool batch_norm;
} lips_model_args;

/* *out: to be freed by lips_model_free. Errors: LIPS_ERR_USAGE (unknown kind, value out of range,
 * no description), LIPS_ERR_DATA (no such file, damaged, a tensor missing, extra or misshapen: each
 * named with what was expected), LIPS_ERR_UNSUPPORTED, LIPS_ERR_MEMORY. */
lips_status lips_model_load(lips_model **out, const lips_model_args *args);
void lips_model_free(lips_model *model);

/* What was loaded. kind is owned by the model. */
typedef struct lips_model_info {
    const char *kind;
    int64_t width, depth, classes, channels, height, width_pixels;
    bool batch_norm;
    int64_t parameters; /* P */
    int64_t layers;     /* L: linear and convolution layers */
    int64_t epoch;      /* -1: the file does not say */
} lips_model_info;
lips_model_info lips_model_describe(const lips_model *model);

/* Name of parameterised layer l = 1..L, "layer1.conv"; owned by the model. NULL if there is no such
 * layer. */
const char *lips_model_layer_name(const lips_model *model, int64_t l);

/* ---- inputs ---- */

/* N samples, borrowed for the call. x is what the first layer sees: standardised. */
typedef struct lips_samples {
    const float *x;        /* (N,C,H,W) row-major */
    int64_t n;             /* >= 1 */
    const int64_t *labels; /* (N) class numbers 0..K-1, or NULL */
    const float *targets;  /* (N,K) real targets for the squared loss, or NULL */
} lips_samples;

/* logits (N,K) f64, overwritten. backend "cpu" (f32 arithmetic) or "ref" (f64, slow); NULL: "cpu".
 * Errors: LIPS_ERR_USAGE, LIPS_ERR_MEMORY. */
lips_status lips_model_logits(const lips_model *model, double *logits, const lips_samples *inputs,
                              const char *backend);

/* ---- measuring ---- */

typedef struct lips_measuring {
    lips_samples inputs;
    const char *metrics; /* quantity names or section letters, "jacobian,landscape.param_grad",
                            "B,F", "all" */
    bool squared_loss;   /* 1/2 |z - y|^2 instead of cross-entropy */
    bool per_sample;     /* keep every sample's value, not only the statistics */
    const char *backend; /* "cpu", "ref"; NULL: "cpu" */
    int threads;         /* 0: one per core; results do not depend on it */
    const char *split;   /* what the records call these inputs; NULL: "inputs" */
    int64_t curvature_n; /* the first so many samples, at most, for the eigenvalues of the Hessian
                            and the Gauss-Newton matrix; 0: all */
} lips_measuring;

typedef struct lips_results lips_results;

/* *out: one result per quantity, norm, output map and layer, to be freed by lips_results_free. What
 * cannot be given (a loss without labels, ...) is a result with a reason, not an error; so are
 * non-finite values. Errors: LIPS_ERR_USAGE (unknown metric: the nearest is named; unknown
 * backend), LIPS_ERR_DATA (label out of range), LIPS_ERR_MEMORY. */
lips_status lips_model_measure(lips_results **out, const lips_model *model,
                               const lips_measuring *what);
void lips_results_free(lips_results *results);

typedef enum lips_result_form {
    LIPS_RESULT_VALUE, /* one number: value */
    LIPS_RESULT_STATS, /* over the samples: mean ... max */
    LIPS_RESULT_NONE   /* cannot be given: reason */
} lips_result_form;

/* Strings are owned by the results; NULL or 0 where a field does not apply. */
typedef struct lips_result {
    const char *quantity; /* "jacobian" */
    const char *norm;     /* "op", "fro" */
    const char *output;   /* "logits", "softmax", ... */
    int64_t layer;        /* 1..L */
    const char *layer_name;
    int64_t rank; /* of hessian.top: 1 for the largest eigenvalue */
    lips_result_form form;
    int64_t n; /* samples */
    double value;
    double mean, std_err, min, median, q90, max;
    const char *reason;
} lips_result;

int64_t lips_results_count(const lips_results *results);
/* i = 0..count-1; anything else: an empty result (quantity NULL). */
lips_result lips_results_get(const lips_results *results, int64_t i);
/* The same with every field, as one line of JSON (the records format of metrics.jsonl); NULL if i
 * is out of range. */
const char *lips_results_json(const lips_results *results, int64_t i);
/* The N values of "jacobian.op/logits", "layer.input_jacobian.op/fc", ... in the order of the
 * inputs; NULL if not kept. */
const double *lips_results_per_sample(const lips_results *results, const char *name);

#ifdef __cplusplus
}
#endif
#endif
