/* base/version.h - what is compiled in. LIPS_COMMIT comes from the Makefile. */
#ifndef LIPS_BASE_VERSION_H
#define LIPS_BASE_VERSION_H

#define LIPS_VERSION "0.1.0"
/* Changes whenever the same configuration would give other bits: a checkpoint of another one is
 * refused. */
#define LIPS_STATE_VERSION "3"
const char *lips_commit(void);

#endif
