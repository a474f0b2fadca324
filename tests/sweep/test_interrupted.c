/* Sweeps that are killed, or stopped by signals, again and again: the same bytes in the end. */
#include "sweeps.h"

#include <signal.h>
#include <sys/stat.h>
#include <time.h>

static void wait_milliseconds(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Bytes of records in the folder, so far. */
static int64_t recorded(const char *out)
{
    char path[1024];
    int64_t bytes = 0;
    snprintf(path, sizeof path, "%s/%s/cells", folder, out);
    DIR *d = opendir(path);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        struct stat s;
        snprintf(path, sizeof path, "%s/%s/cells/%.200s/metrics.jsonl", folder, out, e->d_name);
        bytes += stat(path, &s) == 0 ? (int64_t)s.st_size : 0;
    }
    if (d)
        closedir(d);
    return bytes;
}

/* The status at the end of the run, which is killed once so much is recorded. */
static int kill_at(pid_t pid, const char *out, int64_t bytes)
{
    int status;
    while (recorded(out) < bytes) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
        wait_milliseconds(1);
    }
    kill(pid, SIGKILL);
    return end(pid);
}

/* Killed again and again, further on each time, then left to finish. */
static void test_kill_and_resume(void **state)
{
    (void)state;
    make_reference();
    const int64_t whole = recorded("reference");
    int killed = 0;
    for (int trial = 0; trial < 4; trial++) {
        char out[32];
        int st = -SIGKILL;
        snprintf(out, sizeof out, "kill%d", trial);
        for (int i = 0; i < 8 && st != LIPS_OK; i++) {
            pid_t pid = begin(out, "jobs=2", (flags){0}); /* checkpoints after each epoch */
            st = kill_at(pid, out, whole * (3 * trial + 12 * i) / 100);
            killed += st == -SIGKILL;
            assert_true(st == LIPS_OK || st == -SIGKILL);
        }
        assert_int_equal(run(out, "jobs=2"), LIPS_OK);
        assert_same(out, "reference");
    }
    assert_true(killed >= 16);
}

/* The signal comes while cells train, again and again; each time the run ends with its checkpoint.
 */
static void stops_by(int sig, lips_status want)
{
    char out[32], lock[512];
    int stopped = 0, st = (int)want;
    snprintf(out, sizeof out, "signal%d", sig);
    snprintf(lock, sizeof lock, "%s/%s/lock", folder, out);
    for (int i = 0; i < 300 && st == (int)want; i++) {
        unlink(lock);
        pid_t pid = begin(out, "jobs=1 checkpoint_epochs=0", (flags){0});
        /* The signals are caught before the lock is taken. */
        while (!lips_file_exists(lock))
            wait_milliseconds(5);
        wait_milliseconds(i * 4);
        kill(pid, sig);
        st = end(pid);
        stopped += st == (int)want;
    }
    assert_int_equal(st, LIPS_OK);
    assert_true(stopped > 0);
    assert_same(out, "reference");
}

static void test_signals_checkpoint(void **state)
{
    (void)state;
    make_reference();
    stops_by(SIGTERM, LIPS_ERR_REQUEUE);
    stops_by(SIGUSR2, LIPS_ERR_REQUEUE);
    stops_by(SIGINT, LIPS_ERR_INTERRUPTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_and_resume),
        cmocka_unit_test(test_signals_checkpoint),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
