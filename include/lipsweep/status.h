/*
 * lipsweep/status.h - the one status enum and the error text that goes with it.
 */
#ifndef LIPSWEEP_STATUS_H
#define LIPSWEEP_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* Every fallible function returns one of these; 0 is success. The process exit code that belongs
 * to each is given by lips_exit_code(). */
typedef enum lips_status {
    LIPS_OK = 0,
    LIPS_ERR_RUNTIME,     /* something failed while running (I/O, library call)      exit 1 */
    LIPS_ERR_USAGE,       /* option, key, value or argument is wrong                 exit 2 */
    LIPS_ERR_PARTIAL,     /* finished, but some cells failed                         exit 3 */
    LIPS_ERR_BUSY,        /* the output folder is in use by another process          exit 4 */
    LIPS_ERR_MEMORY,      /* out of memory                                           exit 5 */
    LIPS_ERR_DATA,        /* a data set, checkpoint or weights file: missing, corrupt exit 6 */
    LIPS_ERR_DIVERGED,    /* training met a non-finite loss: of a cell, never of the process */
    LIPS_ERR_UNSUPPORTED, /* this backend or architecture does not offer it          exit 2 */
    LIPS_ERR_REQUEUE,     /* checkpointed after SIGTERM or SIGUSR2                   exit 75 */
    LIPS_ERR_INTERRUPTED, /* checkpointed after SIGINT                               exit 130 */
    LIPS_ERR_DEVICE       /* a GPU faulted and is lost to this process               exit 1 */
} lips_status;

/* The text of this thread's last error, one line without a newline; "" if there was none.
 * Owned by the library, valid until the thread's next failing call. */
const char *lips_error(void);

/* The call chain of this thread's last error, one "file:line call" per line, innermost first;
 * "" if there was none. For bug reports, not for users. */
const char *lips_error_trace(void);

/* The process exit code that belongs to st (table above). */
int lips_exit_code(lips_status st);

#ifdef __cplusplus
}
#endif
#endif
