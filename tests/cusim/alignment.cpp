/*
 * What g++ calls where a kernel built with -fsanitize=alignment touches memory that is not aligned
 * to the type's size, as every access on a device must be. The sanitized builds have their own.
 */
#ifndef __SANITIZE_ADDRESS__

#include "sim.h"

namespace
{

/* As the compiler lays them out. */
struct Place {
    const char *file;
    uint32_t line, column;
};

struct TypeName {
    uint16_t kind, info;
    char name[1];
};

struct Mismatch {
    Place place;
    const TypeName *type;
    unsigned char log_alignment, kind;
};

} // namespace

extern "C" void __ubsan_handle_type_mismatch_v1(Mismatch *what, void *p)
{
    cusim::report("misaligned address %p: %s needs %u bytes (%s:%u)", p, what->type->name,
                  1u << what->log_alignment, what->place.file, what->place.line);
}

#endif
