/*
 * config/options.h - the option table: one row per key, and the strict reading and exact printing
 * of a key's value. YAML, command line, environment, --help and the README's reference all come
 * from it.
 */
#ifndef LIPS_CONFIG_OPTIONS_H
#define LIPS_CONFIG_OPTIONS_H

#include "config/config.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum lips_option_type {
    LIPS_OPTION_INT,      /* int64_t */
    LIPS_OPTION_UINT,     /* uint64_t, any value */
    LIPS_OPTION_REAL,     /* double, finite */
    LIPS_OPTION_BOOL,     /* true or false */
    LIPS_OPTION_ENUM,     /* a C enum; choices in the enum's order */
    LIPS_OPTION_CHOICE,   /* text, one of the choices */
    LIPS_OPTION_TEXT,     /* any text without control characters */
    LIPS_OPTION_LIST,     /* text: words joined by commas */
    LIPS_OPTION_SCHEDULE, /* lips_schedule */
    LIPS_OPTION_DEVICES   /* text: all, or numbers joined by commas */
} lips_option_type;

enum { LIPS_OPTION_HASHED = 1, LIPS_OPTION_ABOVE = 2, LIPS_OPTION_AUTO = 4 }; /* flags */

typedef struct lips_option {
    const char *name;
    lips_option_type type;
    size_t offset, size;  /* the field in lips_config */
    const char *fallback; /* default, as text */
    double min, max;      /* INT (up to 2^53), REAL: ends included, unless... */
    /* HASHED: changes results, may be swept. ABOVE: min itself is excluded. AUTO: INT, the text
     * auto stands for 0 */
    int flags;
    const char *const *choices; /* ENUM, CHOICE: NULL-terminated */
    const char *tag;            /* short form in cell names; NULL: the name without underscores */
    const char *group;
    const char *help; /* meaning with unit, one line */
} lips_option;

enum { LIPS_VALUE_MAX = 64 }; /* a canonical value of a key that may be swept */

/* The rows, grouped; returns their number. */
int lips_options(const lips_option **out);
/* Row number of a key; '-' counts as '_'. -1 if there is none. */
int lips_option_find(const char *name);
/* Known key nearest to a mistyped one, or NULL. */
const char *lips_option_nearest(const char *name);

void lips_config_defaults(lips_config *c);

/* Sets the field from text. LIPS_ERR_USAGE: the text says what the value must be and what was given
 * ("must be a whole number from 1 to 1000000, not '3.5'"), without the key. */
lips_status lips_option_set(const lips_option *o, lips_config *c, const char *text);
/* Prints the field so that lips_option_set gives the same bits; returns the length as snprintf
 * does. */
int lips_option_print(const lips_option *o, const lips_config *c, char *buf, size_t size);
/* What a value must be: "a whole number from 1 to 1000000". */
void lips_option_expects(const lips_option *o, char *buf, size_t size);

/* Strict numbers: no blanks, no hexadecimal, no nan or inf, no overflow or underflow. "1e3" is a
 * whole number. */
bool lips_read_real(const char *text, double *out);
bool lips_read_int(const char *text, int64_t *out);

/* Shortest decimal text that reads back to the same double; returns its length. */
int lips_real_print(double v, char buf[32]);
/* text for messages: in single quotes, control characters as '?', cut at 48 bytes with "...". */
enum { LIPS_QUOTE_MAX = 64 };
const char *lips_quote(char buf[LIPS_QUOTE_MAX], const char *text);

/* Is this one of the schedules of lips_schedule? */
bool lips_schedule_valid(const char *text);

#endif
