/*
 * cli/cli.h - subcommands and their arguments. One file per subcommand; each gives a lips_command,
 * from which come the parsing of its line, its --help and the suggestion for a mistyped option.
 *
 * Forms: --flag, --flag VALUE, --flag=VALUE; where the command takes configuration keys also --key
 * VALUE, --key=VALUE,
 * --set key=VALUE and key=VALUE. "--" ends the options.
 */
#ifndef LIPS_CLI_CLI_H
#define LIPS_CLI_CLI_H

#include "base/status.h"
#include "config/config.h"

#include <stdbool.h>

enum { LIPS_FLAGS_MAX = 32 };

typedef struct lips_flag {
    const char *name; /* without dashes */
    const char *arg;  /* what its value is called in --help; NULL: a switch */
    const char *help;
} lips_flag;

typedef struct lips_args lips_args;

typedef struct lips_command {
    const char *name;
    const char *usage;      /* what stands behind the name: "CONFIG.yaml [key=value...]" */
    const char *summary;    /* one line */
    const char *details;    /* further lines of --help, or NULL */
    const lips_flag *flags; /* ends with a NULL name; --help and --quiet are everybody's */
    bool keys;              /* takes configuration keys */
    int min_args, max_args; /* positional arguments */
    lips_status (*run)(const lips_args *a);
} lips_command;

struct lips_args {
    const lips_command *command;
    const char **positional; /* (n_positional) views into argv */
    int n_positional;
    const char
        *values[LIPS_FLAGS_MAX]; /* by row of the command's flags; NULL: absent; switch: "" */
    char **overrides;            /* (n_overrides) "key=value", owned */
    int n_overrides;
    bool help, quiet;
    char **argv; /* (argc) what stood behind the subcommand, for lips_args_restart */
    int argc;
};

/* argv without program and subcommand. All errors at once in the error text (LIPS_ERR_USAGE). */
lips_status lips_args_parse(lips_args *out, const lips_command *c, int argc, char **argv);
void lips_args_free(lips_args *a);

const char *lips_args_value(const lips_args *a, const char *flag); /* NULL: absent */
bool lips_args_has(const lips_args *a, const char *flag);
/* A whole number given to a flag; *out stays if it is absent. */
lips_status lips_args_int(const lips_args *a, const char *flag, int64_t min, int64_t max,
                          int64_t *out);

/* The same command in a new process in the place of this one, after a GPU has faulted (CUDA cannot
 * be used again in this one); all threads must be gone. Returns only if that fails. Without
 * --retry-failed: that has been done. */
lips_status lips_args_restart(const lips_args *a);

/* The experiment of a command with keys: its first positional argument (if any), environment,
 * overrides. */
lips_status lips_args_experiment(const lips_args *a, lips_experiment *out, bool keep_out);
/* The check_list of lips_config_sources: are these known quantities (probes)? */
lips_status lips_cli_check_list(const char *key, const char *value);

extern const lips_command lips_command_sweep, lips_command_train, lips_command_measure,
    lips_command_report, lips_command_status, lips_command_export, lips_command_validate,
    lips_command_info;

#endif
