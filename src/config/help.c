/* config/help.c - the option table for readers. */
#include "config/options.h"

#include <string.h>

static void help_plain(FILE *f, const lips_option *o)
{
    char expects[512];
    lips_option_expects(o, expects, sizeof expects);
    fprintf(f, "  %-18s %s\n  %-18s %s; default %s\n", o->name, o->help, "", expects,
            o->fallback[0] ? o->fallback : "empty");
}

static void help_markdown(FILE *f, const lips_option *o)
{
    char expects[512];
    lips_option_expects(o, expects, sizeof expects);
    fprintf(f, "| `%s` | %s | %s%s%s | %s |\n", o->name, expects, o->fallback[0] ? "`" : "",
            o->fallback[0] ? o->fallback : "empty", o->fallback[0] ? "`" : "", o->help);
}

void lips_config_help(FILE *f, bool markdown)
{
    const lips_option *options;
    int n = lips_options(&options);
    const char *group = "";
    for (int i = 0; i < n; i++) {
        if (strcmp(group, options[i].group) != 0) {
            group = options[i].group;
            if (markdown)
                fprintf(f, "%s**%s**\n\n| key | value | default | meaning |\n|---|---|---|---|\n",
                        i ? "\n" : "", group);
            else
                fprintf(f, "%s%s:\n", i ? "\n" : "", group);
        }
        (markdown ? help_markdown : help_plain)(f, &options[i]);
    }
}
