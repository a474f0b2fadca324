/*
 * base/json.h - writing JSON into a buffer. Reading is jansson's, with duplicates refused.
 */
#ifndef LIPS_BASE_JSON_H
#define LIPS_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One object or array being written. Like snprintf it never writes beyond size and goes on counting
 * in len; buf is NUL-terminated if size > 0. */
typedef struct lips_json {
    char *buf;
    size_t size, len;
    bool comma;     /* the next member needs one */
    bool nonfinite; /* a number was "nan", "inf" or "-inf" */
} lips_json;

lips_json lips_json_start(char *buf, size_t size);
/* key NULL: an array's element, or the outermost value. */
void lips_json_open(lips_json *j, const char *key, char bracket); /* '{' or '[' */
void lips_json_close(lips_json *j, char bracket);                 /* '}' or ']' */
void lips_json_string(lips_json *j, const char *key, const char *value);
void lips_json_int(lips_json *j, const char *key, int64_t value);
void lips_json_bool(lips_json *j, const char *key, bool value);
void lips_json_null(lips_json *j, const char *key);
/* 17 significant digits; what is not finite becomes the string "nan", "inf" or "-inf". */
void lips_json_number(lips_json *j, const char *key, double value);

#endif
