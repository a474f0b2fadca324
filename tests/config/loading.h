/* loading.h - a configuration from text, for tests of reading them. */
#ifndef TESTS_CONFIG_LOADING_H
#define TESTS_CONFIG_LOADING_H

#include "../lib/cmocka_all.h"
#include "config/options.h"

#include <string.h>

static lips_status load(lips_experiment *e, const char *yaml, const char *const *overrides, int n)
{
    lips_config_sources src = {
        .yaml_text = yaml, .yaml_label = "c.yaml", .overrides = overrides, .n_overrides = n};
    return lips_experiment_load(e, &src);
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in '%s'", part, text);
}

#endif
