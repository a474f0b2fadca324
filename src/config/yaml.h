/*
 * config/yaml.h - the part of YAML that a configuration is: one mapping of names to scalars or
 * lists of scalars. Everything else (nesting, anchors, tags, several documents) is reported where
 * it stands.
 */
#ifndef LIPS_CONFIG_YAML_H
#define LIPS_CONFIG_YAML_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lips_yaml_scalar {
    char *text;       /* NUL-terminated, without NULs inside */
    bool plain;       /* not quoted, not a block */
    int line, column; /* from 1 */
} lips_yaml_scalar;

/* Called in the order of the file; views are valid during the call. An error status from value ends
 * the reading. */
typedef struct lips_yaml_handler {
    void *user;
    lips_status (*value)(void *user, const lips_yaml_scalar *key, const lips_yaml_scalar *items,
                         int64_t n, bool is_list);
    void (*error)(void *user, int line, int column, const char *message);
} lips_yaml_handler;

/* LIPS_OK also where errors were reported through the handler; LIPS_ERR_MEMORY. */
lips_status lips_yaml_read(const char *text, size_t size, const lips_yaml_handler *h);

#endif
