#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void put(lips_json *j, const char *text, size_t n)
{
    if (j->len < j->size) {
        size_t room = j->size - j->len - 1;
        size_t copy = n < room ? n : room;
        memcpy(j->buf + j->len, text, copy);
        j->buf[j->len + copy] = '\0';
    }
    j->len += n;
}

static void quote(lips_json *j, const char *s)
{
    put(j, "\"", 1);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        char esc[8];
        if (c == '"' || c == '\\')
            put(j, (char[]){'\\', *s}, 2);
        else if (c == '\n')
            put(j, "\\n", 2);
        else if (c < 0x20)
            put(j, esc, (size_t)snprintf(esc, sizeof esc, "\\u%04x", c));
        else
            put(j, s, 1);
    }
    put(j, "\"", 1);
}

static void begin(lips_json *j, const char *key)
{
    if (j->comma)
        put(j, ",", 1);
    j->comma = true;
    if (key) {
        quote(j, key);
        put(j, ":", 1);
    }
}

lips_json lips_json_start(char *buf, size_t size)
{
    if (size)
        buf[0] = '\0';
    return (lips_json){.buf = buf, .size = size};
}

void lips_json_open(lips_json *j, const char *key, char bracket)
{
    begin(j, key);
    put(j, &bracket, 1);
    j->comma = false;
}

void lips_json_close(lips_json *j, char bracket)
{
    put(j, &bracket, 1);
    j->comma = true;
}

void lips_json_string(lips_json *j, const char *key, const char *value)
{
    begin(j, key);
    quote(j, value);
}

void lips_json_int(lips_json *j, const char *key, int64_t value)
{
    char t[24];
    begin(j, key);
    put(j, t, (size_t)snprintf(t, sizeof t, "%" PRId64, value));
}

void lips_json_bool(lips_json *j, const char *key, bool value)
{
    begin(j, key);
    put(j, value ? "true" : "false", value ? 4 : 5);
}

void lips_json_null(lips_json *j, const char *key)
{
    begin(j, key);
    put(j, "null", 4);
}

void lips_json_number(lips_json *j, const char *key, double value)
{
    if (!isfinite(value)) {
        j->nonfinite = true;
        lips_json_string(j, key, isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
        return;
    }
    char t[40];
    begin(j, key);
    /* "-0" would be read back as the integer 0. */
    bool negative_zero = value == 0 && signbit(value);
    put(j, t, (size_t)snprintf(t, sizeof t, negative_zero ? "-0.0" : "%.17g", value));
}
