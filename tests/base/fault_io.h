/*
 * fault_io.h - write, pwrite, fsync and rename of this program, so that a test can make the n-th
 * one fail and see their order. To be included by one file of a test program: the linker takes
 * these in place of the C library's.
 */
#ifndef TESTS_BASE_FAULT_IO_H
#define TESTS_BASE_FAULT_IO_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    int fail_write; /* this write or pwrite fails (1 = the next), 0: none */
    int write_error;
    size_t most; /* longest write that is taken at once, 0: any */
    int fail_fsync, fail_rename;
    int writes, fsyncs;
    char trace[512]; /* "write fsync rename fsyncdir " */
} fault_io;

static void fault_io_reset(void)
{
    memset(&fault_io, 0, sizeof fault_io);
}

static void fault_io_note(const char *word)
{
    size_t used = strlen(fault_io.trace);
    snprintf(fault_io.trace + used, sizeof fault_io.trace - used, "%s ", word);
}

/* What is to be done with a write of *size bytes: 0, or the errno that it fails with. */
static int fault_io_write(size_t *size)
{
    fault_io_note("write");
    if (++fault_io.writes == fault_io.fail_write)
        return fault_io.write_error;
    if (fault_io.most && *size > fault_io.most)
        *size = fault_io.most;
    return 0;
}

ssize_t write(int fd, const void *buf, size_t size)
{
    int error = fault_io_write(&size);
    if (error) {
        errno = error;
        return -1;
    }
    return syscall(SYS_write, fd, buf, size);
}

ssize_t pwrite(int fd, const void *buf, size_t size, off_t at)
{
    int error = fault_io_write(&size);
    if (error) {
        errno = error;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, buf, size, at);
}

int fsync(int fd)
{
    struct stat s;
    fault_io_note(fstat(fd, &s) == 0 && S_ISDIR(s.st_mode) ? "fsyncdir" : "fsync");
    if (++fault_io.fsyncs == fault_io.fail_fsync) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
    fault_io_note("rename");
    if (fault_io.fail_rename) {
        errno = EACCES;
        return -1;
    }
    return (int)syscall(SYS_renameat2, -100 /* AT_FDCWD */, from, -100, to, 0);
}

#endif
