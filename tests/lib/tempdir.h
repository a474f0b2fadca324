/* tests/lib/tempdir.h - a folder for one test program's files. */
#ifndef TESTS_LIB_TEMPDIR_H
#define TESTS_LIB_TEMPDIR_H

#include <stddef.h>

/* Makes an empty folder under TMPDIR or /tmp; path (at least 256 bytes) receives its name. Aborts
 * the program on failure. */
void tempdir_make(char *path, size_t size);
/* Removes it and all below it. */
void tempdir_remove(const char *path);
/* Number of entries in the folder. */
int tempdir_count(const char *path);

#endif
