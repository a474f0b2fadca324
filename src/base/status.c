#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 8192, TRACE_MAX = 2048 };

/* Per thread, like errno: the only state that outlives a call outside a context. */
static _Thread_local char error_text[TEXT_MAX];
static _Thread_local char error_trace[TRACE_MAX];

lips_status lips_fail(lips_status st, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(error_text, sizeof error_text, fmt, ap);
    va_end(ap);
    error_trace[0] = '\0';
    return st;
}

lips_status lips_fail_prefix(lips_status st, const char *fmt, ...)
{
    char old[TEXT_MAX];
    memcpy(old, error_text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(error_text, sizeof error_text, fmt, ap);
    va_end(ap);
    if (n >= 0 && n < TEXT_MAX)
        snprintf(error_text + n, sizeof error_text - (size_t)n, "%s", old);
    return st;
}

lips_status lips_trace(lips_status st, const char *file, int line, const char *call)
{
    size_t used = strlen(error_trace);
    snprintf(error_trace + used, sizeof error_trace - used, "%s%s:%d %s", used ? "\n" : "", file,
             line, call);
    return st;
}

void lips_error_clear(void)
{
    error_text[0] = '\0';
    error_trace[0] = '\0';
}

const char *lips_error(void)
{
    return error_text;
}

const char *lips_error_trace(void)
{
    return error_trace;
}

int lips_exit_code(lips_status st)
{
    switch (st) {
    case LIPS_OK: return 0;
    case LIPS_ERR_USAGE:
    case LIPS_ERR_UNSUPPORTED: return 2;
    case LIPS_ERR_PARTIAL: return 3;
    case LIPS_ERR_BUSY: return 4;
    case LIPS_ERR_MEMORY: return 5;
    case LIPS_ERR_DATA: return 6;
    case LIPS_ERR_REQUEUE: return 75;
    case LIPS_ERR_INTERRUPTED: return 130;
    case LIPS_ERR_RUNTIME:
    case LIPS_ERR_DEVICE:
    case LIPS_ERR_DIVERGED: break;
    }
    return 1;
}
