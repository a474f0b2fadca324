#include "base/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/* A handler has nowhere else to leave word. The signal that came first, 0 if none. */
static volatile sig_atomic_t first;
static volatile sig_atomic_t asked; /* SIGINT or SIGTERM came */

static void on_signal(int sig)
{
    bool leave = sig == SIGINT || sig == SIGTERM;
    if (leave && asked)
        _exit(128 + sig);
    if (leave)
        asked = 1;
    if (!first)
        first = sig;
}

lips_status lips_signals_install(void)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGUSR2};
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = on_signal;
    a.sa_flags = SA_RESTART; /* loops poll the flag; reads and writes need not know */
    sigemptyset(&a.sa_mask);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        if (sigaction(caught[i], &a, NULL) != 0)
            return lips_fail(LIPS_ERR_RUNTIME, "cannot catch signal %d: %s", caught[i],
                             strerror(errno));
    /* A file size limit shall be a failed write with its message, not a death. */
    a.sa_handler = SIG_IGN;
    if (sigaction(SIGXFSZ, &a, NULL) != 0)
        return lips_fail(LIPS_ERR_RUNTIME, "cannot ignore SIGXFSZ: %s", strerror(errno));
    return LIPS_OK;
}

lips_status lips_signals_pending(void)
{
    switch (first) {
    case 0: return LIPS_OK;
    case SIGINT: return lips_fail(LIPS_ERR_INTERRUPTED, "interrupted");
    case SIGTERM: return lips_fail(LIPS_ERR_REQUEUE, "stopped by SIGTERM");
    default: return lips_fail(LIPS_ERR_REQUEUE, "stopped by SIGUSR2");
    }
}
