#include "base/version.h"

#ifndef LIPS_COMMIT
#define LIPS_COMMIT "unknown"
#endif

const char *lips_commit(void)
{
    return LIPS_COMMIT;
}
