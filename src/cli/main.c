/* lipsweep: the entrance. Finds the subcommand, runs it, prints errors, turns the status into the
 * exit code. */
#include "base/log.h"
#include "base/nearest.h"
#include "base/version.h"
#include "cli/cli.h"
#include "config/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const lips_command *const commands[] = {
    &lips_command_sweep,  &lips_command_train,  &lips_command_measure,  &lips_command_report,
    &lips_command_status, &lips_command_export, &lips_command_validate, &lips_command_info,
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_program_help(FILE *f)
{
    fputs("lipsweep: trains networks of growing width to interpolation and measures how smooth "
          "they are\n\nusage: lipsweep COMMAND ... (lipsweep COMMAND --help says more)\n\n",
          f);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(f, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\n  --help     this text\n  --version  version and commit\n\n"
          "Exit codes: 0 done, 1 runtime error, 2 usage or configuration, 3 some cells failed,\n"
          "4 output folder in use, 5 out of memory, 6 data missing or corrupt,\n"
          "75 checkpointed, run again to go on, 130 checkpointed after Ctrl-C.\n",
          f);
}

static void print_command_help(const lips_command *c, FILE *f)
{
    fprintf(f, "usage: lipsweep %s %s\n\n%s\n", c->name, c->usage, c->summary);
    if (c->details)
        fprintf(f, "\n%s\n", c->details);
    fputs("\noptions:\n", f);
    for (int i = 0; c->flags && c->flags[i].name; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", c->flags[i].name, c->flags[i].arg ? " " : "",
                 c->flags[i].arg ? c->flags[i].arg : "");
        fprintf(f, "  %-24s %s\n", left, c->flags[i].help);
    }
    if (c->keys)
        fprintf(f, "  %-24s %s\n", "--set KEY=VALUE", "set a key; also KEY=VALUE, --KEY VALUE");
    fprintf(f, "  %-24s %s\n  %-24s %s\n", "--quiet", "only errors on stderr", "--help",
            "this text");
    if (!c->keys)
        return;
    fputs("\nKeys, in CONFIG.yaml, as LIPSWEEP_KEY in the environment or on the command line (the "
          "later wins).\nSeveral values make a sweep: 1,2,4  range(1,65)  logspace(2,512,20)  "
          "0..4  or a YAML list.\n\n",
          f);
    lips_config_help(f, false);
}

static const lips_command *find_command(const char *name)
{
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static lips_status unknown_command(const char *name)
{
    const char *names[COMMANDS];
    char quoted[LIPS_QUOTE_MAX];
    for (int i = 0; i < COMMANDS; i++)
        names[i] = commands[i]->name;
    const char *near = lips_nearest(name, names, COMMANDS);
    return lips_fail(LIPS_ERR_USAGE, "unknown command %s%s%s%s", lips_quote(quoted, name),
                     near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

/* Each line of the text is an error of its own. */
static void print_errors(const char *text)
{
    char *copy = strdup(text), *rest = copy, *line;
    if (!copy) {
        lips_error_line("%s", text);
        return;
    }
    while ((line = strsep(&rest, "\n")))
        lips_error_line("%s", line);
    free(copy);
}

static lips_status run_command(const lips_command *c, int argc, char **argv)
{
    lips_args args;
    LIPS_TRY(lips_args_parse(&args, c, argc, argv));
    if (args.quiet)
        lips_log_set_level(LIPS_LOG_QUIET);
    lips_status st = LIPS_OK;
    if (args.help)
        print_command_help(c, stdout);
    else
        st = c->run(&args);
    lips_args_free(&args);
    return st;
}

static lips_status run(int argc, char **argv)
{
    if (argc < 2) {
        print_program_help(stderr);
        return lips_fail(LIPS_ERR_USAGE, "no command is given");
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_program_help(stdout);
        return LIPS_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("lipsweep %s (%s)\n", LIPS_VERSION, lips_commit());
        return LIPS_OK;
    }
    const lips_command *c = find_command(argv[1]);
    return c ? run_command(c, argc - 2, argv + 2) : unknown_command(argv[1]);
}

int main(int argc, char **argv)
{
    lips_status st = run(argc, argv);
    /* A full disk behind stdout shows here at the latest. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && st == LIPS_OK)
        st = lips_fail(LIPS_ERR_RUNTIME, "cannot write the results to standard output");
    if (st == LIPS_ERR_REQUEUE || st == LIPS_ERR_INTERRUPTED)
        lips_warn("%s", lips_error()); /* nothing went wrong */
    else if (st != LIPS_OK)
        print_errors(lips_error());
    return lips_exit_code(st);
}
