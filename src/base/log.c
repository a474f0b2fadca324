#include "base/log.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_MAX = 8192, LINE_MAX_TEXT = 512 };

/* Seconds: nothing is shown before the first; redraws of a live line; plain lines, ever sparser. */
static const double quiet_for = 2, redraw_every = 0.1, plain_first = 10, plain_most = 120;

/* A process has one stderr, so it has one of these: a message must clear the live line and put it
 * back, whichever thread it comes from. */
static struct {
    pthread_mutex_t lock;
    lips_log_level level;
    char live[LINE_MAX_TEXT]; /* shown now, "" if none */
} log_state = {.lock = PTHREAD_MUTEX_INITIALIZER, .level = LIPS_LOG_INFO};

struct lips_progress {
    char label[64];
    double total, start, next, gap;
    bool terminal, shown;
};

double lips_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void lips_log_set_level(lips_log_level level)
{
    pthread_mutex_lock(&log_state.lock);
    log_state.level = level;
    pthread_mutex_unlock(&log_state.lock);
}

lips_log_level lips_log_get_level(void)
{
    pthread_mutex_lock(&log_state.lock);
    lips_log_level level = log_state.level;
    pthread_mutex_unlock(&log_state.lock);
    return level;
}

static bool on_terminal(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
}

static bool in_colour(void)
{
    const char *no = getenv("NO_COLOR");
    return on_terminal() && !(no && no[0]);
}

static void show_live(void)
{
    if (log_state.live[0])
        fprintf(stderr, "\r\033[K%s", log_state.live);
}

static void message(lips_log_level level, const char *prefix, int colour, const char *fmt,
                    va_list ap)
{
    char text[MESSAGE_MAX];
    vsnprintf(text, sizeof text, fmt, ap);
    for (char *p = text; *p; p++)
        if (((unsigned char)*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7f)
            *p = '?';
    pthread_mutex_lock(&log_state.lock);
    if (log_state.level >= level) {
        if (log_state.live[0])
            fputs("\r\033[K", stderr);
        if (colour && in_colour())
            fprintf(stderr, "\033[1;%dm%s\033[0m%s\n", colour, prefix, text);
        else
            fprintf(stderr, "%s%s\n", prefix, text);
        show_live();
        fflush(stderr);
    }
    pthread_mutex_unlock(&log_state.lock);
}

void lips_info(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    message(LIPS_LOG_INFO, "", 0, fmt, ap);
    va_end(ap);
}

void lips_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    message(LIPS_LOG_WARN, "warning: ", 33, fmt, ap);
    va_end(ap);
}

void lips_error_line(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    message(LIPS_LOG_QUIET, "error: ", 31, fmt, ap);
    va_end(ap);
}

void lips_duration_text(char *buf, size_t size, double seconds)
{
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e9) {
        snprintf(buf, size, "?");
        return;
    }
    long s = lround(seconds);
    if (seconds < 9.95)
        snprintf(buf, size, "%.1f s", seconds);
    else if (s < 60)
        snprintf(buf, size, "%ld s", s);
    else if (s < 3600)
        snprintf(buf, size, "%ld min %02ld s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(buf, size, "%ld h %02ld min", s / 3600, s / 60 % 60);
    else
        snprintf(buf, size, "%ld d %02ld h", s / 86400, s / 3600 % 24);
}

void lips_progress_text(char *buf, size_t size, const char *label, double share, double elapsed,
                        const char *note)
{
    char took[32], left[32];
    lips_duration_text(took, sizeof took, elapsed);
    lips_duration_text(left, sizeof left, share > 0 ? elapsed * (1 - share) / share : NAN);
    snprintf(buf, size, "%s %3.0f %%  %s  elapsed %s, left %s", label, 100 * share, note, took,
             left);
}

lips_progress *lips_progress_start(const char *label, double total)
{
    lips_progress *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    snprintf(p->label, sizeof p->label, "%s", label);
    p->total = total;
    p->start = lips_now();
    p->terminal = on_terminal();
    p->gap = p->terminal ? redraw_every : plain_first;
    p->next = p->start + (p->terminal ? quiet_for : plain_first);
    return p;
}

/* Under the lock. */
static void draw(lips_progress *p, const char *line)
{
    p->shown = true;
    if (!p->terminal) {
        fprintf(stderr, "%s\n", line);
    } else {
        /* A line longer than the terminal would scroll instead of being redrawn. */
        struct winsize w;
        int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col : 80;
        snprintf(log_state.live, sizeof log_state.live, "%.*s", columns - 1, line);
        show_live();
    }
    fflush(stderr);
}

void lips_progress_update(lips_progress *p, double done, const char *note)
{
    if (!p)
        return;
    pthread_mutex_lock(&log_state.lock);
    double now = lips_now();
    if (now >= p->next && log_state.level >= LIPS_LOG_INFO) {
        double share = p->total > 0 ? done / p->total : 0;
        share = share > 1 ? 1 : share > 0 ? share : 0;
        char line[LINE_MAX_TEXT];
        lips_progress_text(line, sizeof line, p->label, share, now - p->start, note);
        draw(p, line);
        p->next = now + p->gap;
        if (!p->terminal && p->gap < plain_most)
            p->gap *= 1.5;
    }
    pthread_mutex_unlock(&log_state.lock);
}

void lips_progress_finish(lips_progress *p, const char *note)
{
    if (!p)
        return;
    pthread_mutex_lock(&log_state.lock);
    double elapsed = lips_now() - p->start;
    if ((p->shown || elapsed >= quiet_for) && log_state.level >= LIPS_LOG_INFO) {
        char took[32];
        lips_duration_text(took, sizeof took, elapsed);
        fprintf(stderr, "%s%s  %s  %s\n", p->terminal ? "\r\033[K" : "", p->label, note, took);
        fflush(stderr);
    }
    log_state.live[0] = '\0';
    pthread_mutex_unlock(&log_state.lock);
    free(p);
}
