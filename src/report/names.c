#include "report/names.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SIZE = 256 };

static size_t place_of(const lips_names *n, const char *text)
{
    size_t at = (size_t)lips_hash64(text, strlen(text)) & (n->size - 1);
    while (n->slot[at] && strcmp(n->slot[at], text) != 0)
        at = (at + 1) & (n->size - 1);
    return at;
}

static lips_status grow(lips_names *n)
{
    lips_names bigger = {.size = n->size ? 2 * n->size : FIRST_SIZE, .used = n->used};
    bigger.slot = calloc(bigger.size, sizeof *bigger.slot);
    if (!bigger.slot)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for the names in a report");
    for (size_t i = 0; i < n->size; i++)
        if (n->slot[i])
            bigger.slot[place_of(&bigger, n->slot[i])] = n->slot[i];
    free(n->slot);
    *n = bigger;
    return LIPS_OK;
}

lips_status lips_names_keep(lips_names *n, const char *text, const char **out)
{
    *out = NULL;
    if (!text)
        return LIPS_OK;
    if (2 * n->used >= n->size)
        LIPS_TRY(grow(n));
    size_t at = place_of(n, text);
    if (!n->slot[at]) {
        n->slot[at] = strdup(text);
        if (!n->slot[at])
            return lips_fail(LIPS_ERR_MEMORY, "out of memory for the names in a report");
        n->used++;
    }
    *out = n->slot[at];
    return LIPS_OK;
}

void lips_names_free(lips_names *n)
{
    for (size_t i = 0; i < n->size; i++)
        free(n->slot[i]);
    free(n->slot);
    *n = (lips_names){0};
}
