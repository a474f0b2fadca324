/* cli/args.c - one subcommand's line, read by its tables. */
#include "base/nearest.h"
#include "cli/cli.h"
#include "config/options.h"
#include "measure/probing.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 64, TEXT_MAX_BYTES = 4096 };

static const lips_flag common_flags[] = {{"help", NULL, ""}, {"quiet", NULL, ""}};
enum { COMMON = sizeof common_flags / sizeof *common_flags };

typedef struct parser {
    lips_args *out;
    int argc, at;
    char **argv;
    char errors[TEXT_MAX_BYTES];
} parser;

__attribute__((format(printf, 2, 3))) static void complain(parser *p, const char *fmt, ...)
{
    size_t used = strlen(p->errors);
    if (used > 0 && used + 1 < sizeof p->errors)
        p->errors[used++] = '\n';
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->errors + used, sizeof p->errors - used, fmt, ap);
    va_end(ap);
}

static bool same_name(const char *a, const char *b)
{
    while (*a && (*a == *b || (*a == '_' && *b == '-') || (*a == '-' && *b == '_')))
        a++, b++;
    return *a == *b;
}

static int flag_count(const lips_command *c)
{
    int n = 0;
    while (c->flags && c->flags[n].name)
        n++;
    return n;
}

/* key "": value is "key=value" already. */
static lips_status add_override(parser *p, const char *key, const char *value)
{
    size_t size = strlen(key) + strlen(value) + 2;
    char *text = malloc(size);
    if (!text)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for the command line");
    snprintf(text, size, "%s%s%s", key, key[0] ? "=" : "", value);
    p->out->overrides[p->out->n_overrides++] = text;
    return LIPS_OK;
}

static void unknown_option(parser *p, const char *name)
{
    const lips_command *c = p->out->command;
    const lips_option *options;
    int n_options = c->keys ? lips_options(&options) : 0, n = 0, n_flags = flag_count(c);
    const char *names[LIPS_FLAGS_MAX + COMMON + 128];
    for (int i = 0; i < COMMON; i++)
        names[n++] = common_flags[i].name;
    for (int i = 0; i < n_flags; i++)
        names[n++] = c->flags[i].name;
    for (int i = 0; i < n_options && n < (int)(sizeof names / sizeof *names); i++)
        names[n++] = options[i].name;
    const char *near = lips_nearest(name, names, n);
    char quoted[LIPS_QUOTE_MAX], meant[NAME_MAX_BYTES + 32] = "";
    if (near)
        snprintf(meant, sizeof meant, " (did you mean --%s?)", near);
    for (char *q = strchr(meant, '_'); q; q = strchr(q, '_'))
        *q = '-';
    complain(p, "%s: unknown option %s%s", c->name, lips_quote(quoted, name), meant);
}

/* The value of --name: behind '=', or the next argument. NULL after a complaint. */
static const char *take_value(parser *p, const char *name, const char *inline_value)
{
    if (inline_value)
        return inline_value;
    if (p->at < p->argc)
        return p->argv[p->at++];
    complain(p, "%s: --%s needs a value", p->out->command->name, name);
    return NULL;
}

/* A bool key may stand alone: --augment. */
static bool stands_alone(const parser *p, int row)
{
    const lips_option *options;
    lips_options(&options);
    if (options[row].type != LIPS_OPTION_BOOL)
        return false;
    const char *next = p->at < p->argc ? p->argv[p->at] : "";
    return strncmp(next, "true", 4) != 0 && strncmp(next, "false", 5) != 0;
}

static lips_status take_key(parser *p, int row, const char *name, const char *value)
{
    const lips_option *options;
    lips_options(&options);
    if (!value && stands_alone(p, row))
        value = "true";
    value = take_value(p, name, value);
    return value ? add_override(p, options[row].name, value) : LIPS_OK;
}

static void take_flag(parser *p, int row, const char *value)
{
    const lips_flag *f = &p->out->command->flags[row];
    if (p->out->values[row])
        complain(p, "%s: --%s is given twice", p->out->command->name, f->name);
    else if (!f->arg && value)
        complain(p, "%s: --%s takes no value", p->out->command->name, f->name);
    else
        p->out->values[row] = f->arg ? take_value(p, f->name, value) : "";
}

static lips_status take_option(parser *p, const char *text)
{
    const lips_command *c = p->out->command;
    char name[NAME_MAX_BYTES];
    const char *equals = strchr(text, '=');
    size_t len = equals ? (size_t)(equals - text) : strlen(text);
    snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), text);
    const char *value = equals ? equals + 1 : NULL;
    if (!value && same_name(name, "help")) {
        p->out->help = true;
        return LIPS_OK;
    }
    if (!value && same_name(name, "quiet")) {
        p->out->quiet = true;
        return LIPS_OK;
    }
    for (int i = 0; i < flag_count(c); i++) {
        if (same_name(name, c->flags[i].name)) {
            take_flag(p, i, value);
            return LIPS_OK;
        }
    }
    if (c->keys && same_name(name, "set")) {
        value = take_value(p, "set", value);
        return value ? add_override(p, "", value) : LIPS_OK;
    }
    int row = c->keys ? lips_option_find(name) : -1;
    if (row >= 0)
        return take_key(p, row, name, value);
    unknown_option(p, name);
    return LIPS_OK;
}

