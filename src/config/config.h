/*
 * config/config.h - one cell's resolved configuration, the option table behind it, and sweeps as
 * products of axes.
 *
 * One table (config/options.c) drives the YAML keys, the long options (--n-train for n_train), the
 * environment (LIPSWEEP_N_TRAIN), --set key=value, bare key=value, --help and the README's
 * reference. Precedence: built-in < file < environment < command line. Keys are flat.
 */
#ifndef LIPS_CONFIG_CONFIG_H
#define LIPS_CONFIG_CONFIG_H

#include "base/status.h"
#include "data/data.h"
#include "nn/net.h"

#include <stdio.h>

enum {
    LIPS_DEVICE_TEXT = 512,
    LIPS_TEXT_MAX = 512,
    LIPS_PATH_MAX = 4096,
    LIPS_SCHEDULE_MAX = 512,
    LIPS_AXES_MAX = 16
};

/* Numbers of devices, in the order given; all: n = 0. */
enum { LIPS_DEVICES_MAX = 64, LIPS_DEVICE_LAST = 1023 };
typedef struct lips_device_list {
    int n, at[LIPS_DEVICES_MAX];
} lips_device_list;

/* "all", or numbers joined by commas. LIPS_ERR_USAGE, without the key: something else, a number
 * twice, more than LIPS_DEVICES_MAX. */
lips_status lips_devices_read(lips_device_list *out, const char *text);

typedef enum lips_optimizer { LIPS_OPT_SGD, LIPS_OPT_ADAM } lips_optimizer;

/* Epochs at which something is done: text is one of "end", "log", "log:N" (N log-spaced epochs from
 * 1 to the last, 0 and the last included), "every:N" (0, N, 2N, ... and the last), "none", or a
 * list "0,1,10,end". */
typedef struct lips_schedule {
    char text[LIPS_SCHEDULE_MAX];
} lips_schedule;

/* Is `epoch` (0 = before training) in the schedule of a run of `epochs` epochs? last: training ends
 * here (the last epoch, or an early stop). */
bool lips_schedule_has(const lips_schedule *s, int64_t epoch, int64_t epochs, bool last);

/* Everything that one training run and its measuring need. Keys of the option table bear the
 * fields' names. */
typedef struct lips_config {
    char name[LIPS_TEXT_MAX]; /* of the experiment: titles only */

    /* network */
    char model[32];
    int64_t width, depth;
    bool batch_norm;
    lips_init init;

    /* data */
    lips_source data;
    char data_dir[LIPS_PATH_MAX];
    int64_t n_train, n_test, n_val;
    double label_noise;
    double sine_noise, sine_min, sine_max;
    bool augment;
    uint64_t seed, data_seed, noise_seed;

    /* training */
    lips_loss_kind loss;
    lips_optimizer optimizer;
    int64_t epochs, batch;
    double lr, momentum, beta1, beta2, adam_eps, weight_decay;
    int64_t warmup_epochs;
    double warmup_lr;
    int64_t lr_step; /* every so many epochs lr *= lr_decay; 0: never */
    double lr_decay;
    double stop_error,
        stop_loss; /* early stop when the evaluated train error/loss is <= this; < 0: off */
    double interpolation_tol;

    /* what is written when */
    lips_schedule eval_epochs, save_epochs, measure_epochs;
    char metrics[LIPS_TEXT_MAX]; /* comma-separated quantity names or sections */
    int64_t measure_n;           /* samples measured; 0: all */
    uint64_t measure_seed;
    int64_t curvature_n;        /* of these, for eigenvalues; 0: all */
    char probes[LIPS_TEXT_MAX]; /* kinds of inputs that are not data, comma-separated; "none" */
    int64_t probe_n;
    uint64_t probe_seed;
    lips_schedule trace_epochs; /* a second, cheaper list of quantities at more epochs */
    char trace_metrics[LIPS_TEXT_MAX];
    int64_t trace_n;

    /* how it runs: no influence on results except backend */
    char backend[16];
    char device[LIPS_DEVICE_TEXT];    /* of the backend: lips_devices_read */
    int64_t cells_per_device;         /* 0: as many as memory and the processors allow */
    bool emulated;                    /* a device that is emulated will do */
    lips_precision precision;         /* of products in training */
    lips_precision measure_precision; /* of the backward passes of measuring */
    lips_library cuda_conv, cuda_linear;
    bool cuda_graph;           /* training steps are recorded and replayed, where that is offered */
    int64_t checkpoint_epochs; /* 0: by time only */
    double checkpoint_seconds; /* 0: by epochs only */
    int64_t jobs;              /* cells at once; 0: one per core */
    double hang_seconds; /* a wait for a device that is longer ends the process; 0: none does */
    char out[LIPS_PATH_MAX];
} lips_config;

