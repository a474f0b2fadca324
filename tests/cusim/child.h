/*
 * tests/cusim/child.h - runs something in a process of its own, for tests of what must stop the
 * program: how it ended, what it said, what it computed.
 */
#ifndef LIPS_TESTS_CUSIM_CHILD_H
#define LIPS_TESTS_CUSIM_CHILD_H

#include <functional>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

struct Outcome {
    bool died;                 /* by a signal, as the emulator's reports do, or a sanitizer */
    std::string text;          /* of stderr */
    std::vector<float> values; /* what f wrote */
};

/* Runs f(values) with n floats, all 0 before, and the environment variable (name, value) set. */
inline Outcome in_child(size_t n, const char *name, const char *value,
                        const std::function<void(float *)> &f)
{
    float *shared = (float *)mmap(nullptr, n * sizeof(float) + 1, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    FILE *log = tmpfile();
    fflush(nullptr);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fileno(log), STDERR_FILENO);
        setenv(name, value, 1);
        f(shared);
        fflush(nullptr);
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    bool died = WIFSIGNALED(status) || WEXITSTATUS(status) != 0;
    Outcome out = {died, "", std::vector<float>(shared, shared + n)};
    rewind(log);
    for (int c; (c = fgetc(log)) != EOF;)
        out.text += (char)c;
    fclose(log);
    munmap(shared, n * sizeof(float) + 1);
    return out;
}

#endif
