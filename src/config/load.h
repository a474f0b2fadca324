/* config/load.h - the state of one lips_experiment_load, shared by reading (load.c) and
 * cross-checks (checks.c). */
#ifndef LIPS_CONFIG_LOAD_H
#define LIPS_CONFIG_LOAD_H

#include "config/values.h"

typedef enum lips_from {
    LIPS_FROM_DEFAULT,
    LIPS_FROM_FILE,
    LIPS_FROM_ENVIRONMENT,
    LIPS_FROM_COMMAND_LINE
} lips_from;

typedef struct lips_origin {
    lips_from kind;
    int line, column; /* of a file, from 1 */
} lips_origin;

typedef struct lips_loader_key {
    lips_origin origin;
    lips_values values; /* if swept */
    bool swept;         /* has not exactly one value */
    bool bad;           /* an error was reported: no cross-checks on it */
} lips_loader_key;

typedef struct lips_loader {
    lips_experiment *e;
    const lips_config_sources *src;
    const char *label; /* the file, in messages */
    const lips_option *options;
    int n_options;
    lips_loader_key *keys; /* by row of the option table */
    char text[8192 - 64];  /* collected errors, with room left in the error text for "and N more" */
    size_t used;
    int n_issues, n_shown;
} lips_loader;

/* Collects one error line. key may be NULL. */
__attribute__((format(printf, 4, 5))) void lips_loader_issue(lips_loader *l, lips_origin at,
                                                             const char *key, const char *fmt, ...);

/* What one value allows and two together do not, over all cells; each rule is reported once. */
void lips_loader_check(lips_loader *l);

/* An init that nobody gave is the model's own; after the axes are known. */
void lips_loader_default_init(lips_loader *l);
/* The same for depth; before the checks. */
void lips_loader_default_depth(lips_loader *l);

#endif
