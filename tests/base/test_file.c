/* base/file.c: whole files, atomic replacement under failing writes, appends, folders, the lock. */
#include "base/file.h"
#include "../lib/tempdir.h"
#include "fault_io.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <cmocka.h>

static char dir[256];

static const char *in_dir(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void expect_content(const char *path, const char *want, size_t size)
{
    char *got = NULL;
    size_t n = 0;
    assert_int_equal(lips_file_read(&got, &n, path, 1 << 20), LIPS_OK);
    assert_int_equal(n, size);
    assert_memory_equal(got, want, size);
    assert_int_equal(got[n], 0);
    free(got);
}

static void read_takes_regular_files_only(void **state)
{
    (void)state;
    char *got = NULL;
    size_t n = 0;
    assert_int_equal(lips_file_read(&got, &n, in_dir("none"), 10), LIPS_ERR_DATA);
    assert_non_null(strstr(lips_error(), "none: No such file"));
    assert_int_equal(lips_file_read(&got, &n, dir, 10), LIPS_ERR_DATA);
    assert_non_null(strstr(lips_error(), "is a folder, not a file"));
    assert_int_equal(mkfifo(in_dir("pipe"), 0600), 0);
    assert_int_equal(lips_file_read(&got, &n, in_dir("pipe"), 10), LIPS_ERR_DATA); /* no waiting */
    assert_non_null(strstr(lips_error(), "is a pipe, not a file"));
    unlink(in_dir("pipe"));
    assert_int_equal(lips_file_read(&got, &n, "/dev/null", 10), LIPS_ERR_DATA);
    assert_int_equal(lips_file_write(in_dir("empty"), "", 0), LIPS_OK);
    expect_content(in_dir("empty"), "", 0);
    assert_int_equal(lips_file_write(in_dir("eleven"), "hello\0world", 11), LIPS_OK);
    assert_int_equal(lips_file_read(&got, &n, in_dir("eleven"), 10), LIPS_ERR_DATA);
    assert_non_null(strstr(lips_error(), "too large: 11 bytes, the limit is 10"));
    expect_content(in_dir("eleven"), "hello\0world", 11);
    unlink(in_dir("empty"));
    unlink(in_dir("eleven"));
}

static void write_syncs_then_renames(void **state)
{
    (void)state;
    fault_io_reset();
    assert_int_equal(lips_file_write(in_dir("a"), "new", 3), LIPS_OK);
    assert_string_equal(fault_io.trace, "write fsync rename fsyncdir ");
    assert_int_equal(tempdir_count(dir), 1);
    unlink(in_dir("a"));
}

/* A file of several buffers' size, so that there are many writes to fail. */
enum { BIG = 50000, PIECE = 1000 };

static lips_status write_pieces(const char *path, char fill)
{
    char piece[PIECE];
    memset(piece, fill, sizeof piece);
    lips_file_atomic a;
    lips_status st = lips_file_begin(&a, path);
    if (st != LIPS_OK)
        return st;
    for (int i = 0; i < BIG / PIECE; i++)
        (void)!fwrite(piece, 1, sizeof piece, a.f);
    return lips_file_commit(&a);
}

static void failing_writes_leave_the_old_file(void **state)
{
    (void)state;
    static const int errors[] = {ENOSPC, EIO, EDQUOT};
    static char old[BIG], new[BIG];
    memset(old, 'o', BIG);
    memset(new, 'n', BIG);
    char path[512];
    snprintf(path, sizeof path, "%s", in_dir("big"));
    for (size_t e = 0; e < 3; e++) {
        for (int n = 1;; n++) {
            fault_io_reset();
            assert_int_equal(lips_file_write(path, old, BIG), LIPS_OK);
            fault_io_reset();
            fault_io.most = 3000; /* short writes as well */
            fault_io.fail_write = n;
            fault_io.write_error = errors[e];
            lips_status st = write_pieces(path, 'n');
            assert_int_equal(tempdir_count(dir), 1);
            if (st == LIPS_OK) { /* n was beyond the last write */
                assert_true(n > BIG / 3000);
                expect_content(path, new, BIG);
                break;
            }
            assert_int_equal(st, LIPS_ERR_RUNTIME);
            assert_non_null(strstr(lips_error(), path));
            assert_non_null(strstr(lips_error(), strerror(errors[e])));
            expect_content(path, old, BIG);
        }
    }
    fault_io_reset();
    unlink(path);
}

static void failing_fsync_and_rename_leave_the_old_file(void **state)
{
    (void)state;
    fault_io_reset();
    assert_int_equal(lips_file_write(in_dir("a"), "old", 3), LIPS_OK);
    fault_io_reset();
    fault_io.fail_fsync = 1;
    assert_int_equal(lips_file_write(in_dir("a"), "new", 3), LIPS_ERR_RUNTIME);
    assert_null(strstr(fault_io.trace, "rename"));
    expect_content(in_dir("a"), "old", 3);
    fault_io_reset();
    fault_io.fail_rename = 1;
    assert_int_equal(lips_file_write(in_dir("a"), "new", 3), LIPS_ERR_RUNTIME);
    expect_content(in_dir("a"), "old", 3);
    assert_int_equal(tempdir_count(dir), 1);
    fault_io_reset();
    fault_io.fail_fsync = 2; /* the folder's: told, and the new file is complete */
    assert_int_equal(lips_file_write(in_dir("a"), "new", 3), LIPS_ERR_RUNTIME);
    expect_content(in_dir("a"), "new", 3);
    fault_io_reset();
    unlink(in_dir("a"));
}

static void abandoning_leaves_nothing(void **state)
{
    (void)state;
    lips_file_atomic a;
    assert_int_equal(lips_file_begin(&a, in_dir("a")), LIPS_OK);
    fputs("half", a.f);
    lips_file_abandon(&a);
    assert_int_equal(tempdir_count(dir), 0);
    assert_int_equal(lips_file_begin(&a, in_dir("no/such")), LIPS_ERR_RUNTIME);
    assert_int_equal(lips_file_write("/dev/full/x", "x", 1), LIPS_ERR_RUNTIME);
}

static void a_size_limit_is_a_clean_error(void **state)
{
    (void)state;
    assert_int_equal(lips_file_write(in_dir("a"), "old", 3), LIPS_OK);
    pid_t child = fork();
    if (child == 0) {
        static char big[100000];
        signal(SIGXFSZ, SIG_IGN); /* as lips_signals_install does */
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, 4096});
        lips_status st = lips_file_write(in_dir("a"), big, sizeof big);
        _exit(st == LIPS_ERR_RUNTIME && strstr(lips_error(), "File too large") ? 0 : 1);
    }
    int how = -1;
    waitpid(child, &how, 0);
    assert_int_equal(how, 0);
    expect_content(in_dir("a"), "old", 3);
    assert_int_equal(tempdir_count(dir), 1);
    unlink(in_dir("a"));
}

