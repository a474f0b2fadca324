/* report/names.h - each different string once: records have few words and many lines. */
#ifndef LIPS_REPORT_NAMES_H
#define LIPS_REPORT_NAMES_H

#include "base/status.h"

typedef struct lips_names {
    char **slot; /* open addressing; size a power of two */
    size_t size, used;
} lips_names;

/* *out = the kept copy of text; NULL stays NULL. It lives until lips_names_free. */
lips_status lips_names_keep(lips_names *n, const char *text, const char **out);
void lips_names_free(lips_names *n);

#endif
