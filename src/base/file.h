/*
 * base/file.h - whole files, atomically; append-only logs; folders; the output lock.
 */
#ifndef LIPS_BASE_FILE_H
#define LIPS_BASE_FILE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* *out = malloc'ed contents (free() them), NUL-terminated, *size without the NUL. Regular files
 * only, at most max bytes. Errors: LIPS_ERR_DATA (missing, not a regular file, too large),
 * LIPS_ERR_MEMORY; text names path. */
lips_status lips_file_read(char **out, size_t *size, const char *path, size_t max);

/* Replaces path by the bytes: writes path.tmp.<pid>.<n>, fsync, rename, fsync of the folder. On
 * any failure up to the rename the old file stands and the temp file is removed; LIPS_ERR_RUNTIME
 * names path and cause. (Should only the folder's fsync fail, the new file stands, complete.) */
lips_status lips_file_write(const char *path, const void *bytes, size_t size);

/* The same in parts: begin gives a FILE to write to; commit or abandon it, once. Write errors may
 * be left to commit. The struct must stay where it is in between. */
typedef struct lips_file_atomic {
    FILE *f;
    int fd;
    int error; /* errno of the first failed write, 0 */
    char path[4096], temp[4200];
} lips_file_atomic;
lips_status lips_file_begin(lips_file_atomic *a, const char *path);
lips_status lips_file_commit(lips_file_atomic *a);
void lips_file_abandon(lips_file_atomic *a);

/* Appends bytes to fd's file in full or fails (LIPS_ERR_RUNTIME; the file is cut back to its old
 * length). path is for the message. No fsync: see lips_file_sync. */
lips_status lips_file_append(int fd, const char *path, const void *bytes, size_t size);
lips_status lips_file_sync(int fd, const char *path);

/* mkdir -p. Errors name the first component that fails. */
lips_status lips_dir_create(const char *path);
lips_status lips_dir_sync(const char *path);
/* Removes temp files that killed processes left in the folder (not in folders below). Those of
 * other living processes of this machine stay; a caller's own must not be in use. */
void lips_dir_remove_temps(const char *path);
bool lips_file_exists(const char *path);

/* snprintf of a path that refuses truncation. */
__attribute__((format(printf, 3, 4))) lips_status lips_path(char *buf, size_t size, const char *fmt,
                                                            ...);

/* The output folder's lock: path holds pid and host while a process works there (flock, so a dead
 * process never blocks). LIPS_ERR_BUSY names the holder. *fd to be given to lips_lock_release. */
lips_status lips_lock_acquire(int *fd, const char *path);
void lips_lock_release(int fd);

#endif
