/* base/nearest.h - the known name that a mistyped one was probably meant to be. */
#ifndef LIPS_BASE_NEAREST_H
#define LIPS_BASE_NEAREST_H

/* The element of names (n) with the smallest edit distance to word (insert, delete, replace and
 * swap of neighbours count 1; '-' equals '_', case is ignored), the first among equals; NULL if the
 * best is further away than a third of the longer of the two, at least 2. */
const char *lips_nearest(const char *word, const char *const *names, int n);

#endif