/* key=value, and no path with '=' in it. */
static bool is_setting(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return len > 0 && text[len] == '=';
}

static lips_status parse_all(parser *p)
{
    const lips_command *c = p->out->command;
    bool options = true;
    while (p->at < p->argc) {
        const char *text = p->argv[p->at++];
        if (options && strcmp(text, "--") == 0)
            options = false;
        else if (options && strcmp(text, "-h") == 0)
            p->out->help = true;
        else if (options && strncmp(text, "--", 2) == 0)
            LIPS_TRY(take_option(p, text + 2));
        else if (options && text[0] == '-' && text[1] != '\0')
            unknown_option(p, text);
        else if (options && c->keys && is_setting(text))
            LIPS_TRY(add_override(p, "", text));
        else
            p->out->positional[p->out->n_positional++] = text;
    }
    return LIPS_OK;
}

static void check_count(parser *p)
{
    const lips_command *c = p->out->command;
    char quoted[LIPS_QUOTE_MAX];
    if (p->out->help)
        return;
    if (p->out->n_positional < c->min_args)
        complain(p, "%s: something is missing; usage: lipsweep %s %s", c->name, c->name, c->usage);
    if (p->out->n_positional > c->max_args)
        complain(p, "%s: unexpected argument %s; usage: lipsweep %s %s", c->name,
                 lips_quote(quoted, p->out->positional[c->max_args]), c->name, c->usage);
}

lips_status lips_args_parse(lips_args *out, const lips_command *c, int argc, char **argv)
{
    *out = (lips_args){.command = c, .argv = argv, .argc = argc};
    parser *p = calloc(1, sizeof *p);
    out->positional = calloc((size_t)argc + 1, sizeof *out->positional);
    out->overrides = calloc((size_t)argc + 1, sizeof *out->overrides);
    lips_status st = LIPS_OK;
    if (!p || !out->positional || !out->overrides) {
        st = lips_fail(LIPS_ERR_MEMORY, "no memory for the command line");
    } else {
        p->out = out;
        p->argc = argc;
        p->argv = argv;
        st = parse_all(p);
        check_count(p);
        if (st == LIPS_OK && p->errors[0] && !out->help)
            st = lips_fail(LIPS_ERR_USAGE, "%s", p->errors);
    }
    free(p);
    if (st != LIPS_OK)
        lips_args_free(out);
    return st;
}

void lips_args_free(lips_args *a)
{
    for (int i = 0; a->overrides && i < a->n_overrides; i++)
        free(a->overrides[i]);
    free(a->overrides);
    free(a->positional);
    *a = (lips_args){0};
}

const char *lips_args_value(const lips_args *a, const char *flag)
{
    for (int i = 0; i < flag_count(a->command); i++)
        if (strcmp(a->command->flags[i].name, flag) == 0)
            return a->values[i];
    return NULL;
}

bool lips_args_has(const lips_args *a, const char *flag)
{
    return lips_args_value(a, flag) != NULL;
}

lips_status lips_args_int(const lips_args *a, const char *flag, int64_t min, int64_t max,
                          int64_t *out)
{
    const char *text = lips_args_value(a, flag);
    char quoted[LIPS_QUOTE_MAX];
    int64_t v;
    if (!text)
        return LIPS_OK;
    if (!lips_read_int(text, &v) || v < min || v > max)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: --%s must be a whole number from %" PRId64 " to %" PRId64 ", not %s",
                         a->command->name, flag, min, max, lips_quote(quoted, text));
    *out = v;
    return LIPS_OK;
}

lips_status lips_cli_check_list(const char *key, const char *value)
{
    lips_metrics metrics;
    unsigned probes;
    return strcmp(key, "probes") == 0 ? lips_probes_parse(&probes, value)
                                      : lips_metrics_parse(&metrics, value);
}

lips_status lips_args_experiment(const lips_args *a, lips_experiment *out, bool keep_out)
{
    const lips_config_sources src = {.yaml_path = a->n_positional ? a->positional[0] : NULL,
                                     .overrides = (const char *const *)a->overrides,
                                     .n_overrides = a->n_overrides,
                                     .use_env = true,
                                     .keep_out = keep_out,
                                     .check_list = lips_cli_check_list};
    return lips_experiment_load(out, &src);
}
