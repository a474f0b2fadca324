/*
 * tests/cusim/copies.h - asynchronous copies from global to shared memory, as kernels/mma.h asks
 * for them. A copy happens as late as it may, in the wait that asks for it: where a wait is
 * missing, what shared memory held before is read. A thread that ends with copies under way is
 * reported.
 *
 * The lists are the threads' own (Now::copies), so that nothing here is shared between them. The
 * race detector is shown the write twice, when it is asked for and when it happens: it may happen
 * at any time between the two.
 */
#ifndef LIPS_TESTS_CUSIM_COPIES_H
#define LIPS_TESTS_CUSIM_COPIES_H

#ifdef __SANITIZE_THREAD__
extern "C" {
void __tsan_read_range(void *address, unsigned long bytes);
void __tsan_write_range(void *address, unsigned long bytes);
}
#endif

namespace cusim
{

constexpr int COPIES_MAX = 256; /* of one thread under way, ends of groups included */

/* One copy that was asked for, or the end of a group. */
struct PendingCopy {
    void *to;
    const void *from;
    unsigned bytes, filled; /* bytes read from `from`; the rest of `filled` becomes zero */
    bool commit;
};

struct Copies {
    int n;
    PendingCopy list[COPIES_MAX];
};

inline void copy_push(const PendingCopy &p)
{
    Copies *c = now.copies;
    if (c->n == COPIES_MAX)
        report("more than %d asynchronous copies under way", COPIES_MAX);
    c->list[c->n++] = p;
}

inline void copy_async(void *to, const void *from, unsigned bytes, unsigned filled)
{
    if ((uintptr_t)to % filled || (uintptr_t)from % filled)
        report("asynchronous copy of %u bytes from %p to %p: not aligned", filled, from, to);
#ifdef __SANITIZE_THREAD__
    __tsan_write_range(to, filled);
    __tsan_read_range((void *)from, bytes);
#endif
    product_check_copy(to, filled);
    copy_push({to, from, bytes, filled, false});
}

inline void copy_commit()
{
    copy_push({nullptr, nullptr, 0, 0, true});
}

/* Carries out all but the last `keep` groups of the calling thread. */
inline void copy_wait(int keep)
{
    Copies *c = now.copies;
    int groups = 0, i = 0;
    for (int k = 0; k < c->n; k++)
        groups += c->list[k].commit;
    for (; i < c->n && groups > keep; i++) {
        const PendingCopy &p = c->list[i];
        if (p.commit) {
            groups--;
            continue;
        }
        product_unpublish();
        memcpy(p.to, p.from, p.bytes);
        memset((char *)p.to + p.bytes, 0, p.filled - p.bytes);
    }
    c->n -= i;
    memmove(c->list, c->list + i, (size_t)c->n * sizeof *c->list);
}

} // namespace cusim

#endif
