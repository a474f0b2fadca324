#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEMP_TRIES = 10000 };

lips_status lips_path(char *buf, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(buf, size, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= size)
        return lips_fail(LIPS_ERR_USAGE, "path is longer than %zu bytes: %.100s...", size - 1, buf);
    return LIPS_OK;
}

bool lips_file_exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0;
}

static const char *kind_of(mode_t mode)
{
    if (S_ISDIR(mode))
        return "a folder";
    if (S_ISFIFO(mode))
        return "a pipe";
    if (S_ISSOCK(mode))
        return "a socket";
    return "a device";
}

static lips_status read_all(char **out, size_t *size, int fd, const char *path, size_t max)
{
    struct stat s;
    if (fstat(fd, &s) != 0)
        return lips_fail(LIPS_ERR_DATA, "cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(s.st_mode))
        return lips_fail(LIPS_ERR_DATA, "%s is %s, not a file", path, kind_of(s.st_mode));
    if ((uint64_t)s.st_size > max)
        return lips_fail(LIPS_ERR_DATA, "%s is too large: %lld bytes, the limit is %zu", path,
                         (long long)s.st_size, max);
    size_t want = (size_t)s.st_size, have = 0;
    char *buf = malloc(want + 1);
    if (!buf)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory reading %s (%zu bytes)", path, want);
    while (have < want) {
        ssize_t n = read(fd, buf + have, want - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            const char *cause = n < 0 ? strerror(errno) : "it became shorter meanwhile";
            free(buf);
            return lips_fail(LIPS_ERR_DATA, "cannot read %s at byte %zu: %s", path, have, cause);
        }
        have += (size_t)n;
    }
    buf[want] = '\0';
    *out = buf;
    *size = want;
    return LIPS_OK;
}

lips_status lips_file_read(char **out, size_t *size, const char *path, size_t max)
{
    /* O_NONBLOCK: opening a pipe without a writer must not wait. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return lips_fail(LIPS_ERR_DATA, "cannot open %s: %s", path, strerror(errno));
    lips_status st = read_all(out, size, fd, path, max);
    close(fd);
    return st;
}

/* The FILE of an atomic write goes through write(2) here, so that short writes and interruptions
 * are dealt with in one place and the first cause is kept. */
static ssize_t cookie_write(void *cookie, const char *buf, size_t size)
{
    lips_file_atomic *a = cookie;
    size_t done = 0;
    while (done < size && a->error == 0) {
        ssize_t n = write(a->fd, buf + done, size - done);
        if (n < 0 && errno != EINTR)
            a->error = errno;
        else if (n == 0)
            a->error = ENOSPC;
        else if (n > 0)
            done += (size_t)n;
    }
    return (ssize_t)done;
}

lips_status lips_file_begin(lips_file_atomic *a, const char *path)
{
    memset(a, 0, offsetof(lips_file_atomic, path));
    LIPS_TRY(lips_path(a->path, sizeof a->path, "%s", path));
    /* Another thread, or a killed process with our number, may have the name: take the next. */
    a->fd = -1;
    for (int n = 0; a->fd < 0 && n < TEMP_TRIES; n++) {
        LIPS_TRY(lips_path(a->temp, sizeof a->temp, "%s.tmp.%ld.%d", path, (long)getpid(), n));
        a->fd = open(a->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (a->fd < 0 && errno != EEXIST)
            break;
    }
    if (a->fd < 0)
        return lips_fail(LIPS_ERR_RUNTIME, "cannot write %s: %s", path, strerror(errno));
    a->f = fopencookie(a, "w", (cookie_io_functions_t){.write = cookie_write});
    if (!a->f) {
        close(a->fd);
        unlink(a->temp);
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for writing %s", path);
    }
    return LIPS_OK;
}

void lips_file_abandon(lips_file_atomic *a)
{
    a->error = a->error ? a->error : ECANCELED; /* what is still buffered is not written */
    fclose(a->f);
    close(a->fd);
    unlink(a->temp);
}

static lips_status write_failed(const char *path, int error)
{
    return lips_fail(LIPS_ERR_RUNTIME, "cannot write %s: %s", path, strerror(error));
}

lips_status lips_file_commit(lips_file_atomic *a)
{
    int error = fflush(a->f) != 0 ? errno : 0;
    if (a->error)
        error = a->error;
    if (!error && ferror(a->f))
        error = EIO;
    if (!error && fsync(a->fd) != 0)
        error = errno;
    if (error) {
        lips_file_abandon(a);
        return write_failed(a->path, error);
    }
    fclose(a->f); /* nothing is buffered any more */
    if (close(a->fd) != 0 || rename(a->temp, a->path) != 0) {
        error = errno;
        unlink(a->temp);
        return write_failed(a->path, error);
    }
    char *slash = strrchr(a->path, '/');
    if (!slash)
        return lips_dir_sync(".");
    slash[slash == a->path] = '\0';
    return lips_dir_sync(a->path);
}

lips_status lips_file_write(const char *path, const void *bytes, size_t size)
{
    lips_file_atomic a;
    LIPS_TRY(lips_file_begin(&a, path));
    if (size)
        (void)!fwrite(bytes, 1, size, a.f); /* commit reports it */
    return lips_file_commit(&a);
}

lips_status lips_file_append(int fd, const char *path, const void *bytes, size_t size)
{
    struct stat s;
    if (fstat(fd, &s) != 0)
        return write_failed(path, errno);
    size_t done = 0;
    while (done < size) {
        ssize_t n = pwrite(fd, (const char *)bytes + done, size - done, s.st_size + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int error = n < 0 ? errno : ENOSPC;
            if (ftruncate(fd, s.st_size) != 0)
                return lips_fail(LIPS_ERR_RUNTIME, "cannot write %s: %s; nor cut it back: %s", path,
                                 strerror(error), strerror(errno));
            return write_failed(path, error);
        }
        done += (size_t)n;
    }
    return LIPS_OK;
}

lips_status lips_file_sync(int fd, const char *path)
{
    return fsync(fd) == 0 ? LIPS_OK : write_failed(path, errno);
}

lips_status lips_dir_create(const char *path)
{
    char part[4096];
    LIPS_TRY(lips_path(part, sizeof part, "%s", path));
    for (char *p = part + (part[0] == '/');; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char keep = *p;
        *p = '\0';
        if (mkdir(part, 0777) != 0) {
            int error = errno;
            struct stat s;
            bool there = stat(part, &s) == 0;
            if (there && !S_ISDIR(s.st_mode))
                return lips_fail(LIPS_ERR_RUNTIME,
                                 "cannot create the folder %s: %s is not a folder", path, part);
            if (!there)
                return lips_fail(LIPS_ERR_RUNTIME, "cannot create the folder %s: %s: %s", path,
                                 part, strerror(error));
        }
        *p = keep;
        if (keep == '\0')
            return LIPS_OK;
    }
}

lips_status lips_dir_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return lips_fail(LIPS_ERR_RUNTIME, "cannot open the folder %s: %s", path, strerror(errno));
    /* EINVAL: a file system that has no fsync of folders; there is nothing more to ask of it. */
    int error = fsync(fd) != 0 && errno != EINVAL ? errno : 0;
    close(fd);
    if (error)
        return lips_fail(LIPS_ERR_RUNTIME, "cannot sync the folder %s: %s", path, strerror(error));
    return LIPS_OK;
}

/* The process in a name that ends in ".tmp.<pid>.<digits>"; 0: it does not. */
static pid_t temp_owner(const char *name)
{
    for (const char *p = strstr(name, ".tmp."); p; p = strstr(p + 1, ".tmp.")) {
        const char *q = p + 5;
        size_t pid = strspn(q, "0123456789");
        if (pid == 0 || q[pid] != '.')
            continue;
        size_t n = strspn(q + pid + 1, "0123456789");
        if (n > 0 && q[pid + 1 + n] == '\0')
            return (pid_t)strtol(q, NULL, 10);
    }
    return 0;
}

/* Is it of this process or of none that lives? */
static bool temp_is_stale(const char *name)
{
    pid_t owner = temp_owner(name);
    return owner > 0 && (owner == getpid() || (kill(owner, 0) != 0 && errno == ESRCH));
}

void lips_dir_remove_temps(const char *path)
{
    DIR *d = opendir(path);
    if (!d)
        return;
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        if (temp_is_stale(e->d_name))
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
}

lips_status lips_lock_acquire(int *fd, const char *path)
{
    int f = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (f < 0)
        return lips_fail(LIPS_ERR_RUNTIME, "cannot open the lock %s: %s", path, strerror(errno));
    if (flock(f, LOCK_EX | LOCK_NB) != 0) {
        int error = errno;
        char who[160] = "";
        ssize_t n = pread(f, who, sizeof who - 1, 0);
        who[n > 0 ? n : 0] = '\0';
        who[strcspn(who, "\n")] = '\0';
        close(f);
        if (error == EWOULDBLOCK)
            return lips_fail(LIPS_ERR_BUSY, "%s is held by %s", path,
                             who[0] ? who : "another process");
        return lips_fail(LIPS_ERR_RUNTIME, "cannot lock %s: %s", path, strerror(error));
    }
    char host[100] = "", who[160];
    gethostname(host, sizeof host - 1);
    int n = snprintf(who, sizeof who, "process %ld on %s\n", (long)getpid(), host);
    /* The text only helps a reader: a full disk must not stop a resume that may free it. */
    if (ftruncate(f, 0) == 0)
        (void)!pwrite(f, who, (size_t)n, 0);
    *fd = f;
    return LIPS_OK;
}

void lips_lock_release(int fd)
{
    /* The file stays: removing it could unlink the lock that another process has just opened. */
    (void)!ftruncate(fd, 0);
    close(fd);
}
