/* base/log.c and base/signals.c: what goes to stderr, and what a signal leaves behind. */
#include "base/log.h"
#include "base/signals.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* stderr of what() into text; a file is no terminal. */
static void capture(void (*what)(void), char *text, size_t size)
{
    FILE *f = tmpfile();
    assert_non_null(f);
    fflush(stderr);
    int keep = dup(STDERR_FILENO);
    dup2(fileno(f), STDERR_FILENO);
    what();
    fflush(stderr);
    dup2(keep, STDERR_FILENO);
    close(keep);
    rewind(f);
    text[fread(text, 1, size - 1, f)] = '\0';
    fclose(f);
}

static void say_all(void)
{
    lips_info("plain %d", 1);
    lips_warn("odd %s", "a\033[31mb\tc");
    lips_error_line("bad: %s", "x.yaml:3:1: one\nx.yaml:4:1: two");
}

static void messages_are_plain_lines(void **state)
{
    (void)state;
    char text[1024];
    capture(say_all, text, sizeof text);
    assert_string_equal(text, "plain 1\nwarning: odd a?[31mb\tc\n"
                              "error: bad: x.yaml:3:1: one\nx.yaml:4:1: two\n");
    lips_log_set_level(LIPS_LOG_WARN);
    assert_int_equal(lips_log_get_level(), LIPS_LOG_WARN);
    capture(say_all, text, sizeof text);
    assert_memory_equal(text, "warning: ", 9);
    lips_log_set_level(LIPS_LOG_QUIET);
    capture(say_all, text, sizeof text);
    assert_memory_equal(text, "error: ", 7);
    lips_log_set_level(LIPS_LOG_INFO);
}

static void short_job(void)
{
    lips_progress *p = lips_progress_start("short", 10);
    lips_progress_update(p, 5, "half");
    lips_progress_finish(p, "done");
    lips_progress_update(NULL, 1, "no memory");
    lips_progress_finish(NULL, "no memory");
}

static void short_jobs_show_no_progress(void **state)
{
    (void)state;
    char text[256];
    capture(short_job, text, sizeof text);
    assert_string_equal(text, "");
}

static void longer_job(void)
{
    lips_progress *p = lips_progress_start("sweep", 10);
    lips_progress_update(p, 1, "1/10 cells");
    sleep(2); /* past the quiet time; the next plain line is not due before 10 s */
    lips_progress_update(p, 5, "5/10 cells");
    lips_progress_finish(p, "10/10 cells");
}

static void longer_jobs_end_with_a_line(void **state)
{
    (void)state;
    char text[256];
    capture(longer_job, text, sizeof text);
    assert_memory_equal(text, "sweep  10/10 cells  2.", 22);
    assert_null(strchr(text, '\r'));
    assert_non_null(strstr(text, " s\n"));
}

static void durations_are_readable(void **state)
{
    (void)state;
    static const struct {
        double s;
        const char *want;
    } t[] = {{0, "0.0 s"},
             {3.14, "3.1 s"},
             {9.97, "10 s"},
             {59.4, "59 s"},
             {59.6, "1 min 00 s"},
             {245, "4 min 05 s"},
             {7620, "2 h 07 min"},
             {3.0 * 86400 + 4 * 3600, "3 d 04 h"},
             {-1, "?"},
             {NAN, "?"},
             {INFINITY, "?"},
             {1e300, "?"}};
    char buf[32];
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        lips_duration_text(buf, sizeof buf, t[i].s);
        assert_string_equal(buf, t[i].want);
    }
    char line[200];
    lips_progress_text(line, sizeof line, "sweep", 0.25, 10, "15/60 cells");
    assert_string_equal(line, "sweep  25 %  15/60 cells  elapsed 10 s, left 30 s");
    lips_progress_text(line, sizeof line, "sweep", 0, 10, "0/60 cells");
    assert_string_equal(line, "sweep   0 %  0/60 cells  elapsed 10 s, left ?");
    double before = lips_now();
    assert_true(lips_now() >= before);
}

/* In a child: installs, raises the signals given, exits with the pending status. */
static int after_signals(const int *sigs, int n)
{
    pid_t child = fork();
    if (child == 0) {
        if (lips_signals_install() != LIPS_OK || lips_signals_pending() != LIPS_OK)
            _exit(99);
        for (int i = 0; i < n; i++)
            raise(sigs[i]);
        _exit((int)lips_signals_pending());
    }
    int how = -1;
    waitpid(child, &how, 0);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

static void signals_wait_to_be_asked(void **state)
{
    (void)state;
    assert_int_equal(after_signals((int[]){SIGINT}, 1), LIPS_ERR_INTERRUPTED);
    assert_int_equal(after_signals((int[]){SIGTERM}, 1), LIPS_ERR_REQUEUE);
    assert_int_equal(after_signals((int[]){SIGUSR2}, 1), LIPS_ERR_REQUEUE);
    assert_int_equal(after_signals((int[]){SIGXFSZ}, 1), LIPS_OK);
    /* USR2 is a batch system's warning, TERM its request: only the next one hurries. */
    assert_int_equal(after_signals((int[]){SIGUSR2, SIGUSR2, SIGTERM}, 3), LIPS_ERR_REQUEUE);
    assert_int_equal(after_signals((int[]){SIGINT, SIGINT}, 2), 130);
    assert_int_equal(after_signals((int[]){SIGTERM, SIGTERM}, 2), 143);
    assert_int_equal(after_signals((int[]){SIGTERM, SIGINT}, 2), 130);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_plain_lines),
        cmocka_unit_test(short_jobs_show_no_progress),
        cmocka_unit_test(longer_jobs_end_with_a_line),
        cmocka_unit_test(durations_are_readable),
        cmocka_unit_test(signals_wait_to_be_asked),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