enum { LIPS_CANONICAL_MAX = 8192, LIPS_YAML_MAX = 32768, LIPS_CELL_NAME_MAX = 256 };

/* The canonical text: one "key: value" line per key that changes results (all but name, out,
 * data_dir, device, cells_per_device, emulated, cuda_graph, checkpoint_*, jobs and hang_seconds),
 * in table order, values printed so that they read back to the same bits. LIPS_CANONICAL_MAX bytes
 * always suffice; LIPS_ERR_RUNTIME if size does not. */
lips_status lips_config_canonical(const lips_config *c, char *buf, size_t size);
/* All keys, as YAML that lips_experiment_load reads back to the same bits; LIPS_YAML_MAX bytes
 * suffice. */
lips_status lips_config_yaml(const lips_config *c, char *buf, size_t size);
/* lips_hash64 of the canonical text. */
uint64_t lips_config_hash(const lips_config *c);

typedef struct lips_axis {
    int key;            /* row of the option table */
    int64_t count;      /* 0 for an empty list: a sweep without cells */
    char (*values)[64]; /* count value texts, each checked and canonical, all different */
} lips_axis;

/* A sweep: a base configuration and the axes whose product are its cells. Owns the axes' values. */
typedef struct lips_experiment {
    lips_config base;
    lips_axis axes[LIPS_AXES_MAX]; /* keys with not exactly one value, in table order */
    int n_axes;
    char source[LIPS_PATH_MAX]; /* file it was read from, "" if none */
} lips_experiment;

/* Where the settings come from. overrides are "key=value" texts (from --key value, --set, bare); of
 * two for one key the later holds. In a file a key may stand once only. */
typedef struct lips_config_sources {
    const char *yaml_path;  /* NULL: none */
    const char *yaml_text;  /* instead of a path (a weights file's metadata, tests); NULL: none */
    size_t yaml_size;       /* of yaml_text; 0: it ends at its NUL */
    const char *yaml_label; /* what messages call yaml_text; NULL: "config" */
    const char *const *overrides;
    int n_overrides;
    bool use_env;
    bool keep_out; /* leave an empty out empty */
    /* Optional: judges a list key (metrics, probes) for the rooms that know its words. Fails
     * with a text that lacks the key. */
    lips_status (*check_list)(const char *key, const char *value);
} lips_config_sources;

/* Reads, checks everything, reports all errors at once, each as one line "file:line:column: key:
 * message" ("command line: ...", "environment: ..."): lines joined by '\n', the first 50, in the
 * error text. LIPS_ERR_USAGE; *out then holds nothing. Empty name and out are filled in from the
 * file's name. */
lips_status lips_experiment_load(lips_experiment *out, const lips_config_sources *src);
void lips_experiment_free(lips_experiment *e);

enum { LIPS_CELLS_MAX = 10000000 };
int64_t
lips_experiment_cells(const lips_experiment *e); /* product of the axes, at most LIPS_CELLS_MAX */
/* Cell number i (last axis fastest). */
lips_status lips_experiment_cell(const lips_experiment *e, int64_t i, lips_config *out);
/* Name of the cell's directory, "mlp-w16-noise0.2-s0-1a2b3c4d": model, width, the other swept keys'
 * values, first 8 hex digits of the hash. LIPS_CELL_NAME_MAX bytes suffice. */
lips_status lips_experiment_cell_name(const lips_experiment *e, const lips_config *cell, char *buf,
                                      size_t size);
/* Resolved experiment as YAML (OUT/sweep.yaml): reads back to the same cells. */
lips_status lips_experiment_yaml(const lips_experiment *e, FILE *f);

/* Views of a configuration for the rooms that know nothing of this one. */
lips_model_spec lips_config_model(const lips_config *c, const lips_dataset *d);
lips_data_spec lips_config_data(const lips_config *c);

/* Help text of every key (name, type, range, default, meaning), for --help and the README. */
void lips_config_help(FILE *f, bool markdown);

#endif