static void append_is_whole_or_nothing(void **state)
{
    (void)state;
    int fd = open(in_dir("log"), O_RDWR | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    fault_io_reset();
    fault_io.most = 2;
    assert_int_equal(lips_file_append(fd, "log", "12345\n", 6), LIPS_OK);
    for (int n = 1; n <= 3; n++) {
        fault_io_reset();
        fault_io.most = 2;
        fault_io.fail_write = n;
        fault_io.write_error = ENOSPC;
        assert_int_equal(lips_file_append(fd, "log", "67890\n", 6), LIPS_ERR_RUNTIME);
        assert_string_equal(lips_error(), "cannot write log: No space left on device");
        expect_content(in_dir("log"), "12345\n", 6);
    }
    fault_io_reset();
    assert_int_equal(lips_file_append(fd, "log", "67890\n", 6), LIPS_OK);
    expect_content(in_dir("log"), "12345\n67890\n", 12);
    fault_io.fail_fsync = 1;
    assert_int_equal(lips_file_sync(fd, "log"), LIPS_ERR_RUNTIME);
    fault_io_reset();
    assert_int_equal(lips_file_sync(fd, "log"), LIPS_OK);
    close(fd);
    unlink(in_dir("log"));
}

static void folders_and_their_errors(void **state)
{
    (void)state;
    assert_int_equal(lips_dir_create(in_dir("x/y z/\xc3\xa9/")), LIPS_OK);
    assert_int_equal(lips_dir_create(in_dir("x/y z/\xc3\xa9")), LIPS_OK);
    assert_true(lips_file_exists(in_dir("x/y z/\xc3\xa9")));
    assert_int_equal(lips_file_write(in_dir("x/file"), "", 0), LIPS_OK);
    assert_int_equal(lips_dir_create(in_dir("x/file/z")), LIPS_ERR_RUNTIME);
    assert_non_null(strstr(lips_error(), "x/file is not a folder"));
    assert_int_equal(lips_dir_create("/proc/none/such"), LIPS_ERR_RUNTIME);
    assert_non_null(strstr(lips_error(), "/proc/none: "));
    static char longest[6000];
    memset(longest, 'a', sizeof longest - 1);
    assert_int_equal(lips_dir_create(longest), LIPS_ERR_USAGE);
    assert_int_equal(lips_dir_sync(in_dir("none")), LIPS_ERR_RUNTIME);
    char small[8];
    assert_int_equal(lips_path(small, sizeof small, "%s", "1234567"), LIPS_OK);
    assert_int_equal(lips_path(small, sizeof small, "%s", "12345678"), LIPS_ERR_USAGE);
    tempdir_remove(in_dir("x"));
}

static void leftover_temps_are_found(void **state)
{
    (void)state;
    /* Processes: 1 and our parent live, numbers above 2^22 are never given. */
    char own[64], parents[64];
    snprintf(own, sizeof own, "own.tmp.%ld.3", (long)getpid());
    snprintf(parents, sizeof parents, "parents.tmp.%ld.0", (long)getppid());
    const char *const kept[] = {
        "a.tmp",        "a.tmp.4194400", "a.tmp.4194400.x", "a.tmp.4194400.2.b", "b",
        "live.tmp.1.0", parents};
    const char *const gone[] = {"a.tmp.4194400.0", "state.safetensors.tmp.4194499.10",
                                "x.tmp.y.tmp.4194401.2", own};
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(lips_file_write(in_dir(kept[i]), "", 0), LIPS_OK);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(lips_file_write(in_dir(gone[i]), "", 0), LIPS_OK);
    lips_dir_remove_temps(dir);
    assert_int_equal(tempdir_count(dir), 7);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(unlink(in_dir(kept[i])), 0);
    lips_dir_remove_temps(in_dir("none")); /* nothing there is nothing to do */
}

static void the_lock_dies_with_its_holder(void **state)
{
    (void)state;
    int ready[2], fd = -1;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        char ok = lips_lock_acquire(&fd, in_dir("lock")) == LIPS_OK ? 'y' : 'n';
        (void)!write(ready[1], &ok, 1);
        pause();
        _exit(0);
    }
    char ok = 0;
    assert_int_equal(read(ready[0], &ok, 1), 1);
    assert_int_equal(ok, 'y');
    char who[64];
    snprintf(who, sizeof who, "held by process %ld on ", (long)child);
    assert_int_equal(lips_lock_acquire(&fd, in_dir("lock")), LIPS_ERR_BUSY);
    assert_non_null(strstr(lips_error(), who));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(lips_lock_acquire(&fd, in_dir("lock")), LIPS_OK);
    lips_lock_release(fd);
    expect_content(in_dir("lock"), "", 0);
    assert_int_equal(lips_lock_acquire(&fd, in_dir("none/lock")), LIPS_ERR_RUNTIME);
    close(ready[0]);
    close(ready[1]);
    unlink(in_dir("lock"));
}

int main(void)
{
    tempdir_make(dir, sizeof dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_takes_regular_files_only),
        cmocka_unit_test(write_syncs_then_renames),
        cmocka_unit_test(failing_writes_leave_the_old_file),
        cmocka_unit_test(failing_fsync_and_rename_leave_the_old_file),
        cmocka_unit_test(abandoning_leaves_nothing),
        cmocka_unit_test(a_size_limit_is_a_clean_error),
        cmocka_unit_test(append_is_whole_or_nothing),
        cmocka_unit_test(folders_and_their_errors),
        cmocka_unit_test(leftover_temps_are_found),
        cmocka_unit_test(the_lock_dies_with_its_holder),
    };
    int failed = cmocka_run_group_tests_name("file", tests, NULL, NULL);
    tempdir_remove(dir);
    return failed;
}
