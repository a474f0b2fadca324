/*
 * Shared memory of the running block: an arena with red zones, NaN-filled for every block, counted
 * against the device's limits. (A `static` inside a template, the obvious way to emulate a shared
 * variable, gets no red zone from either compiler.)
 */
#include "sim.h"

#include <stdlib.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define POISON(p, n) __asan_poison_memory_region((p), (n))
#define UNPOISON(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

#ifdef CUSIM_TSAN
extern "C" {
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
}
#endif

namespace cusim
{

/* 0xff: a NaN as float, double and bf16, -1 as an integer. */
static const unsigned char FILL = 0xff;
static const size_t ARENA = 512 << 10; /* bytes for one block: static objects, then dynamic */
static const size_t ARENAS = 64;       /* blocks before addresses come back */
static const size_t REDZONE = 64;
static const int OBJECTS_MAX = 64;

struct Object {
    const Site *site;
    size_t bytes, offset;
};

static unsigned char *arenas, *arena;
static size_t next_arena;
static Object objects[OBJECTS_MAX];
static int n_objects;
static size_t static_end;   /* offset behind the last static object */
static size_t static_bytes; /* as the device counts them */
static size_t dynamic_bytes;
static unsigned char published[SHARED_OPTIN_MAX];
static size_t published_bytes; /* that hold something else than FILL */

static unsigned char *dynamic_start()
{
    /* Ends at the end of the arena less a red zone, so that the byte behind it is watched. */
    return arena + ARENA - REDZONE - (dynamic_bytes + 15) / 16 * 16;
}

/* Plain stores for the sanitizers: ASan would refuse the poisoned bytes, TSan take the memset for
 * the running kernel's. */
#if defined(__SANITIZE_ADDRESS__) || defined(CUSIM_TSAN)
__attribute__((no_sanitize_address, noinline)) static void fill(unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((volatile unsigned char *)p)[i] = FILL;
}
#else
static void fill(unsigned char *p, size_t n)
{
    memset(p, FILL, n);
}
#endif

__attribute__((no_sanitize_address, noinline)) static bool filled(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != FILL)
            return false;
    return true;
}

static void check_limits()
{
    if (static_bytes > SHARED_STATIC_MAX)
        report("static shared memory of %zu bytes: over %zu", static_bytes, SHARED_STATIC_MAX);
    if (static_bytes + dynamic_bytes > SHARED_OPTIN_MAX)
        report("shared memory of %zu static and %zu dynamic bytes: over %zu", static_bytes,
               dynamic_bytes, SHARED_OPTIN_MAX);
}

void shared_begin_kernel(size_t dynamic)
{
    if (!arenas) {
        void *p = mmap(nullptr, ARENA * ARENAS, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) {
            perror("cusim: cannot map shared memory");
            abort();
        }
        arenas = (unsigned char *)p;
        memset(published, FILL, sizeof published);
    }
    n_objects = 0;
    static_bytes = 0;
    static_end = REDZONE;
    dynamic_bytes = dynamic;
    check_limits();
}

void shared_begin_block(bool fresh)
{
    arena = arenas + ARENA * (fresh ? next_arena++ % ARENAS : 0);
    POISON(arena, ARENA);
    for (int i = 0; i < n_objects; i++)
        UNPOISON(arena + objects[i].offset, objects[i].bytes);
    fill(arena, static_end);
    unsigned char *dynamic = dynamic_start();
    UNPOISON(dynamic, dynamic_bytes);
    fill(dynamic - REDZONE, (size_t)(arena + ARENA - (dynamic - REDZONE)));
    now.dynamic_shared = dynamic_bytes > 0 ? dynamic : nullptr;
    memset(published, FILL, published_bytes);
    published_bytes = 0;
}

size_t shared_dynamic_bytes()
{
    return dynamic_bytes;
}

#ifdef CUSIM_TSAN
Unseen::Unseen()
{
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
Unseen::~Unseen()
{
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}
#else
Unseen::Unseen()
{
}
Unseen::~Unseen()
{
}
#endif

void shared_publish()
{
    Unseen unseen;
    memcpy(published, dynamic_start(), dynamic_bytes);
    published_bytes = dynamic_bytes;
}

const unsigned char *shared_published()
{
    return published;
}

void *shared_object(const Site *site, size_t bytes, size_t align)
{
    for (int i = 0; i < n_objects; i++)
        if (objects[i].site == site)
            return arena + objects[i].offset;
    if (n_objects == OBJECTS_MAX)
        report("more than %d shared objects", OBJECTS_MAX);
    if (align < 16)
        align = 16;
    size_t offset = (static_end + align - 1) / align * align;
    static_bytes = (static_bytes + align - 1) / align * align + bytes;
    check_limits();
    objects[n_objects++] = {site, bytes, offset};
    static_end = offset + bytes + REDZONE;
    UNPOISON(arena + offset, bytes);
    fill(arena + offset, bytes + REDZONE);
    return arena + offset;
}

void shared_end_block()
{
    size_t zone = 0;
    for (int i = 0; i < n_objects; i++) {
        if (!filled(arena + zone, objects[i].offset - zone))
            report("write out of bounds before the shared object of %s:%d", objects[i].site->file,
                   objects[i].site->line);
        zone = objects[i].offset + objects[i].bytes;
    }
    if (n_objects > 0 && !filled(arena + zone, static_end - zone))
        report("write out of bounds behind the shared object of %s:%d (%zu bytes)",
               objects[n_objects - 1].site->file, objects[n_objects - 1].site->line,
               objects[n_objects - 1].bytes);
    unsigned char *dynamic = dynamic_start();
    if (!filled(dynamic - REDZONE, REDZONE) ||
        !filled(dynamic + dynamic_bytes, (size_t)(arena + ARENA - dynamic) - dynamic_bytes))
        report("write out of bounds of dynamic shared memory (%zu bytes)", dynamic_bytes);
}

} // namespace cusim
