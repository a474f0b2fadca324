/*
 * interpose.c - makes the n-th file operation of a program fail, or ends the program there. Built
 * by faultlib.py and loaded with LD_PRELOAD.
 *
 *   FAULT_PATH   only files whose path contains this text count
 *   FAULT_CALLS  comma-separated of write fsync rename unlink truncate open mkdir; default: all
 *   FAULT_AT     number of the call, from 1; 0: none fails, they are only logged
 *   FAULT_DO     kill (before the call), killafter, torn (half of a write, then the end),
 *                or the name of an error: enospc eio edquot
 *   FAULT_KEEP   set: all later calls fail too (errors only)
 *   FAULT_LOG    file that gets a line "number call path" for each call that counts
 *   FAULT_CLOCK  seconds that the time of day is set back by, at its second reading
 *
 * open counts only where it may create a file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_long calls;

typedef enum verdict { PASS, FAIL_IT, END_AFTER, TORN } verdict;

static void end_here(void)
{
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;)
        pause();
}

static void log_call(long number, const char *call, const char *path)
{
    const char *log = getenv("FAULT_LOG");
    char line[4300];
    if (!log)
        return;
    int n = snprintf(line, sizeof line, "%ld %s %s\n", number, call, path);
    int fd =
        (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd >= 0) {
        syscall(SYS_write, fd, line, n);
        syscall(SYS_close, fd);
    }
}

static int is_listed(const char *call)
{
    const char *list = getenv("FAULT_CALLS");
    size_t n = strlen(call);
    if (!list)
        return 1;
    for (const char *p = strstr(list, call); p; p = strstr(p + 1, call))
        if ((p == list || p[-1] == ',') && (p[n] == ',' || p[n] == '\0'))
            return 1;
    return 0;
}

/* What is to become of this call; FAIL_IT has set errno. Does not return where the program ends. */
static verdict judge(const char *call, const char *path)
{
    const char *want = getenv("FAULT_PATH"), *at = getenv("FAULT_AT"), *act = getenv("FAULT_DO");
    if (!at || !is_listed(call) || (want && !strstr(path, want)))
        return PASS;
    long number = atomic_fetch_add(&calls, 1) + 1, n = atol(at);
    log_call(number, call, path);
    if (n == 0 || !act || (number != n && !(getenv("FAULT_KEEP") && number > n)))
        return PASS;
    if (strcmp(act, "killafter") == 0)
        return END_AFTER;
    if (strcmp(act, "torn") == 0)
        return strcmp(call, "write") == 0 ? TORN : END_AFTER;
    if (strcmp(act, "kill") == 0)
        end_here();
    errno = strcmp(act, "eio") == 0 ? EIO : strcmp(act, "edquot") == 0 ? EDQUOT : ENOSPC;
    return FAIL_IT;
}

static verdict judge_fd(const char *call, int fd)
{
    char link[64], path[4200];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0)
        return PASS;
    path[n] = '\0';
    return judge(call, path);
}

#define RESULT(v, call)                                                                            \
    do {                                                                                           \
        if ((v) == FAIL_IT)                                                                        \
            return -1;                                                                             \
        long result_ = (call);                                                                     \
        if ((v) != PASS)                                                                           \
            end_here();                                                                            \
        return (int)result_;                                                                       \
    } while (0)

ssize_t write(int fd, const void *buf, size_t n)
{
    verdict v = judge_fd("write", fd);
    if (v == FAIL_IT)
        return -1;
    ssize_t done = syscall(SYS_write, fd, buf, v == TORN ? n / 2 : n);
    if (v != PASS)
        end_here();
    return done;
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
    verdict v = judge_fd("write", fd);
    if (v == FAIL_IT)
        return -1;
    ssize_t done = syscall(SYS_pwrite64, fd, buf, v == TORN ? n / 2 : n, at);
    if (v != PASS)
        end_here();
    return done;
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t at)
{
    return pwrite(fd, buf, n, at);
}

int fsync(int fd)
{
    verdict v = judge_fd("fsync", fd);
    RESULT(v, syscall(SYS_fsync, fd));
}

int fdatasync(int fd)
{
    verdict v = judge_fd("fsync", fd);
    RESULT(v, syscall(SYS_fdatasync, fd));
}

int ftruncate(int fd, off_t n)
{
    verdict v = judge_fd("truncate", fd);
    RESULT(v, syscall(SYS_ftruncate, fd, n));
}

int ftruncate64(int fd, off64_t n)
{
    return ftruncate(fd, n);
}

int rename(const char *from, const char *to)
{
    verdict v = judge("rename", to);
    RESULT(v, syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}

int unlink(const char *path)
{
    verdict v = judge("unlink", path);
    RESULT(v, syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

int mkdir(const char *path, mode_t mode)
{
    verdict v = judge("mkdir", path);
    RESULT(v, syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

static int open_any(const char *path, int flags, mode_t mode)
{
    verdict v = flags & O_CREAT ? judge("open", path) : PASS;
    RESULT(v, syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        mode_t mode = 0;                                                                           \
        if (flags & O_CREAT) {                                                                     \
            va_list ap;                                                                            \
            va_start(ap, flags);                                                                   \
            mode = va_arg(ap, mode_t);                                                             \
            va_end(ap);                                                                            \
        }                                                                                          \
        return open_any(path, flags, mode);                                                        \
    }
OPEN(open)
OPEN(open64)

/* The first reading is right; those after it are of a clock that has been set back. */
int clock_gettime(clockid_t clock, struct timespec *t)
{
    static atomic_long readings;
    const char *back = getenv("FAULT_CLOCK");
    int result = (int)syscall(SYS_clock_gettime, clock, t);
    if (back && clock == CLOCK_REALTIME && atomic_fetch_add(&readings, 1) > 0)
        t->tv_sec -= atol(back);
    return result;
}

time_t time(time_t *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out)
        *out = t.tv_sec;
    return t.tv_sec;
}

/* The program's stdio opens files inside libc, unseen by open() above. */
FILE *fopen(const char *path, const char *mode)
{
    FILE *(*real)(const char *, const char *) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "fopen");
    verdict v = mode[0] == 'w' || mode[0] == 'a' ? judge("open", path) : PASS;
    if (v == FAIL_IT)
        return NULL;
    FILE *f = real(path, mode);
    if (v != PASS)
        end_here();
    return f;
}
