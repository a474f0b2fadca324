/* cli/restart.c - the same command in a new process in the place of this one. */
#include "base/log.h"
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

lips_status lips_args_restart(const lips_args *a)
{
    char why[1024], name[] = "lipsweep";
    snprintf(why, sizeof why, "%s", lips_error());
    char **argv = calloc((size_t)a->argc + 3, sizeof *argv);
    char *command = strdup(a->command->name);
    if (!argv || !command) {
        free(argv);
        free(command);
        return lips_fail(LIPS_ERR_MEMORY, "out of memory starting again after: %s", why);
    }
    int n = 0;
    argv[n++] = name;
    argv[n++] = command;
    for (int i = 0; i < a->argc; i++)
        if (strcmp(a->argv[i], "--retry-failed") != 0)
            argv[n++] = a->argv[i];
    lips_warn("%s: starting again with the cells that are left", why);
    fflush(stdout);
    execv("/proc/self/exe", argv);
    lips_status st = lips_fail(LIPS_ERR_DEVICE, "%s; cannot start again: %s", why, strerror(errno));
    free(command);
    free(argv);
    return st;
}
