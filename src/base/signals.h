/*
 * base/signals.h - SIGINT, SIGTERM and SIGUSR2 as a flag that loops poll. A second SIGINT or
 * SIGTERM ends the process at once (128 + signal); what is on disk stays consistent. SIGXFSZ is
 * ignored, so that a file size limit is a failed write.
 */
#ifndef LIPS_BASE_SIGNALS_H
#define LIPS_BASE_SIGNALS_H

#include "base/status.h"

lips_status lips_signals_install(void);
/* LIPS_OK: go on. LIPS_ERR_REQUEUE (SIGTERM, SIGUSR2) or LIPS_ERR_INTERRUPTED (SIGINT): checkpoint
 * and return it. */
lips_status lips_signals_pending(void);

#endif
